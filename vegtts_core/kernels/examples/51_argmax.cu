// One thread takes a column; neighbouring threads read neighbouring numbers. NaN counts as the largest.
constexpr int ROWS = x_1, COLUMNS = x_2;

__global__ void kernel(const float* x, long long* out) {
    const int column = blockIdx.x * 128 + threadIdx.x;
    if (column >= COLUMNS) return;
    const float* in = x + blockIdx.y * (long long)ROWS * COLUMNS + column;
    float best = in[0];
    int place = 0;
    for (int row = 1; row < ROWS; row++) {
        const float value = in[row * (long long)COLUMNS];
        if (value > best || (isnan(value) && !isnan(best))) best = value, place = row;
    }
    out[blockIdx.y * (long long)COLUMNS + column] = place;
}
launch: grid=(cdiv(x_2, 128), x_0), block=(128)
