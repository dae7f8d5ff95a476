// Columns: a total over the middle dimension of [OUTER, LENGTH, INNER], then a value per column or per element.
// A block has TILE / V threads across and SPLIT down: each row of threads takes every SPLIT-th element of its columns.
constexpr int V = INNER % VECTOR == 0 ? VECTOR : 1;
constexpr int ACROSS = TILE / VECTOR;  // threads
constexpr long long WIDE = ACROSS * V;  // columns of a block
constexpr long long TILES = (INNER + WIDE - 1) / WIDE;

template <class Out> HOLE void run(const Inputs in, Out* out) {
    const long long outer = blockIdx.x / TILES, column = blockIdx.x % TILES * WIDE + threadIdx.x * V;
    const long long base = outer * LENGTH * INNER + column;
    const bool inside = column < INNER;
    const int part = threadIdx.y;
    __shared__ acc_t parts[SPLIT][ACROSS][V];
    acc_t totals[V];
    for (int v = 0; v < V; v++) totals[v] = neutral<COMBINE>();
    if (inside) {
#pragma unroll ITEMS
        for (long long l = part; l < LENGTH; l += SPLIT) {
            float x[V];
            load<V>(x, element_input(in, 0) + base + l * INNER);
            for (int v = 0; v < V; v++) totals[v] = combined<COMBINE>(totals[v], (acc_t)element_of(x + v, in, 0));
        }
    }
    for (int v = 0; v < V; v++) parts[part][threadIdx.x][v] = totals[v];
    __syncthreads();
    if (!inside) return;
    float first[V];
    for (int v = 0; v < V; v++) {
        acc_t total = parts[0][threadIdx.x][v];
        for (int other = 1; other < SPLIT; other++) total = combined<COMBINE>(total, parts[other][threadIdx.x][v]);
        first[v] = first_of(total, LENGTH);
    }
    if constexpr (OUTPUT == Word::value) {
        if (part == 0) store<V>(out + outer * INNER + column, first);
    } else {
#pragma unroll ITEMS
        for (long long l = part; l < LENGTH; l += SPLIT) {
            float x[V], y[V];
            load<V>(x, element_input(in, 0) + base + l * INNER);
            for (int v = 0; v < V; v++) y[v] = y_of(x + v, in, 0, first[v]);
            store<V>(out + base + l * INNER, y);
        }
    }
}
