// Matmul: C[b] = A[b] B[b] in tiles of TILE_M x TILE_N; a thread packs TILE_K of the inner dimension at a time.
// A register block has THREAD_M rows and THREAD_N vectors of columns. SPLIT_K threads may share a tile's inner range.
#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
typedef float lane_t __attribute__((vector_size(LANES * 4)));
constexpr int MR = THREAD_M, NR = THREAD_N * LANES;
constexpr long long TILES_M = (M + TILE_M - 1) / TILE_M, TILES_N = (N + TILE_N - 1) / TILE_N, TILES = BATCH * TILES_M * TILES_N;
constexpr long long PADDED_M = (TILE_M + MR - 1) / MR * MR, PADDED_N = (TILE_N + NR - 1) / NR * NR;
constexpr long long PART_K = ((K + SPLIT_K - 1) / SPLIT_K + TILE_K - 1) / TILE_K * TILE_K;

static float parts[SPLIT_K > 1 ? SPLIT_K * BATCH * M * N : 1];

struct Tile { long long batch, m, n, rows, columns; };
HOLE Tile tile_at(long long index) {
    Tile tile;
    tile.batch = index / (TILES_M * TILES_N);
    tile.m = index / TILES_N % TILES_M * TILE_M, tile.n = index % TILES_N * TILE_N;
    tile.rows = M - tile.m < TILE_M ? M - tile.m : TILE_M, tile.columns = N - tile.n < TILE_N ? N - tile.n : TILE_N;
    return tile;
}

// sums[PADDED_M][PADDED_N] += a[PADDED_M / MR][depth][MR] * b[PADDED_N / NR][depth][NR]
HOLE void multiply(float* sums, const float* a, const float* b, long long rows, long long columns, long long depth) {
    for (long long n = 0; n < columns; n += NR)
        for (long long m = 0; m < rows; m += MR) {
            const float* pa = a + m * TILE_K;
            const float* pb = b + n * TILE_K;
            lane_t sum[MR][THREAD_N];
#pragma GCC unroll 16
            for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
                for (int v = 0; v < THREAD_N; v++) memcpy(&sum[r][v], sums + (m + r) * PADDED_N + n + v * LANES, LANES * 4);
            for (long long k = 0; k < depth; k++, pa += MR, pb += NR) {
                lane_t column[THREAD_N];
#pragma GCC unroll 16
                for (int v = 0; v < THREAD_N; v++) memcpy(&column[v], pb + v * LANES, LANES * 4);
#pragma GCC unroll 16
                for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
                    for (int v = 0; v < THREAD_N; v++) sum[r][v] += pa[r] * column[v];
            }
#pragma GCC unroll 16
            for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
                for (int v = 0; v < THREAD_N; v++) memcpy(sums + (m + r) * PADDED_N + n + v * LANES, &sum[r][v], LANES * 4);
        }
}

// Sums of a tile over the part [from, to) of the inner dimension, within what k_begin and k_end leave of it.
static void tile_sums(const float* A, const float* B, const Tile& tile, long long from, long long to, float* sums, float* a, float* b) {
    const long long begin = k_begin_of(tile.m, tile.m + tile.rows - 1, tile.n, tile.n + tile.columns - 1);
    const long long end = k_end_of(tile.m, tile.m + tile.rows - 1, tile.n, tile.n + tile.columns - 1);
    from = from > begin ? from : begin, to = to < end ? to : end;
    const float* A0 = A + tile.batch * A_BATCH + tile.m * A_M;
    const float* B0 = B + tile.batch * B_BATCH + tile.n * B_N;
    for (long long i = 0; i < PADDED_M * PADDED_N; i++) sums[i] = 0.f;
    for (long long k0 = from; k0 < to; k0 += TILE_K) {
        const long long depth = to - k0 < TILE_K ? to - k0 : TILE_K;
        for (long long m = 0; m < tile.rows; m += MR)
            for (long long k = 0; k < depth; k++)
                for (int r = 0; r < MR; r++)
                    a[m * TILE_K + k * MR + r] = m + r < tile.rows ? A0[(m + r) * A_M + (k0 + k) * A_K] : 0.f;
        for (long long n = 0; n < tile.columns; n += NR)
            for (long long k = 0; k < depth; k++) {
                const float* from_b = B0 + (k0 + k) * B_K + n * B_N;
                float* to_b = b + n * TILE_K + k * NR;
                if (n + NR <= tile.columns) for (int c = 0; c < NR; c++) to_b[c] = from_b[c * B_N];
                else for (int c = 0; c < NR; c++) to_b[c] = n + c < tile.columns ? from_b[c * B_N] : 0.f;
            }
        multiply(sums, a, b, tile.rows, tile.columns, depth);
    }
}

static void run(const float* A, const float* B, float* out) {
#pragma omp parallel
    {
        float* buffer = (float*)aligned_alloc(64, ((PADDED_M * PADDED_N + PADDED_M * TILE_K + PADDED_N * TILE_K) * 4 + 63) / 64 * 64);
        float *a = buffer + PADDED_M * PADDED_N, *b = a + PADDED_M * TILE_K;
#pragma omp for schedule(dynamic)
        for (long long task = 0; task < TILES * SPLIT_K; task++) {
            const Tile tile = tile_at(task / SPLIT_K);
            const long long part = task % SPLIT_K, from = part * PART_K, to = from + PART_K < K ? from + PART_K : K;
            tile_sums(A, B, tile, from, to, buffer, a, b);
            float* to_sums = SPLIT_K > 1 ? parts + part * BATCH * M * N : out;
            for (long long m = 0; m < tile.rows; m++)
                for (long long n = 0; n < tile.columns; n++) {
                    const float sum = buffer[m * PADDED_N + n];
                    to_sums[(tile.batch * M + tile.m + m) * N + tile.n + n] = SPLIT_K > 1 ? sum : c_of(sum, tile.m + m, tile.n + n);
                }
        }
        free(buffer);
        if constexpr (SPLIT_K > 1) {
#pragma omp for
            for (long long i = 0; i < BATCH * M * N; i++) {
                float sum = 0.f;
                for (int part = 0; part < SPLIT_K; part++) sum += parts[part * BATCH * M * N + i];
                out[i] = c_of(sum, i / N % M, i % N);
            }
        }
    }
}
