// A is stored transposed (K x M): four columns of it and 32 columns of B are read row by row.
constexpr int K = A_0, M = A_1, N = B_1, ROWS = 4, COLUMNS = 32;
static_assert(M % ROWS == 0 && N % COLUMNS == 0);

void kernel(const float* A, const float* B, float* out) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int column = 0; column < N; column += COLUMNS)
        for (int row = 0; row < M; row += ROWS) {
            float sum[ROWS][COLUMNS] = {};
            for (int k = 0; k < K; k++)
                for (int i = 0; i < ROWS; i++) {
                    const float a = A[size_t(k) * M + row + i];
#pragma omp simd
                    for (int j = 0; j < COLUMNS; j++) sum[i][j] += a * B[size_t(k) * N + column + j];
                }
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < COLUMNS; j++) out[size_t(row + i) * N + column + j] = sum[i][j];
        }
}
