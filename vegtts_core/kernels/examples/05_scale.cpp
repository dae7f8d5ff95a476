void kernel(const float* A, float s, float* out) {
#pragma omp parallel for simd schedule(static)
    for (long long i = 0; i < out_n; i++) out[i] = A[i] * s;
}
