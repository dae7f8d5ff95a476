// Map: a block of BLOCK threads takes BLOCK * ITEMS * VECTOR consecutive elements, VECTOR of them per access.
constexpr int V = COLUMNS % VECTOR == 0 ? VECTOR : 1;  // accesses are aligned, and stay within a row
HOLE void run(const Inputs in, float* out) {
    constexpr long long total = ROWS * COLUMNS;
    const long long base = (long long)blockIdx.x * (BLOCK * ITEMS * VECTOR);
    float values[ITEMS * VECTOR / V][ELEMENTS][V];
#pragma unroll
    for (int item = 0; item < ITEMS * VECTOR / V; item++) {
        const long long i = base + ((long long)item * BLOCK + threadIdx.x) * V;
        if (i < total)
#pragma unroll
            for (int e = 0; e < ELEMENTS; e++) load<V>(values[item][e], element_input(in, e) + i);
    }
#pragma unroll
    for (int item = 0; item < ITEMS * VECTOR / V; item++) {
        const long long i = base + ((long long)item * BLOCK + threadIdx.x) * V;
        if (i >= total) continue;
        const long long row = ROWS == 1 ? 0 : i / COLUMNS;
        float y[V];
#pragma unroll
        for (int v = 0; v < V; v++) {
            float x[ELEMENTS];
            for (int e = 0; e < ELEMENTS; e++) x[e] = values[item][e][v];
            y[v] = y_of(x, in, i + v, row, i + v - row * COLUMNS);
        }
        store<V>(out + i, y);
    }
}
