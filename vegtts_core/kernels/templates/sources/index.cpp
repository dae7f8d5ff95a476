// Index: the place of the extremum over the middle dimension of [OUTER, LENGTH, INNER].
// A thread takes TILE columns at a time, whose extrema stay in the first cache, and ITEMS elements of each per pass.
constexpr long long TILES = (INNER + TILE - 1) / TILE;

template <class Column> HOLE void over_columns(int columns, Column column) {
    if (columns == TILE) {
#pragma omp simd simdlen(WIDTH)
        for (int c = 0; c < TILE; c++) { SCALAR_IF_ASKED; column(c); }
    } else {
#pragma omp simd simdlen(WIDTH)
        for (int c = 0; c < columns; c++) { SCALAR_IF_ASKED; column(c); }
    }
}

static void one_tile(const Inputs& in, long long* out, long long outer, long long start, int columns) {
    float best[TILE];
    int place[TILE];
    const long long base = outer * LENGTH * INNER + start;
    over_columns(columns, [&](int c) { best[c] = element_at(in, base + c), place[c] = 0; });
    int l = 1;
    for (; l + ITEMS <= LENGTH; l += ITEMS)
        over_columns(columns, [&](int c) {
            float b = best[c];
            int p = place[c];
#pragma GCC unroll 16
            for (int item = 0; item < ITEMS; item++) {
                const float x = element_at(in, base + (l + item) * INNER + c);
                const bool better = better_of(x, b);
                b = better ? x : b, p = better ? l + item : p;
            }
            best[c] = b, place[c] = p;
        });
    for (; l < LENGTH; l++)
        over_columns(columns, [&](int c) {
            const float x = element_at(in, base + l * INNER + c);
            if (better_of(x, best[c])) best[c] = x, place[c] = l;
        });
    for (int c = 0; c < columns; c++) out[outer * INNER + start + c] = place[c];
}

template <class Out> static void run(const Inputs in, Out* out) {
#pragma omp parallel for schedule(dynamic)
    for (long long task = 0; task < OUTER * TILES; task++) {
        const long long start = task % TILES * TILE;
        one_tile(in, out, task / TILES, start, INNER - start < TILE ? (int)(INNER - start) : TILE);
    }
}
