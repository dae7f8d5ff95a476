// What this CPU can do at most: bandwidth over a working set, and fp32 multiply-adds. Knows nothing of tasks.
// Each function returns seconds of its fastest repeat (a floor needs the best case) and leaves a sum in *sink, so
// that no loop can be optimised away.
#include <omp.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace {

// As wide as the registers; 12 independent sums hide the latency of the multiply-add and still fit in them.
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / sizeof(float);
constexpr int kSums = 12;
constexpr int kLeast = 3;

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Reads every element; returns something that depends on all of them.
float read(const float* a, size_t n) {
    Vector sums[kSums] = {};
    size_t i = 0;
    for (; i + kSums * kLanes <= n; i += kSums * kLanes)
        for (int j = 0; j < kSums; ++j) sums[j] += *reinterpret_cast<const Vector*>(a + i + j * kLanes);
    float total = 0.f;
    for (; i < n; ++i) total += a[i];
    for (int j = 0; j < kSums; ++j)
        for (int l = 0; l < kLanes; ++l) total += sums[j][l];
    return total;
}

void copy(float* __restrict b, const float* __restrict a, size_t n) {
    for (size_t i = 0; i < n; i += kLanes)
        *reinterpret_cast<Vector*>(b + i) = *reinterpret_cast<const Vector*>(a + i);
}

void triad(float* __restrict c, const float* __restrict a, const float* __restrict b, size_t n) {
    Vector s = {};
    s += 3.f;
    for (size_t i = 0; i < n; i += kLanes)
        *reinterpret_cast<Vector*>(c + i) =
            *reinterpret_cast<const Vector*>(a + i) + s * *reinterpret_cast<const Vector*>(b + i);
}

}  // namespace

extern "C" {

// kind: 0 read (1 array), 1 copy (2), 2 triad (3). bytes: size of all arrays together, over all threads. One repeat
// goes through the working set `passes` times; repeats until `budget` seconds are spent, at least three after one to
// warm up. Returns seconds per pass; -1 if memory is short.
double bandwidth(int kind, int64_t bytes, int passes, double budget, int threads, float* sink) {
    const int arrays = kind + 1;
    constexpr size_t kAlign = 4096;
    // Each thread owns its stretch of memory: a multiple of the vector's length per array.
    size_t n = static_cast<size_t>(bytes) / (sizeof(float) * arrays * threads);
    n -= n % kLanes;
    if (n == 0) return -1.0;
    const size_t stride = (n * sizeof(float) + kAlign - 1) / kAlign * kAlign / sizeof(float);
    float* memory = static_cast<float*>(std::aligned_alloc(kAlign, stride * sizeof(float) * arrays * threads));
    if (memory == nullptr) return -1.0;
    double best = 1e30;
    const double deadline = now() + budget;
    bool more = true;
    float total = 0.f;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        float* a = memory + stride * arrays * omp_get_thread_num();
        float* b = a + stride * (arrays > 1 ? 1 : 0);
        float* c = a + stride * (arrays > 2 ? 2 : 0);
        for (size_t i = 0; i < stride * arrays; ++i) a[i] = 1.f;
        for (int r = 0; more; ++r) {
#pragma omp barrier
            const double start = now();
            for (int p = 0; p < passes; ++p) {
                if (kind == 0) total += read(a, n);
                if (kind == 1) copy(b, a, n);
                if (kind == 2) triad(c, a, b, n);
                // The compiler may not merge passes.
                __asm__ volatile("" : : "r"(memory) : "memory");
            }
#pragma omp barrier
            const double seconds = (now() - start) / passes;
#pragma omp master
            {
                if (r > 0 && seconds < best) best = seconds;
                more = r < kLeast || now() < deadline;
            }
#pragma omp barrier
        }
        total += c[n - 1];
    }
    *sink = total;
    std::free(memory);
    return best;
}

// Returns the bytes that one pass of `bandwidth` really moves for the given arguments.
int64_t bytes_moved(int kind, int64_t bytes, int threads) {
    const int arrays = kind + 1;
    size_t n = static_cast<size_t>(bytes) / (sizeof(float) * arrays * threads);
    n -= n % kLanes;
    return static_cast<int64_t>(n * sizeof(float) * arrays * threads);
}

// fp32 multiply-adds in registers: flop per second, each multiply-add counted as two.
double multiply_add(int64_t rounds, double budget, int threads, float* sink) {
    double best = 1e30;
    const double deadline = now() + budget;
    bool more = true;
    float total = 0.f;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        Vector sums[kSums] = {};
        Vector x = {}, y = {};
        x += 0.999f;
        y += 0.001f;
        for (int r = 0; more; ++r) {
#pragma omp barrier
            const double start = now();
            for (int64_t i = 0; i < rounds; ++i)
                for (int j = 0; j < kSums; ++j) sums[j] = sums[j] * x + y;
#pragma omp barrier
            const double seconds = now() - start;
#pragma omp master
            {
                if (r > 0 && seconds < best) best = seconds;
                more = r < kLeast || now() < deadline;
            }
#pragma omp barrier
        }
        for (int j = 0; j < kSums; ++j)
            for (int l = 0; l < kLanes; ++l) total += sums[j][l];
    }
    *sink = total;
    return 2.0 * kSums * kLanes * rounds * threads / best;
}
}
