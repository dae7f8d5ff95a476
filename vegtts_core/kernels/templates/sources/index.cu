// Index: the place of the extremum over the middle dimension of [OUTER, LENGTH, INNER].
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
    __shared__ float bests[SPLIT][ACROSS][V];
    __shared__ int places[SPLIT][ACROSS][V];
    float best[V];
    int place[V];
    for (int v = 0; v < V; v++) best[v] = 0.f, place[v] = -1;
    if (inside) {
#pragma unroll ITEMS
        for (long long l = part; l < LENGTH; l += SPLIT) {
            float x[V];
            load<V>(x, element_input(in, 0) + base + l * INNER);
            for (int v = 0; v < V; v++) {
                const float element = element_of(x + v, in, 0);
                if (place[v] < 0 || better_of(element, best[v])) best[v] = element, place[v] = (int)l;
            }
        }
    }
    for (int v = 0; v < V; v++) bests[part][threadIdx.x][v] = best[v], places[part][threadIdx.x][v] = place[v];
    __syncthreads();
    if (part != 0 || !inside) return;
    for (int v = 0; v < V; v++) {
        for (int other = 1; other < SPLIT; other++) {
            const float element = bests[other][threadIdx.x][v];
            if (places[other][threadIdx.x][v] >= 0 && better_of(element, best[v])) best[v] = element, place[v] = places[other][threadIdx.x][v];
        }
        out[outer * INNER + column + v] = place[v];
    }
}
