// What a C++ kernel may use: there are no headers. VECTOR_MATH: the C library has vector forms of these functions.
using size_t = decltype(sizeof(0));
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long;
using uint64_t = unsigned long;
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define FLT_MAX __FLT_MAX__
#define FLT_MIN __FLT_MIN__
#define FLT_EPSILON __FLT_EPSILON__
#ifdef VECTOR_MATH
#define VECTORISED _Pragma("omp declare simd notinbranch")
#else
#define VECTORISED
#endif
#define ONE(name) extern "C" float name##f(float) noexcept; extern "C" double name(double) noexcept;
#define TWO(name) extern "C" float name##f(float, float) noexcept; extern "C" double name(double, double) noexcept;
#define VECTOR_ONE(name) VECTORISED extern "C" float name##f(float) noexcept; \
    VECTORISED extern "C" double name(double) noexcept;
#define VECTOR_TWO(name) VECTORISED extern "C" float name##f(float, float) noexcept; \
    VECTORISED extern "C" double name(double, double) noexcept;
ONE(sqrt) ONE(fabs) ONE(floor) ONE(ceil) ONE(round) ONE(trunc) ONE(rint) ONE(lgamma) ONE(tgamma)
VECTOR_ONE(exp) VECTOR_ONE(exp2) VECTOR_ONE(expm1) VECTOR_ONE(log) VECTOR_ONE(log2) VECTOR_ONE(log10) VECTOR_ONE(log1p)
VECTOR_ONE(sin) VECTOR_ONE(cos) VECTOR_ONE(tan) VECTOR_ONE(asin) VECTOR_ONE(acos) VECTOR_ONE(atan)
VECTOR_ONE(sinh) VECTOR_ONE(cosh) VECTOR_ONE(tanh) VECTOR_ONE(erf) VECTOR_ONE(erfc) VECTOR_ONE(cbrt)
VECTOR_TWO(pow) VECTOR_TWO(atan2) VECTOR_TWO(hypot)
TWO(fmax) TWO(fmin) TWO(fmod) TWO(copysign)
#undef ONE
#undef TWO
#undef VECTOR_ONE
#undef VECTOR_TWO
#undef VECTORISED
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
extern "C" void* memcpy(void*, const void*, size_t) noexcept;
extern "C" void* memmove(void*, const void*, size_t) noexcept;
extern "C" void* memset(void*, int, size_t) noexcept;
extern "C" void* malloc(size_t) noexcept;
extern "C" void* calloc(size_t, size_t) noexcept;
extern "C" void* aligned_alloc(size_t, size_t) noexcept;
extern "C" void free(void*) noexcept;
extern "C" int omp_get_thread_num() noexcept;
extern "C" int omp_get_num_threads() noexcept;
extern "C" int omp_get_max_threads() noexcept;
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
#define EXTREMUM(type) \
    static inline type max(type a, type b) { return a > b ? a : b; } \
    static inline type min(type a, type b) { return a < b ? a : b; }
EXTREMUM(int) EXTREMUM(long) EXTREMUM(long long)
#undef EXTREMUM
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline float min(float a, float b) { return fminf(a, b); }
