void kernel(const float* x, float* out) {
#pragma omp parallel for simd schedule(static)
    for (long long i = 0; i < out_n; i++) out[i] = x[i] / (1.0f + expf(-x[i]));
}
