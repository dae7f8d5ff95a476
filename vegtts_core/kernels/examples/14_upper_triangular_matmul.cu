// Of A and B only the upper triangles count: tiles below the diagonal are zeros, the others sum over k from row to column.
constexpr int N = A_0, TILE = 32;

__global__ void kernel(const float* A, const float* B, float* out) {
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE];
    const int x = threadIdx.x, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    float sum[4] = {};
    if (column >= row)
        for (int k = row; k < column + TILE; k += TILE) {
            for (int y = threadIdx.y; y < TILE; y += 8) {
                a[y][x] = row + y < N && k + x < N && k + x >= row + y ? A[(long long)(row + y) * N + k + x] : 0.0f;
                b[y][x] = k + y < N && column + x < N && column + x >= k + y ? B[(long long)(k + y) * N + column + x] : 0.0f;
            }
            __syncthreads();
            for (int d = 0; d < TILE; d++)
                for (int i = 0; i < 4; i++) sum[i] += a[threadIdx.y + 8 * i][d] * b[d][x];
            __syncthreads();
        }
    for (int i = 0; i < 4; i++) {
        const int y = row + threadIdx.y + 8 * i;
        if (y < N && column + x < N) out[(long long)y * N + column + x] = sum[i];
    }
}
launch: grid=(cdiv(out_1, 32), cdiv(out_0, 32)), block=(32, 8)
