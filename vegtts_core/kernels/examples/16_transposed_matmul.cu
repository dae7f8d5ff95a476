// A is stored transposed (K x M), so that tiles of A and of B are both read along their rows.
constexpr int K = A_0, M = A_1, N = B_1, TILE = 64, DEPTH = 16, EACH = 4;

__global__ void __launch_bounds__(256) kernel(const float* A, const float* B, float* out) {
    __shared__ float a[DEPTH][TILE], b[DEPTH][TILE];
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE, thread = threadIdx.x;
    const int y = thread / 16 * EACH, x = thread % 16 * EACH;
    float sum[EACH][EACH] = {};
    for (int k = 0; k < K; k += DEPTH) {
        for (int i = thread; i < TILE * DEPTH; i += 256) {
            const int d = i / TILE, j = i % TILE;
            a[d][j] = k + d < K && row + j < M ? A[(long long)(k + d) * M + row + j] : 0.0f;
            b[d][j] = k + d < K && column + j < N ? B[(long long)(k + d) * N + column + j] : 0.0f;
        }
        __syncthreads();
        for (int d = 0; d < DEPTH; d++)
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) sum[i][j] += a[d][y + i] * b[d][x + j];
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            if (row + y + i < M && column + x + j < N) out[(long long)(row + y + i) * N + column + x + j] = sum[i][j];
}
launch: grid=(cdiv(out_1, 64), cdiv(out_0, 64)), block=(256)
