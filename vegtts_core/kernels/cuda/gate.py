"""The evaluator's own kernels: one that does nothing, one that flushes the cache, and the launch gate.

The host needs some ten to a hundred microseconds to queue a launch from Python. A device that has nothing else to do by
then starts the clock early and waits for the kernel while the clock runs. So a timed call is queued behind the gate, a
kernel that spins until the host says that everything has been queued: the host's speed is then in no time, neither in
the launcher's nor in the evaluator's process. The gate opens by itself after `LIMIT_NANOSECONDS`, since a reference may
wait for the device while the gate is closed. The flush is a kernel, too: a memset of the driver's may run on another
engine, whose hand-over to the kernel would be in the time.
"""

from __future__ import annotations

#: Name of the kernel that waits: (flag in host memory, turn, limit in nanoseconds). It ends when flag reaches turn.
GATE = "gate"
#: Name of the kernel that writes over memory: (address, number of 16-byte words).
FLUSH = "flush"
#: Its launch: the words are gone over in strides of the grid, whatever its size.
FLUSH_GRID, FLUSH_BLOCK = (1056, 1, 1), (512, 1, 1)
#: Longest wait at a gate: some thousand launches are queued in that time.
LIMIT_NANOSECONDS = 20_000_000

SOURCE = """
extern "C" __global__ void kernel(float* out) {}

extern "C" __global__ void flush(uint4* words, unsigned long long count) {
  for (unsigned long long i = blockIdx.x * 512ull + threadIdx.x; i < count; i += gridDim.x * 512ull)
    words[i] = make_uint4(0, 0, 0, 0);
}

extern "C" __global__ void gate(const unsigned* flag, unsigned turn, unsigned long long limit) {
  unsigned now;
  unsigned long long start, time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(now) : "l"(flag) : "memory");
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  } while (static_cast<int>(now - turn) < 0 && time - start < limit);
}
"""
