// Map: each block of BLOCK * ITEMS * VECTOR consecutive elements goes to the next free thread.
static void run(const Inputs in, float* out) {
    constexpr long long total = ROWS * COLUMNS, block = (long long)BLOCK * ITEMS * VECTOR;
#pragma omp parallel for schedule(dynamic)
    for (long long start = 0; start < total; start += block) {
        const long long end = start + block < total ? start + block : total;
        for (long long begin = start; begin < end;) {
            const long long row = begin / COLUMNS, last = (row + 1) * COLUMNS < end ? (row + 1) * COLUMNS : end;
            fill(out, begin, last, [&](long long i) { return y_at(in, i, row, i - row * COLUMNS); });
            begin = last;
        }
    }
}
