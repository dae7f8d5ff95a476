// Scan: running totals along rows. A thread carries TOGETHER rows at a time, so that their chains of additions overlap,
// and totals ITEMS elements on their own before the carry joins them.
constexpr bool REVERSED = ORDER == Word::backward;
constexpr long long GROUPS = (ROWS + TOGETHER - 1) / TOGETHER;

template <int COUNT> static void one_group(const Inputs& in, float* out, long long row) {
    acc_t carry[COUNT];
    for (int r = 0; r < COUNT; r++) carry[r] = neutral<COMBINE>();
    long long j = 0;
    for (; j + ITEMS <= LENGTH; j += ITEMS) {
#pragma GCC unroll 8
        for (int r = 0; r < COUNT; r++) {
            const long long start = (row + r) * LENGTH + (REVERSED ? LENGTH - 1 - j : j);
            acc_t local[ITEMS + 1];
            local[0] = neutral<COMBINE>();
#pragma GCC unroll 32
            for (int item = 0; item < ITEMS; item++)
                local[item + 1] = combined<COMBINE>(local[item], (acc_t)element_of(in, start + (REVERSED ? -item : item)));
#pragma GCC unroll 32
            for (int item = 0; item < ITEMS; item++)
                out[start + (REVERSED ? -item : item)] =
                    (float)combined<COMBINE>(carry[r], local[item + (INCLUDE == Word::inclusive ? 1 : 0)]);
            carry[r] = combined<COMBINE>(carry[r], local[ITEMS]);
        }
    }
    for (; j < LENGTH; j++)
        for (int r = 0; r < COUNT; r++) {
            const long long i = (row + r) * LENGTH + (REVERSED ? LENGTH - 1 - j : j);
            const acc_t next = combined<COMBINE>(carry[r], (acc_t)element_of(in, i));
            out[i] = (float)(INCLUDE == Word::inclusive ? next : carry[r]);
            carry[r] = next;
        }
}

static void run(const Inputs in, float* out) {
#pragma omp parallel for schedule(dynamic)
    for (long long group = 0; group < GROUPS; group++) {
        const long long row = group * TOGETHER;
        if (row + TOGETHER <= ROWS) one_group<TOGETHER>(in, out, row);
        else for (long long r = row; r < ROWS; r++) one_group<1>(in, out, r);
    }
}
