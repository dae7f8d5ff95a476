// What the evaluator does with every element between timed calls, in one pass each: draw, hold against the reference.
// Arrays of lanes, because a compiler may not reorder floating-point sums: what it may do is to keep these in vectors.

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>

#if defined(__CLFLUSHOPT__)
#include <immintrin.h>
#endif

namespace {

constexpr int kLanes = 16;
constexpr int64_t kBlock = 4096;  // elements that are summed up in float32 before they go into a double

struct Lanes {
    uint32_t s[4][kLanes];
};

// splitmix64, which xoshiro's authors fill its state with: other seeds and lanes have nothing in common.
uint64_t mixed(uint64_t& state) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

inline uint32_t rotated(uint32_t x, int k) { return (x << k) | (x >> (32 - k)); }

inline void draw(Lanes& g, float* out) {
    for (int i = 0; i < kLanes; i++) {
        const uint32_t bits = rotated(g.s[0][i] + g.s[3][i], 7) + g.s[0][i];
        out[i] = static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f;
        const uint32_t t = g.s[1][i] << 9;
        g.s[2][i] ^= g.s[0][i];
        g.s[3][i] ^= g.s[1][i];
        g.s[1][i] ^= g.s[2][i];
        g.s[0][i] ^= g.s[3][i];
        g.s[2][i] ^= t;
        g.s[3][i] = rotated(g.s[3][i], 11);
    }
}

// Maxima lose NaN, and sums keep it: NaN if anything was not finite on the way.
float largest_of(const float* most, const float* sums) {
    float largest = 0, sum = 0;
    for (int i = 0; i < kLanes; i++) {
        largest = most[i] > largest ? most[i] : largest;
        sum += sums[i];
    }
    return std::isfinite(sum) ? largest : NAN;
}

}  // namespace

// Write every line of this memory back and out of the caches of all cores; whether this CPU can.
extern "C" int flush(const char* start, int64_t bytes) {
    constexpr int64_t line = 64;
#if defined(__CLFLUSHOPT__)
    for (int64_t k = 0; k < bytes; k += line) _mm_clflushopt(const_cast<char*>(start + k));
    _mm_sfence();
    return 1;
#elif defined(__aarch64__)
    for (int64_t k = 0; k < bytes; k += line) asm volatile("dc civac, %0" ::"r"(start + k) : "memory");
    asm volatile("dsb ish" ::: "memory");
    return 1;
#else
    (void)start, (void)bytes, (void)line;
    return 0;
#endif
}

// Seconds that a word takes from one core to another and back: the quickest of some rounds. Negative if a thread may not
// run there.
extern "C" double round_trip(int32_t one, int32_t other) {
    constexpr int rounds = 20, trips = 20;
    struct alignas(128) {
        std::atomic<int> said{0};
    } word;
    std::atomic<int> placed{0};
    const auto place = [&placed](int32_t core) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(core, &cores);
        placed += pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0 ? 1 : 3;
        while (placed == 1) std::this_thread::yield();
        return placed == 2;
    };
    double best = -1;
    std::thread answering([&] {
        if (!place(other)) return;
        for (int k = 0; k < rounds * trips; k++) {
            while (word.said.load(std::memory_order_acquire) != 2 * k + 1) {}
            word.said.store(2 * k + 2, std::memory_order_release);
        }
    });
    std::thread asking([&] {
        if (!place(one)) return;
        for (int round = 0, k = 0; round < rounds; round++) {
            const auto start = std::chrono::steady_clock::now();
            for (int t = 0; t < trips; t++, k++) {
                word.said.store(2 * k + 1, std::memory_order_release);
                while (word.said.load(std::memory_order_acquire) != 2 * k + 2) {}
            }
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            best = best < 0 ? took.count() : std::min(best, took.count());
        }
    });
    answering.join();
    asking.join();
    return best < 0 ? best : best / trips;
}

// U[0, 1) in multiples of 2^-24, as torch.rand draws it: sixteen generators xoshiro128++ (Blackman and Vigna, public
// domain) side by side.
extern "C" void fill_uniform(float* out, int64_t count, uint64_t seed) {
    Lanes g;
    for (int i = 0; i < kLanes; i++)
        for (int k = 0; k < 4; k += 2) {
            const uint64_t two = mixed(seed);
            g.s[k][i] = static_cast<uint32_t>(two);
            g.s[k + 1][i] = static_cast<uint32_t>(two >> 32);
        }
    int64_t place = 0;
    for (; place + kLanes <= count; place += kLanes) draw(g, out + place);
    if (place < count) {
        float last[kLanes];
        draw(g, last);
        std::memcpy(out + place, last, sizeof(float) * static_cast<size_t>(count - place));
    }
}

// The largest |y - r| - budget * |r| (at least 0), and the sum of r * r. NaN if either is not finite on the way.
extern "C" float largest_excess(const float* y, const float* r, int64_t count, float budget, double* squares) {
    float most[kLanes] = {};
    float largest = 0;
    *squares = 0;
    for (int64_t start = 0; start < count; start += kBlock) {
        const int64_t end = start + kBlock < count ? start + kBlock : count;
        float sums[kLanes] = {}, square[kLanes] = {};
        int64_t place = start;
        for (; place + kLanes <= end; place += kLanes)
            for (int i = 0; i < kLanes; i++) {
                const float size = std::fabs(r[place + i]), off = std::fabs(y[place + i] - r[place + i]);
                const float excess = off - budget * size;
                most[i] = excess > most[i] ? excess : most[i];
                sums[i] += off;
                square[i] += size * size;
            }
        for (; place < end; place++) {
            const float size = std::fabs(r[place]), off = std::fabs(y[place] - r[place]);
            most[0] = off - budget * size > most[0] ? off - budget * size : most[0];
            sums[0] += off;
            square[0] += size * size;
        }
        for (int i = 0; i < kLanes; i++) *squares += square[i];
        largest = largest_of(most, sums);
        if (!(largest >= 0)) return NAN;
    }
    return std::isfinite(*squares) ? largest : NAN;
}

// The largest |y - r| / (|r| + s), where s is the row's scale, or with `x` the smaller of it and |x| (0 where that is
// NaN). NaN if anything is not finite on the way.
extern "C" float largest_error(const float* y, const float* r, const float* x, const float* scales, int64_t rows,
                               int64_t columns) {
    constexpr float tiny = 0x1p-126f;
    float largest = 0;
    for (int64_t row = 0; row < rows; row++) {
        const float scale = scales[row];
        const auto error = [&](int64_t k) {
            float s = scale;
            if (x != nullptr) {
                const float size = std::fabs(x[k]);
                s = size < scale ? size : size == size ? scale : 0.0f;
            }
            const float whole = std::fabs(r[k]) + s;
            return std::fabs(y[k] - r[k]) / (whole > tiny ? whole : whole == whole ? tiny : whole);
        };
        float most[kLanes] = {}, sums[kLanes] = {};
        int64_t place = row * columns;
        const int64_t end = place + columns;
        for (; place + kLanes <= end; place += kLanes)
            for (int i = 0; i < kLanes; i++) {
                const float e = error(place + i);
                most[i] = e > most[i] ? e : most[i];
                sums[i] += e;
            }
        for (; place < end; place++) {
            const float e = error(place);
            most[0] = e > most[0] ? e : most[0];
            sums[0] += e;
        }
        const float found = largest_of(most, sums);
        if (!(found >= 0)) return NAN;
        largest = found > largest ? found : largest;
    }
    return largest;
}
