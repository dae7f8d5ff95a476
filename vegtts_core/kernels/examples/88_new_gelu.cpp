void kernel(const float* x, float* out) {
#pragma omp parallel for simd schedule(static)
    for (long long i = 0; i < out_n; i++) {
        const float v = x[i];
        out[i] = 0.5f * v * (1.0f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v)));
    }
}
