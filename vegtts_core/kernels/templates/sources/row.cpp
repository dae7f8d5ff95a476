// Rows: up to two totals over each row, then a value per element or per row, or the mean of the rows' values.
// A row is SEGMENTS runs of SEGMENT elements; run g of row r starts at (g * ROWS + r) * SEGMENT.
constexpr long long LENGTH = SEGMENTS * SEGMENT;
constexpr long long ROWS_AT_ONCE = BLOCK < 64 ? 1 : BLOCK / 64;

struct Totals { acc_t one, two; };

template <Word OPERATOR> HOLE acc_t lanes_total(const acc_t* lanes) {
    acc_t total = lanes[0];
    for (int l = 1; l < SPAN; l++) total = combined<OPERATOR>(total, lanes[l]);
    return total;
}

// Totals over elements [begin, end) of a row: of stage 1, of stage 2, or of both in one pass.
template <bool ONE, bool TWO> static Totals totals_of(const Inputs& in, long long row, long long begin, long long end, float first) {
    acc_t one[SPAN], two[SPAN];
    for (int l = 0; l < SPAN; l++) one[l] = neutral<COMBINE>(), two[l] = neutral<COMBINE2>();
    for (long long j = begin; j < end;) {
        const long long run = j / SEGMENT, left = (run + 1) * SEGMENT - j, n = left < end - j ? left : end - j;
        const long long i = (run * ROWS + row) * SEGMENT + (j - run * SEGMENT);
        long long k = 0;
        for (; k + SPAN <= n; k += SPAN)
#pragma omp simd simdlen(WIDTH)
            for (int l = 0; l < SPAN; l++) {
                SCALAR_IF_ASKED;
                if constexpr (ONE) one[l] = combined<COMBINE>(one[l], (acc_t)element_at(in, i + k + l, row, j + k + l));
                if constexpr (TWO) two[l] = combined<COMBINE2>(two[l], (acc_t)element2_at(in, i + k + l, row, j + k + l, first));
            }
        for (; k < n; k++) {
            if constexpr (ONE) one[0] = combined<COMBINE>(one[0], (acc_t)element_at(in, i + k, row, j + k));
            if constexpr (TWO) two[0] = combined<COMBINE2>(two[0], (acc_t)element2_at(in, i + k, row, j + k, first));
        }
        j += n;
    }
    return {lanes_total<COMBINE>(one), lanes_total<COMBINE2>(two)};
}

// y over elements [begin, end) of a row, in pieces over which the row's and the piece's weights are constant.
HOLE void write_row(const Inputs& in, float* out, long long row, long long begin, long long end, float first, float second) {
    for (long long j = begin; j < end;) {
        const long long piece = j / PIECE, left = (piece + 1) * PIECE - j, n = left < end - j ? left : end - j;
        const long long run = j / SEGMENT, i = (run * ROWS + row) * SEGMENT + (j - run * SEGMENT);
        fill(out, i, i + n, [&](long long at) { return y_at(in, at, row, piece, j + (at - i), first, second); });
        j += n;
    }
}

static acc_t row_values[ROWS];

HOLE void finish_row(const Inputs& in, float* out, long long row, float first, float second) {
    if constexpr (OUTPUT == Word::value) out[row] = value_of(in, row, first, second);
    if constexpr (OUTPUT == Word::mean) row_values[row] = value_of(in, row, first, second);
}

static void whole_rows(const Inputs& in, float* out) {
#pragma omp parallel for schedule(dynamic, ROWS_AT_ONCE)
    for (long long row = 0; row < ROWS; row++) {
        Totals totals = totals_of<true, STAGES == 2 && FUSED>(in, row, 0, LENGTH, 0.f);
        const float first = first_of(totals.one, LENGTH);
        if constexpr (STAGES == 2 && !FUSED) totals.two = totals_of<false, true>(in, row, 0, LENGTH, first).two;
        const float second = STAGES == 2 ? second_of(totals.two, LENGTH, first) : 0.f;
        if constexpr (OUTPUT == Word::map) write_row(in, out, row, 0, LENGTH, first, second);
        else finish_row(in, out, row, first, second);
    }
}

constexpr long long PART = (LENGTH + SPLIT - 1) / SPLIT;
static Totals partial[SPLIT > 1 ? ROWS : 1][SPLIT];
static float firsts[SPLIT > 1 ? ROWS : 1], seconds[SPLIT > 1 ? ROWS : 1];

template <bool ONE, bool TWO> HOLE void split_totals(const Inputs& in) {
#pragma omp for schedule(dynamic)
    for (long long task = 0; task < ROWS * SPLIT; task++) {
        const long long row = task / SPLIT, part = task % SPLIT, begin = part * PART;
        const long long end = begin + PART < LENGTH ? begin + PART : LENGTH;
        const Totals totals = totals_of<ONE, TWO>(in, row, begin < end ? begin : end, end, ONE ? 0.f : firsts[row]);
        if constexpr (ONE) partial[row][part].one = totals.one;
        if constexpr (TWO) partial[row][part].two = totals.two;
    }
#pragma omp for
    for (long long row = 0; row < ROWS; row++) {
        Totals totals = partial[row][0];
        for (int part = 1; part < SPLIT; part++) {
            if constexpr (ONE) totals.one = combined<COMBINE>(totals.one, partial[row][part].one);
            if constexpr (TWO) totals.two = combined<COMBINE2>(totals.two, partial[row][part].two);
        }
        if constexpr (ONE) firsts[row] = first_of(totals.one, LENGTH);
        if constexpr (TWO) seconds[row] = second_of(totals.two, LENGTH, firsts[row]);
    }
}

// Every row in SPLIT parts that different threads take, stage by stage.
static void split_rows(const Inputs& in, float* out) {
#pragma omp parallel
    {
        split_totals<true, STAGES == 2 && FUSED>(in);
        if constexpr (STAGES == 2 && !FUSED) split_totals<false, true>(in);
        if constexpr (OUTPUT == Word::map) {
#pragma omp for schedule(dynamic)
            for (long long task = 0; task < ROWS * SPLIT; task++) {
                const long long row = task / SPLIT, begin = task % SPLIT * PART;
                const long long end = begin + PART < LENGTH ? begin + PART : LENGTH;
                write_row(in, out, row, begin, end, firsts[row], seconds[row]);
            }
        } else {
#pragma omp for
            for (long long row = 0; row < ROWS; row++) finish_row(in, out, row, firsts[row], seconds[row]);
        }
    }
}

static void run(const Inputs in, float* out) {
    if constexpr (SPLIT == 1) whole_rows(in, out);
    else split_rows(in, out);
    if constexpr (OUTPUT == Word::mean) {
        acc_t lanes[16] = {};
        for (long long row = 0; row < ROWS; row++) lanes[row % 16] += row_values[row];
        acc_t total = 0;
        for (int l = 0; l < 16; l++) total += lanes[l];
        *out = result_of(total, ROWS, LENGTH);
    }
}
