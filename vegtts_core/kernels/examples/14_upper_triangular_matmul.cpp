// Of A and B only the upper triangles count: element (i, j) sums over k from i to j, and is 0 below the diagonal.
constexpr int N = A_0;

void kernel(const float* A, const float* B, float* out) {
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < N; i++) {
        float* row = out + size_t(i) * N;
        for (int j = 0; j < N; j++) row[j] = 0.0f;
        for (int k = i; k < N; k++) {
            const float a = A[size_t(i) * N + k];
#pragma omp simd
            for (int j = k; j < N; j++) row[j] += a * B[size_t(k) * N + j];
        }
    }
}
