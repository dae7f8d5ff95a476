// A block computes a 64 x 64 tile of the product, each thread 4 x 4 of it; tiles of A and B pass through shared memory.
constexpr int M = A_0, K = A_1, N = B_1, TILE = 64, DEPTH = 16, EACH = 4;

__global__ void __launch_bounds__(256) kernel(const float* A, const float* B, float* out) {
    __shared__ float a[DEPTH][TILE + 1], b[DEPTH][TILE];
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE, thread = threadIdx.x;
    const int y = thread / 16 * EACH, x = thread % 16 * EACH;
    float sum[EACH][EACH] = {};
    for (int k = 0; k < K; k += DEPTH) {
        for (int i = thread; i < TILE * DEPTH; i += 256) {
            const int ay = i / DEPTH, ax = i % DEPTH, by = i / TILE, bx = i % TILE;
            a[ax][ay] = row + ay < M && k + ax < K ? A[(long long)(row + ay) * K + k + ax] : 0.0f;
            b[by][bx] = k + by < K && column + bx < N ? B[(long long)(k + by) * N + column + bx] : 0.0f;
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
