// Window: out[p] = a total over a window of K0 x K1 x K2 taps at each place of PLANES planes. Taps beyond the edges of the
// input are left out. A block makes TILE rows of BLOCK * ITEMS places; a thread ITEMS places of each, BLOCK apart, in
// turn (taps inner) or together (taps outer).
constexpr long long ROWS = PLANES * O0 * O1, TAPS = K0 * K1 * K2;
constexpr long long ACROSS = (O2 + BLOCK * ITEMS - 1) / (BLOCK * ITEMS);

template <int COUNT> HOLE void places(const Inputs& in, float* out, long long plane, long long o0, long long o1, long long start) {
    acc_t totals[COUNT];
#pragma unroll
    for (int item = 0; item < COUNT; item++) totals[item] = neutral<COMBINE>();
#pragma unroll 1
    for (int k0 = 0; k0 < (int)K0; k0++)
#pragma unroll VECTOR
        for (int k1 = 0; k1 < (int)K1; k1++) {
            const long long i0 = o0 * S0 - P0 + k0 * D0, i1 = o1 * S1 - P1 + k1 * D1;
            if (i0 < 0 || i0 >= I0 || i1 < 0 || i1 >= I1) continue;
            const long long base = ((plane * I0 + i0) * I1 + i1) * I2, tap = plane % CHANNELS * TAPS + (k0 * K1 + k1) * K2;
#pragma unroll
            for (int k2 = 0; k2 < (int)K2; k2++)
#pragma unroll
                for (int item = 0; item < COUNT; item++) {
                    const long long i2 = (start + item * BLOCK) * S2 - P2 + k2 * D2;
                    if (i2 >= 0 && i2 < I2) totals[item] = combined<COMBINE>(totals[item], (acc_t)element_of(in, base + i2, tap + k2));
                }
        }
#pragma unroll
    for (int item = 0; item < COUNT; item++) {
        const long long o2 = start + item * BLOCK;
        if (o2 < O2) out[((plane * O0 + o0) * O1 + o1) * O2 + o2] = y_of(totals[item], TAPS);
    }
}

HOLE void run(const Inputs in, float* out) {
    const long long first = blockIdx.x / ACROSS * TILE, start = blockIdx.x % ACROSS * (BLOCK * ITEMS) + threadIdx.x;
    for (long long row = first; row < first + TILE && row < ROWS; row++) {
        const long long plane = row / (O0 * O1), o0 = row / O1 % O0, o1 = row % O1;
        if constexpr (TAPS_LOOP == Word::outer) places<ITEMS>(in, out, plane, o0, o1, start);
        else
            for (int item = 0; item < ITEMS; item++)
                if (start + item * BLOCK < O2) places<1>(in, out, plane, o0, o1, start + item * BLOCK);
    }
}
