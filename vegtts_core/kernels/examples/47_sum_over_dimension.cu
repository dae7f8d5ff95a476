// A block sums 32 neighbouring columns: 8 threads share a column's rows and meet in shared memory.
constexpr int ROWS = x_1, COLUMNS = x_2;

__global__ void kernel(const float* x, float* out) {
    __shared__ float parts[8][32];
    const int column = blockIdx.x * 32 + threadIdx.x;
    const float* in = x + blockIdx.y * (long long)ROWS * COLUMNS;
    float sum = 0.0f;
    if (column < COLUMNS)
        for (int row = threadIdx.y; row < ROWS; row += 8) sum += in[row * (long long)COLUMNS + column];
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < COLUMNS) {
        for (int i = 1; i < 8; i++) sum += parts[i][threadIdx.x];
        out[blockIdx.y * (long long)COLUMNS + column] = sum;
    }
}
launch: grid=(cdiv(x_2, 32), x_0), block=(32, 8)
