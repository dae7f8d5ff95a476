// What every C++ template uses: inlining, SIMD widths, the functions of expressions, operators with neutral elements.
#define HOLE static inline __attribute__((always_inline))

// vector = 1 is scalar code, 2 is 8 lanes, 4 is 16 lanes.
constexpr int WIDTH = VECTOR == 1 ? 1 : VECTOR == 2 ? 8 : 16;
constexpr int SPAN = WIDTH * ITEMS;

// Keeps a loop scalar where the filling asks for it: no compiler vectorises over it.
#define SCALAR_IF_ASKED if constexpr (WIDTH == 1) asm volatile("")

template <class T> struct real_of { using type = float; };
template <> struct real_of<double> { using type = double; };
template <class T> using real = typename real_of<T>::type;

// exp by a polynomial, branch-free: a few units in the last place, 0 below the smallest normal number.
HOLE float fast_exp(float x) {
    float c = x > 88.72283f ? 88.72283f : x;
    c = c < -87.33654f ? -87.33654f : c;
    const float n = (c * 1.44269504f + 12582912.f) - 12582912.f;
    const float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, c));
    float p = fmaf(r, 1.9875691500e-4f, 1.3981999507e-3f);
    p = fmaf(r, p, 8.3334519073e-3f);
    p = fmaf(r, p, 4.1665795894e-2f);
    p = fmaf(r, p, 1.6666665459e-1f);
    p = fmaf(r, p, 5.0000001201e-1f);
    p = fmaf(r * r, p, r + 1.f);
    const int half = (int)n / 2;
    const float low = __builtin_bit_cast(float, (half + 127) << 23);
    const float high = __builtin_bit_cast(float, ((int)n - half + 127) << 23);
    const float y = p * low * high;
    return x < -87.33654f ? 0.f : x > 88.72283f ? INFINITY : y;
}

// log of a positive normal number by a polynomial.
HOLE float fast_log(float x) {
    const int bits = __builtin_bit_cast(int, x);
    const int e = (bits - 0x3f3504f3) >> 23;
    const float m = __builtin_bit_cast(float, bits - (e << 23)) - 1.f;
    float p = fmaf(m, 7.0376836292e-2f, -1.1514610310e-1f);
    p = fmaf(m, p, 1.1676998740e-1f);
    p = fmaf(m, p, -1.2420140846e-1f);
    p = fmaf(m, p, 1.4249322787e-1f);
    p = fmaf(m, p, -1.6668057665e-1f);
    p = fmaf(m, p, 2.0000714765e-1f);
    p = fmaf(m, p, -2.4999993993e-1f);
    p = fmaf(m, p, 3.3333331174e-1f);
    const float z = m * m;
    const float y = fmaf(m * z, p, fmaf(-0.5f, z, (float)e * -2.12194440e-4f)) + m + (float)e * 0.693359375f;
    return x < 1.17549435e-38f ? (x < 0.f ? NAN : -INFINITY) : x > FLT_MAX ? x : y;
}

// Right in absolute terms only: near 0 the difference of two numbers near 1.
HOLE float fast_tanh(float x) { return 1.f - 2.f / (fast_exp(2.f * x) + 1.f); }

#define FUNCTION(name, quick) \
    template <class T> HOLE real<T> m_##name##f(T v) { \
        if constexpr (__is_same(T, double)) return name(v); \
        else if constexpr (MATH == Word::fast) return quick; \
        else return name##f((float)v); \
    }
FUNCTION(exp, fast_exp((float)v)) FUNCTION(exp2, fast_exp(0.69314718f * (float)v)) FUNCTION(log, fast_log((float)v))
FUNCTION(log2, 1.44269504f * fast_log((float)v)) FUNCTION(log10, 0.434294482f * fast_log((float)v))
FUNCTION(tanh, fast_tanh((float)v)) FUNCTION(expm1, expm1f((float)v)) FUNCTION(log1p, log1pf((float)v))
FUNCTION(sinh, sinhf((float)v)) FUNCTION(cosh, coshf((float)v)) FUNCTION(erf, erff((float)v))
FUNCTION(erfc, erfcf((float)v)) FUNCTION(sin, sinf((float)v)) FUNCTION(cos, cosf((float)v))
#undef FUNCTION
template <class T> HOLE real<T> m_sqrtf(T v) {
    if constexpr (__is_same(T, double)) return __builtin_sqrt(v);
    else return __builtin_sqrtf((float)v);
}
template <class T> HOLE real<T> m_rsqrtf(T v) { return real<T>(1) / m_sqrtf(v); }
template <class T> HOLE real<T> m_fabsf(T v) { return v < 0 ? -(real<T>)v : (real<T>)v; }
HOLE float m_floorf(float v) { return __builtin_floorf(v); }
HOLE float m_ceilf(float v) { return __builtin_ceilf(v); }
HOLE float m_powf(float v, float w) { return powf(v, w); }
template <class T, class U> HOLE auto m_fmaxf(T a, U b) { using C = real<decltype(a + b)>; return (C)a > (C)b ? (C)a : (C)b; }
template <class T, class U> HOLE auto m_fminf(T a, U b) { using C = real<decltype(a + b)>; return (C)a < (C)b ? (C)a : (C)b; }
template <class T, class U, class V> HOLE auto m_fmaf(T a, U b, V c) { return (real<decltype(a * b + c)>)a * b + c; }

// One of two computed values by masks: a compiler would move a call that only one side needs behind a branch.
template <class T, class U> HOLE auto m_select(bool condition, T a, U b) {
    using C = decltype(a + b);
    if constexpr (__is_same(C, float)) {
        const int mask = -(int)condition;
        return __builtin_bit_cast(float, (__builtin_bit_cast(int, (float)a) & mask) | (__builtin_bit_cast(int, (float)b) & ~mask));
    } else {
        return condition ? (C)a : (C)b;
    }
}

template <Word OPERATOR> constexpr float neutral() {
    return OPERATOR == Word::sum ? 0.f : OPERATOR == Word::product ? 1.f : OPERATOR == Word::max ? -INFINITY : INFINITY;
}
template <Word OPERATOR, class T> HOLE T combined(T a, T b) {
    if constexpr (OPERATOR == Word::sum) return a + b;
    else if constexpr (OPERATOR == Word::product) return a * b;
    else if constexpr (OPERATOR == Word::max) return b > a ? b : a;
    else return b < a ? b : a;
}

constexpr int LINE = 16;  // floats of a cache line

// A cache line past the caches: what is written once need not be read first. Aligned to 64 bytes.
HOLE void stream_line(float* to, const float* from) {
#if defined(__AVX512F__)
    typedef float wide __attribute__((vector_size(64)));
    __builtin_ia32_movntps512(to, *(const wide*)from);
#elif defined(__AVX__)
    typedef float wide __attribute__((vector_size(32)));
    __builtin_ia32_movntps256(to, *(const wide*)from);
    __builtin_ia32_movntps256(to + 8, *(const wide*)(from + 8));
#else
    memcpy(to, from, 64);
#endif
}

// out[begin..end) = value(i), with plain or streaming stores.
template <class Value> HOLE void fill(float* out, long long begin, long long end, Value value) {
    long long i = begin;
    if constexpr (STORE == Word::streaming) {
        for (; i < end && ((size_t)(out + i) & 63); i++) out[i] = value(i);
        constexpr int BUFFER = SPAN < LINE ? LINE : SPAN;
        for (; i + BUFFER <= end; i += BUFFER) {
            alignas(64) float buffer[BUFFER];
#pragma omp simd simdlen(WIDTH)
            for (int l = 0; l < BUFFER; l++) { SCALAR_IF_ASKED; buffer[l] = value(i + l); }
            for (int l = 0; l < BUFFER; l += LINE) stream_line(out + i + l, buffer + l);
        }
    } else {
        for (; i + SPAN <= end; i += SPAN)
#pragma omp simd simdlen(WIDTH)
            for (int l = 0; l < SPAN; l++) { SCALAR_IF_ASKED; out[i + l] = value(i + l); }
    }
    for (; i < end; i++) out[i] = value(i);
}
