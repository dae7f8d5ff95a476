// The dimension summed over is not the last one: rows are added to a row of sums, in blocks to keep errors small.
constexpr int ROWS = x_1, COLUMNS = x_2, BLOCK = 32, STRIP = 256;

void kernel(const float* x, float* out) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int batch = 0; batch < x_0; batch++)
        for (int left = 0; left < COLUMNS; left += STRIP) {
            const int width = COLUMNS - left < STRIP ? COLUMNS - left : STRIP;
            float sum[STRIP] = {};
            for (int top = 0; top < ROWS; top += BLOCK) {
                float part[STRIP] = {};
                for (int row = top; row < top + BLOCK && row < ROWS; row++) {
                    const float* in = x + (size_t(batch) * ROWS + row) * COLUMNS + left;
                    for (int i = 0; i < width; i++) part[i] += in[i];
                }
                for (int i = 0; i < width; i++) sum[i] += part[i];
            }
            for (int i = 0; i < width; i++) out[size_t(batch) * COLUMNS + left + i] = sum[i];
        }
}
