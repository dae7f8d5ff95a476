// Matmul: C[b] = A[b] B[b]; a block makes a tile of TILE_M x TILE_N, a thread THREAD_M x THREAD_N of it, and TILE_K of the
// inner dimension lies in shared memory at a time. SPLIT_K blocks may share a tile's inner range: each leaves its sums,
// and the last to arrive adds them up in a fixed order.
constexpr int ACROSS = TILE_N / THREAD_N, DOWN = TILE_M / THREAD_M, THREADS = ACROSS * DOWN;
constexpr long long TILES_M = (M + TILE_M - 1) / TILE_M, TILES_N = (N + TILE_N - 1) / TILE_N, TILES = BATCH * TILES_M * TILES_N;
constexpr long long PART_K = ((K + SPLIT_K - 1) / SPLIT_K + TILE_K - 1) / TILE_K * TILE_K;

__device__ float parts[SPLIT_K > 1 ? SPLIT_K * BATCH * M * N : 1];
__device__ unsigned int arrived[SPLIT_K > 1 ? TILES : 1];

HOLE void run(const float* A, const float* B, float* out) {
    __shared__ float a[TILE_K][TILE_M + 1], b[TILE_K][TILE_N + 1];
    __shared__ bool last;
    const long long index = blockIdx.x / SPLIT_K;
    const int part = blockIdx.x % SPLIT_K, thread = threadIdx.x, tx = thread % ACROSS, ty = thread / ACROSS;
    const long long batch = index / (TILES_M * TILES_N), m0 = index / TILES_N % TILES_M * TILE_M, n0 = index % TILES_N * TILE_N;
    const long long last_m = (m0 + TILE_M < M ? m0 + TILE_M : M) - 1, last_n = (n0 + TILE_N < N ? n0 + TILE_N : N) - 1;
    const long long begin = k_begin_of(m0, last_m, n0, last_n), end = k_end_of(m0, last_m, n0, last_n);
    long long from = part * PART_K, to = from + PART_K < K ? from + PART_K : K;
    from = from > begin ? from : begin, to = to < end ? to : end;
    const float *A0 = A + batch * A_BATCH, *B0 = B + batch * B_BATCH;
    float sum[THREAD_M][THREAD_N] = {};
    for (long long k0 = from; k0 < to; k0 += TILE_K) {
        // Threads run along the dimension that is contiguous in memory.
#pragma unroll 4
        for (int i = thread; i < TILE_M * TILE_K; i += THREADS) {
            const int m = A_K == 1 ? i / TILE_K : i % TILE_M, k = A_K == 1 ? i % TILE_K : i / TILE_M;
            a[k][m] = m0 + m < M && k0 + k < to ? __ldg(A0 + (m0 + m) * A_M + (k0 + k) * A_K) : 0.f;
        }
#pragma unroll 4
        for (int i = thread; i < TILE_N * TILE_K; i += THREADS) {
            const int n = B_N == 1 ? i % TILE_N : i / TILE_K, k = B_N == 1 ? i / TILE_N : i % TILE_K;
            b[k][n] = n0 + n < N && k0 + k < to ? __ldg(B0 + (k0 + k) * B_K + (n0 + n) * B_N) : 0.f;
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < TILE_K; k++) {
            float rows[THREAD_M], columns[THREAD_N];
#pragma unroll
            for (int m = 0; m < THREAD_M; m++) rows[m] = a[k][ty + m * DOWN];
#pragma unroll
            for (int n = 0; n < THREAD_N; n++) columns[n] = b[k][tx + n * ACROSS];
#pragma unroll
            for (int m = 0; m < THREAD_M; m++)
#pragma unroll
                for (int n = 0; n < THREAD_N; n++) sum[m][n] = fmaf(rows[m], columns[n], sum[m][n]);
        }
        __syncthreads();
    }
    if constexpr (SPLIT_K > 1) {
#pragma unroll
        for (int m = 0; m < THREAD_M; m++)
#pragma unroll
            for (int n = 0; n < THREAD_N; n++) {
                const long long row = m0 + ty + m * DOWN, column = n0 + tx + n * ACROSS;
                if (row < M && column < N) parts[((part * BATCH + batch) * M + row) * N + column] = sum[m][n];
            }
        __threadfence();
        __syncthreads();
        if (thread == 0) {
            last = atomicAdd(&arrived[index], 1u) == SPLIT_K - 1;
            if (last) arrived[index] = 0;
        }
        __syncthreads();
        if (!last) return;
        __threadfence();
    }
#pragma unroll
    for (int m = 0; m < THREAD_M; m++)
#pragma unroll
        for (int n = 0; n < THREAD_N; n++) {
            const long long row = m0 + ty + m * DOWN, column = n0 + tx + n * ACROSS;
            if (row >= M || column >= N) continue;
            float total = sum[m][n];
            if constexpr (SPLIT_K > 1) {
                total = 0.f;
                for (int other = 0; other < SPLIT_K; other++) total += __ldcg(&parts[((other * BATCH + batch) * M + row) * N + column]);
            }
            out[(batch * M + row) * N + column] = c_of(total, row, column);
        }
}
