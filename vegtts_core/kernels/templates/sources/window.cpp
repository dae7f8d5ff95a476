// Window: out[p] = a total over a window of K0 x K1 x K2 taps at each place of PLANES planes. Taps beyond the edges of the
// input are left out. A thread takes TILE rows of the output; taps run outside or inside the loop along a row.
constexpr long long ROWS = PLANES * O0 * O1, TAPS = K0 * K1 * K2;

// Taps of the window's first two dimensions that lie within the input, for one row of the output.
struct Range { long long first0, last0, first1, last1; };

HOLE long long first_tap(long long start, long long step) { return start >= 0 ? 0 : (-start + step - 1) / step; }
HOLE long long last_tap(long long start, long long step, long long size, long long taps) {
    const long long fits = start >= size ? 0 : (size - 1 - start) / step + 1;
    return fits < taps ? fits : taps;
}
HOLE Range range_of(long long o0, long long o1) {
    const long long i0 = o0 * S0 - P0, i1 = o1 * S1 - P1;
    return {first_tap(i0, D0), last_tap(i0, D0, I0, K0), first_tap(i1, D1), last_tap(i1, D1, I1, K1)};
}

// INSIDE: every tap along the row is within the input. WHOLE: every tap of the other two dimensions is.
template <bool INSIDE, bool WHOLE> HOLE float one_place(const Inputs& in, const Range& range, long long plane, long long o0, long long o1, long long o2) {
    acc_t total = neutral<COMBINE>();
#pragma GCC unroll 16
    for (long long k0 = WHOLE ? 0 : range.first0; k0 < (WHOLE ? K0 : range.last0); k0++)
#pragma GCC unroll 16
        for (long long k1 = WHOLE ? 0 : range.first1; k1 < (WHOLE ? K1 : range.last1); k1++) {
            const long long i0 = o0 * S0 - P0 + k0 * D0, i1 = o1 * S1 - P1 + k1 * D1;
            const long long base = ((plane * I0 + i0) * I1 + i1) * I2, tap = plane % CHANNELS * TAPS + (k0 * K1 + k1) * K2;
#pragma GCC unroll 16
            for (long long k2 = 0; k2 < K2; k2++) {
                const long long i2 = o2 * S2 - P2 + k2 * D2;
                if (INSIDE || (i2 >= 0 && i2 < I2)) total = combined<COMBINE>(total, (acc_t)element_of(in, base + i2, tap + k2));
            }
        }
    return y_of(total, TAPS);
}

// Places [SAFE_BEGIN, SAFE_END) of a row have their whole window within the input's last dimension.
constexpr long long SAFE_BEGIN = (P2 + S2 - 1) / S2 < O2 ? (P2 + S2 - 1) / S2 : O2;
constexpr long long REACH = I2 - 1 - (K2 - 1) * D2 + P2;
constexpr long long SAFE_LAST = REACH < 0 ? 0 : REACH / S2 + 1 < O2 ? REACH / S2 + 1 : O2;
constexpr long long SAFE_END = SAFE_LAST > SAFE_BEGIN ? SAFE_LAST : SAFE_BEGIN;

template <bool WHOLE> static void one_row(const Inputs& in, float* out, const Range& range, long long plane, long long o0, long long o1) {
    float* to = out + ((plane * O0 + o0) * O1 + o1) * O2;
    for (long long o2 = 0; o2 < SAFE_BEGIN; o2++) to[o2] = one_place<false, WHOLE>(in, range, plane, o0, o1, o2);
    for (long long o2 = SAFE_END; o2 < O2; o2++) to[o2] = one_place<false, WHOLE>(in, range, plane, o0, o1, o2);
    if constexpr (TAPS_LOOP == Word::inner) {
        fill(to, SAFE_BEGIN, SAFE_END, [&](long long o2) { return one_place<true, WHOLE>(in, range, plane, o0, o1, o2); });
    } else {
        acc_t totals[O2];
        for (long long o2 = 0; o2 < O2; o2++) totals[o2] = neutral<COMBINE>();
        for (long long k0 = range.first0; k0 < range.last0; k0++)
            for (long long k1 = range.first1; k1 < range.last1; k1++) {
                const long long i0 = o0 * S0 - P0 + k0 * D0, i1 = o1 * S1 - P1 + k1 * D1;
                const long long base = ((plane * I0 + i0) * I1 + i1) * I2, tap = plane % CHANNELS * TAPS + (k0 * K1 + k1) * K2;
                for (long long k2 = 0; k2 < K2; k2++)
#pragma omp simd simdlen(WIDTH)
                    for (long long o2 = SAFE_BEGIN; o2 < SAFE_END; o2++) {
                        SCALAR_IF_ASKED;
                        totals[o2] = combined<COMBINE>(totals[o2], (acc_t)element_of(in, base + o2 * S2 - P2 + k2 * D2, tap + k2));
                    }
            }
        fill(to, SAFE_BEGIN, SAFE_END, [&](long long o2) { return y_of(totals[o2], TAPS); });
    }
}

static void run(const Inputs in, float* out) {
#pragma omp parallel for schedule(dynamic, TILE)
    for (long long row = 0; row < ROWS; row++) {
        const long long plane = row / (O0 * O1), o0 = row / O1 % O0, o1 = row % O1;
        const Range range = range_of(o0, o1);
        const bool whole = range.first0 == 0 && range.last0 == K0 && range.first1 == 0 && range.last1 == K1;
        if (whole) one_row<true>(in, out, range, plane, o0, o1);
        else one_row<false>(in, out, range, plane, o0, o1);
    }
}
