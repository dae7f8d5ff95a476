// Scan: running totals along rows. A block has BLOCK / TOGETHER threads for each of TOGETHER rows; it moves along them
// in chunks of ITEMS consecutive elements per thread, and carries each row's total from chunk to chunk.
constexpr bool REVERSED = ORDER == Word::backward;
constexpr int THREADS = BLOCK / TOGETHER;
constexpr long long CHUNK = (long long)THREADS * ITEMS;

HOLE void run(const Inputs in, float* out) {
    __shared__ acc_t warps[2][TOGETHER][THREADS / 32];
    const long long row = (long long)blockIdx.x * TOGETHER + threadIdx.y;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    acc_t carry = neutral<COMBINE>();
    int turn = 0;
    for (long long start = 0; start < LENGTH; start += CHUNK, turn ^= 1) {
        const long long j = start + threadIdx.x * ITEMS;
        acc_t local[ITEMS + 1];
        local[0] = neutral<COMBINE>();
#pragma unroll
        for (int item = 0; item < ITEMS; item++) {
            acc_t element = neutral<COMBINE>();
            if (row < ROWS && j + item < LENGTH) {
                const long long place = REVERSED ? LENGTH - 1 - (j + item) : j + item;
                element = element_of(in, row * LENGTH + place);
            }
            local[item + 1] = combined<COMBINE>(local[item], element);
        }
        // Inclusive totals of the threads of a warp, then of the warps.
        acc_t before = local[ITEMS];
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const acc_t other = __shfl_up_sync(0xffffffffu, before, distance);
            if (lane >= distance) before = combined<COMBINE>(other, before);
        }
        if (lane == 31) warps[turn][threadIdx.y][warp] = before;
        __syncthreads();
        before = __shfl_up_sync(0xffffffffu, before, 1);
        if (lane == 0) before = neutral<COMBINE>();
        acc_t earlier = carry, whole = carry;
        for (int w = 0; w < THREADS / 32; w++) {
            if (w == warp) earlier = whole;
            whole = combined<COMBINE>(whole, warps[turn][threadIdx.y][w]);
        }
        before = combined<COMBINE>(earlier, before);
        carry = whole;
#pragma unroll
        for (int item = 0; item < ITEMS; item++)
            if (row < ROWS && j + item < LENGTH) {
                const long long place = REVERSED ? LENGTH - 1 - (j + item) : j + item;
                out[row * LENGTH + place] = (float)combined<COMBINE>(before, local[item + (INCLUDE == Word::inclusive ? 1 : 0)]);
            }
    }
}
