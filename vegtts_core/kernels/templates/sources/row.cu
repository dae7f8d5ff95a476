// Rows: up to two totals over each row, then a value per element or per row, or the mean of the rows' values.
// A row is SEGMENTS runs of SEGMENT elements; run g of row r starts at (g * ROWS + r) * SEGMENT.
// SPLIT blocks share a row. They draw tickets, so that the blocks of a row run together whatever order the device
// starts them in, and wait for each other at a counter of the row; the last to leave resets it for the next launch.
constexpr long long LENGTH = SEGMENTS * SEGMENT;
constexpr int V = SEGMENT % VECTOR == 0 && PIECE % VECTOR == 0 ? VECTOR : 1;
constexpr long long PART = (LENGTH / V + SPLIT - 1) / SPLIT * V;
constexpr bool SHARED = SPLIT > 1 || OUTPUT == Word::mean;

__device__ unsigned int tickets, finished;
__device__ unsigned int arrived[SPLIT > 1 ? ROWS : 1], gone[SPLIT > 1 ? ROWS : 1];
__device__ acc_t partial[2][SPLIT > 1 ? ROWS : 1][SPLIT];
__device__ acc_t row_values[OUTPUT == Word::mean ? ROWS : 1];

template <class Work> HOLE void each_vector(const Inputs& in, long long row, long long begin, long long end, Work work) {
#pragma unroll ITEMS
    for (long long j = begin + (long long)threadIdx.x * V; j < end; j += BLOCK * V) {
        const long long run = SEGMENTS == 1 ? 0 : j / SEGMENT, i = (run * ROWS + row) * SEGMENT + (j - run * SEGMENT);
        float values[ELEMENTS][V];
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) load<V>(values[e], element_input(in, e) + i);
        work(i, j, values);
    }
}

// The total over all parts of a row. `number` counts the stages of a launch from 1.
template <Word OPERATOR> HOLE acc_t row_total(acc_t value, long long row, int part, int stage, unsigned int number) {
    acc_t total = block_total<OPERATOR>(value);
    if constexpr (SPLIT > 1) {
        if (threadIdx.x == 0) {
            partial[stage][row][part] = total;
            __threadfence();
            atomicAdd(&arrived[row], 1u);
            while (*(volatile unsigned int*)&arrived[row] < number * SPLIT) __nanosleep(32);
            __threadfence();
        }
        __syncthreads();
        total = *(volatile acc_t*)&partial[stage][row][0];
        for (int other = 1; other < SPLIT; other++)
            total = combined<OPERATOR>(total, (acc_t)*(volatile acc_t*)&partial[stage][row][other]);
    }
    return total;
}

template <bool ONE, bool TWO> HOLE void totals_of(const Inputs& in, long long row, long long begin, long long end, float first, acc_t& one, acc_t& two) {
    acc_t ones[V], twos[V];
    for (int v = 0; v < V; v++) ones[v] = neutral<COMBINE>(), twos[v] = neutral<COMBINE2>();
    each_vector(in, row, begin, end, [&](long long i, long long j, const float (&values)[ELEMENTS][V]) {
#pragma unroll
        for (int v = 0; v < V; v++) {
            float x[ELEMENTS];
            for (int e = 0; e < ELEMENTS; e++) x[e] = values[e][v];
            if constexpr (ONE) ones[v] = combined<COMBINE>(ones[v], (acc_t)element_of(x, in, i + v, row, j + v));
            if constexpr (TWO) twos[v] = combined<COMBINE2>(twos[v], (acc_t)element2_of(x, in, i + v, row, j + v, first));
        }
    });
    for (int v = 1; v < V; v++) ones[0] = combined<COMBINE>(ones[0], ones[v]), twos[0] = combined<COMBINE2>(twos[0], twos[v]);
    one = ones[0], two = twos[0];
}

HOLE void one_row(const Inputs& in, float* out, long long row, int part) {
    const long long begin = part * PART, end = begin + PART < LENGTH ? begin + PART : LENGTH;
    acc_t one, two, unused;
    totals_of<true, STAGES == 2 && FUSED>(in, row, begin, end, 0.f, one, two);
    one = row_total<COMBINE>(one, row, part, 0, 1);
    const float first = first_of(one, LENGTH);
    float second = 0.f;
    if constexpr (STAGES == 2) {
        if constexpr (!FUSED) totals_of<false, true>(in, row, begin, end, first, unused, two);
        second = second_of(row_total<COMBINE2>(two, row, part, 1, 2), LENGTH, first);
    }
    if constexpr (OUTPUT == Word::map) {
        each_vector(in, row, begin, end, [&](long long i, long long j, const float (&values)[ELEMENTS][V]) {
            float y[V];
#pragma unroll
            for (int v = 0; v < V; v++) {
                float x[ELEMENTS];
                for (int e = 0; e < ELEMENTS; e++) x[e] = values[e][v];
                y[v] = y_of(x, in, i + v, row, (j + v) / PIECE, j + v, first, second);
            }
            store<V>(out + i, y);
        });
    } else if (part == 0 && threadIdx.x == 0) {
        if constexpr (OUTPUT == Word::value) out[row] = value_of(in, row, first, second);
        else row_values[row] = value_of(in, row, first, second);
    }
    if constexpr (SPLIT > 1) {
        __syncthreads();
        if (threadIdx.x == 0 && atomicAdd(&gone[row], 1u) == SPLIT - 1) gone[row] = 0, arrived[row] = 0;
    }
}

HOLE void run(const Inputs in, float* out) {
    __shared__ unsigned int shared_ticket;
    unsigned int ticket = blockIdx.x;
    if constexpr (SPLIT > 1) {
        if (threadIdx.x == 0) shared_ticket = atomicAdd(&tickets, 1u);
        __syncthreads();
        ticket = shared_ticket;
    }
    one_row(in, out, ticket / SPLIT, ticket % SPLIT);
    if constexpr (SHARED) {
        if (threadIdx.x == 0) {
            __threadfence();
            shared_ticket = atomicAdd(&finished, 1u);
        }
        __syncthreads();
        if (shared_ticket != gridDim.x - 1) return;
        __threadfence();
        if constexpr (OUTPUT == Word::mean) {
            acc_t total = 0;
            for (long long row = threadIdx.x; row < ROWS; row += BLOCK) total += *(volatile acc_t*)&row_values[row];
            total = block_total<Word::sum>(total);
            if (threadIdx.x == 0) *out = result_of(total, ROWS, LENGTH);
        }
        if (threadIdx.x == 0) tickets = 0, finished = 0;
    }
}
