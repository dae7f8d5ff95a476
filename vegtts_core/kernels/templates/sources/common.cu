// What every CUDA template uses: inlining, vector loads, the functions of expressions, operators with neutral elements.
#define HOLE static __device__ __forceinline__

template <class T> struct real_of { using type = float; };
template <> struct real_of<double> { using type = double; };
template <class T> using real = typename real_of<T>::type;
template <class T> constexpr bool is_double = false;
template <> constexpr bool is_double<double> = true;

#define FUNCTION(name, quick) \
    template <class T> HOLE real<T> m_##name##f(T v) { \
        if constexpr (is_double<T>) return name(v); \
        else if constexpr (MATH == Word::fast) return quick; \
        else return name##f((float)v); \
    }
FUNCTION(exp, __expf((float)v)) FUNCTION(exp2, exp2f((float)v)) FUNCTION(log, __logf((float)v))
FUNCTION(log2, __log2f((float)v)) FUNCTION(log10, __log10f((float)v))
FUNCTION(tanh, 1.f - __fdividef(2.f, __expf(2.f * (float)v) + 1.f)) FUNCTION(expm1, expm1f((float)v))
FUNCTION(log1p, log1pf((float)v)) FUNCTION(sinh, sinhf((float)v)) FUNCTION(cosh, coshf((float)v))
FUNCTION(erf, erff((float)v)) FUNCTION(erfc, erfcf((float)v)) FUNCTION(sin, __sinf((float)v))
FUNCTION(cos, __cosf((float)v)) FUNCTION(sqrt, sqrtf((float)v)) FUNCTION(rsqrt, rsqrtf((float)v))
FUNCTION(fabs, fabsf((float)v))
#undef FUNCTION
HOLE float m_floorf(float v) { return floorf(v); }
HOLE float m_ceilf(float v) { return ceilf(v); }
HOLE float m_powf(float v, float w) { return powf(v, w); }
template <class T, class U> HOLE auto m_fmaxf(T a, U b) { using C = real<decltype(a + b)>; return (C)a > (C)b ? (C)a : (C)b; }
template <class T, class U> HOLE auto m_fminf(T a, U b) { using C = real<decltype(a + b)>; return (C)a < (C)b ? (C)a : (C)b; }
template <class T, class U, class V> HOLE auto m_fmaf(T a, U b, V c) { return (real<decltype(a * b + c)>)a * b + c; }

template <class T, class U> HOLE auto m_select(bool condition, T a, U b) { using C = decltype(a + b); return condition ? (C)a : (C)b; }

template <Word OPERATOR> HOLE float neutral() {
    return OPERATOR == Word::sum ? 0.f : OPERATOR == Word::product ? 1.f : OPERATOR == Word::max ? -INFINITY : INFINITY;
}
template <Word OPERATOR, class T> HOLE T combined(T a, T b) {
    if constexpr (OPERATOR == Word::sum) return a + b;
    else if constexpr (OPERATOR == Word::product) return a * b;
    else if constexpr (OPERATOR == Word::max) return b > a ? b : a;
    else return b < a ? b : a;
}

// V consecutive floats in one access. The address is a multiple of 4 V bytes.
template <int V> HOLE void load(float (&to)[V], const float* from) {
    if constexpr (V == 4) {
        const float4 v = __ldg((const float4*)from);
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (V == 2) {
        const float2 v = __ldg((const float2*)from);
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = __ldg(from);
    }
}
template <int V> HOLE void store(float* to, const float (&from)[V]) {
    if constexpr (V == 4) {
        const float4 v = make_float4(from[0], from[1], from[2], from[3]);
        if constexpr (STORE == Word::streaming) __stcs((float4*)to, v);
        else *(float4*)to = v;
    } else if constexpr (V == 2) {
        const float2 v = make_float2(from[0], from[1]);
        if constexpr (STORE == Word::streaming) __stcs((float2*)to, v);
        else *(float2*)to = v;
    } else {
        if constexpr (STORE == Word::streaming) __stcs(to, from[0]);
        else *to = from[0];
    }
}

// The total of one value per thread, known to every thread of the block. All threads must call it.
template <Word OPERATOR, class T> HOLE T block_total(T value) {
    __shared__ T parts[32];
    const int thread = threadIdx.x + threadIdx.y * blockDim.x, threads = blockDim.x * blockDim.y;
    for (int distance = 16; distance > 0; distance /= 2)
        value = combined<OPERATOR>(value, __shfl_xor_sync(0xffffffffu, value, distance));
    __syncthreads();  // parts may still be read for an earlier total
    if (thread % 32 == 0) parts[thread / 32] = value;
    __syncthreads();
    T total = parts[0];
    for (int part = 1; part < threads / 32; part++) total = combined<OPERATOR>(total, parts[part]);
    return total;
}
