// Whole rows are compared with the best values so far; NaN counts as the largest, as in PyTorch.
constexpr int ROWS = x_1, COLUMNS = x_2;

void kernel(const float* x, long long* out) {
#pragma omp parallel for schedule(static)
    for (int batch = 0; batch < x_0; batch++) {
        const float* in = x + size_t(batch) * ROWS * COLUMNS;
        long long* to = out + size_t(batch) * COLUMNS;
        float best[COLUMNS];
        int place[COLUMNS];
        for (int i = 0; i < COLUMNS; i++) best[i] = in[i], place[i] = 0;
        for (int row = 1; row < ROWS; row++)
            for (int i = 0; i < COLUMNS; i++) {
                const float value = in[size_t(row) * COLUMNS + i];
                const bool better = value > best[i] || (value != value && best[i] == best[i]);
                best[i] = better ? value : best[i];
                place[i] = better ? row : place[i];
            }
        for (int i = 0; i < COLUMNS; i++) to[i] = place[i];
    }
}
