// Columns: a total over the middle dimension of [OUTER, LENGTH, INNER], then a value per column or per element.
// A thread takes TILE columns at a time, whose totals stay in the first cache, and ITEMS elements of each per pass.
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

static void one_tile(const Inputs& in, float* out, long long outer, long long start, int columns) {
    acc_t totals[TILE];
    const long long base = outer * LENGTH * INNER + start;
    over_columns(columns, [&](int c) { totals[c] = neutral<COMBINE>(); });
    long long l = 0;
    for (; l + ITEMS <= LENGTH; l += ITEMS)
        over_columns(columns, [&](int c) {
            acc_t total = totals[c];
#pragma GCC unroll 16
            for (int item = 0; item < ITEMS; item++)
                total = combined<COMBINE>(total, (acc_t)element_at(in, base + (l + item) * INNER + c));
            totals[c] = total;
        });
    for (; l < LENGTH; l++)
        over_columns(columns, [&](int c) { totals[c] = combined<COMBINE>(totals[c], (acc_t)element_at(in, base + l * INNER + c)); });
    if constexpr (OUTPUT == Word::value) {
        for (int c = 0; c < columns; c++) out[outer * INNER + start + c] = first_of(totals[c], LENGTH);
    } else {
        float firsts[TILE];
        over_columns(columns, [&](int c) { firsts[c] = first_of(totals[c], LENGTH); });
        for (l = 0; l < LENGTH; l++)
            over_columns(columns, [&](int c) { out[base + l * INNER + c] = y_at(in, base + l * INNER + c, firsts[c]); });
    }
}

template <class Out> static void run(const Inputs in, Out* out) {
#pragma omp parallel for schedule(dynamic)
    for (long long task = 0; task < OUTER * TILES; task++) {
        const long long start = task % TILES * TILE;
        one_tile(in, out, task / TILES, start, INNER - start < TILE ? (int)(INNER - start) : TILE);
    }
}
