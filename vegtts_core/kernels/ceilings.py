"""What this CPU can do at most, measured: memory and cache bandwidth, fp32 multiply-adds; and a task's time floor.

It knows numbers of operations and bytes, not tasks. The measurement (about two seconds) runs in a process of its own:
its OpenMP threads would otherwise stay in a process that the evaluator forks.

Run ``python -m vegtts_core.kernels.ceilings`` to see the ceilings of this machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from vegtts_core.errors import UserError
from vegtts_core.kernels import cpp

KIB, MIB = 1 << 10, 1 << 20

#: Sizes of the working sets, in bytes, over all threads; one beyond the last-level cache is added where memory allows.
LADDER = (64 * KIB, 512 * KIB, 4 * MIB, 16 * MIB, 64 * MIB)

#: Never touch more than this for the measurement from memory.
LARGEST = 768 * MIB

_KINDS = 3
# Short repeats, many of them: one that no other process interrupts is among them even on a busy machine.
_REPEAT_BYTES = 64 * MIB
_REPEAT_ROUNDS = 200_000
_BUDGET_SECONDS = 0.07


@dataclass(frozen=True)
class Rung:
    """Best bandwidth (of read, copy and triad; bytes read plus bytes written) over a working set."""

    working_set: int
    bytes_per_second: float


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at most.

    ``bytes_per_second``: from memory, that is over the largest working set measured; ``flop_per_second``: fp32, a
    multiply-add counting as two; ``rungs``: bandwidth by working set, smallest first; ``last_level_cache``: its bytes
    as the system reports them, 0 if it does not (a virtual machine may report a cache that it shares with others).
    ``beyond_cache`` says whether the largest working set exceeded that cache: if not, "from memory" is partly the
    cache. On a busy machine the numbers are too low, and floors made of them too high.
    """

    bytes_per_second: float
    flop_per_second: float
    threads: int
    cpu_model: str
    rungs: tuple[Rung, ...]
    last_level_cache: int
    beyond_cache: bool

    def bandwidth(self, working_set: float) -> float:
        """The highest bandwidth (bytes/s) at which a working set of so many bytes can be moved.

        That of the largest measured working set that is not larger: a smaller one sits in a faster cache. Never less
        than that of any larger one.
        """
        smaller = [rung.working_set for rung in self.rungs if rung.working_set <= working_set]
        start = max(smaller, default=0)
        return max(rung.bytes_per_second for rung in self.rungs if rung.working_set >= start)


def floor_seconds(flop: float, bytes_moved: float, ceilings: Ceilings) -> float:
    """The least time in seconds in which a task of ``flop`` operations and ``bytes_moved`` bytes can be done.

    The longer of the two: operations at the peak, bytes at the bandwidth of the level of memory that holds them (the
    bytes are taken to be moved once each, so that they are also the working set). A measured time below the floor is a
    fault of the measurement, with these exceptions: an algorithm that needs fewer operations (Winograd, FFT, Strassen),
    arithmetic below fp32 (bf16, int8 and matrix units are not in the peak), and data that a loop keeps in registers or
    in a core's first cache (working sets below the smallest rung).

    A floor is not a promise: launch costs, transcendental functions, dependencies (scans) and uneven work come on top.
    Raises ValueError for negative arguments.
    """
    if flop < 0 or bytes_moved < 0:
        raise ValueError(f"A task cannot have {flop} operations and {bytes_moved} bytes: both must be at least 0.")
    by_bytes = bytes_moved / ceilings.bandwidth(bytes_moved) if bytes_moved else 0.0
    return max(flop / ceilings.flop_per_second, by_bytes)


def last_level_cache() -> int:
    """Bytes of the largest cache of CPU 0 as Linux reports it; 0 where it does not."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        units = {"K": KIB, "M": MIB, "G": 1 << 30}
        sizes.append(int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text or 0))
    return max(sizes)


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _sizes(cache_bytes: int) -> list[int]:
    """The ladder with a last step that no cache holds, within ``LARGEST`` and a quarter of the free memory."""
    memory = min(max(256 * MIB, 2 * cache_bytes), LARGEST, max(_free_memory() // 4, LADDER[-1]))
    return sorted({size for size in LADDER if size < memory} | {memory})


def _measure_here(threads: int) -> Ceilings:
    source = (resources.files("vegtts_core.kernels") / "ceilings.cpp").read_text(encoding="utf-8")
    library = cpp.load(source)
    library.bandwidth.restype = library.multiply_add.restype = ctypes.c_double
    library.bytes_moved.restype = ctypes.c_int64
    sink = ctypes.byref(ctypes.c_float())
    budget = ctypes.c_double(_BUDGET_SECONDS)
    cache_bytes = last_level_cache()
    rungs = []
    for size in _sizes(cache_bytes):
        passes = max(1, _REPEAT_BYTES // size)
        best = 0.0
        for kind in range(_KINDS):
            seconds = library.bandwidth(kind, ctypes.c_int64(size), passes, budget, threads, sink)
            if seconds > 0:
                best = max(best, library.bytes_moved(kind, ctypes.c_int64(size), threads) / seconds)
        if best > 0:
            rungs.append(Rung(size, best))
    flop = library.multiply_add(ctypes.c_int64(_REPEAT_ROUNDS), budget, threads, sink)
    last = rungs[-1]
    return Ceilings(
        last.bytes_per_second, flop, threads, cpp.cpu_model(), tuple(rungs), cache_bytes, last.working_set > cache_bytes
    )


@cache
def measure(threads: int = 2) -> Ceilings:
    """Measure this CPU with so many threads (at most one per core that this process may use), once per process.

    Raises UserError if there is no compiler, or if the measurement fails.
    """
    source = (resources.files("vegtts_core.kernels") / "ceilings.cpp").read_text(encoding="utf-8")
    # Compiled here so that a missing compiler is a plain sentence; the child finds the library in the cache.
    cpp.compile_library(source)
    usable = max(1, min(threads, len(os.sched_getaffinity(0))))
    command = [sys.executable, "-m", "vegtts_core.kernels.ceilings", str(usable)]
    # A limit on OpenMP's threads in this environment is not a limit of the device.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC")
    }
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        raise UserError(f"The ceilings of this CPU could not be measured ({reason}): free some memory and try again.")
    fields = json.loads(result.stdout)
    fields["rungs"] = tuple(Rung(**rung) for rung in fields["rungs"])
    return Ceilings(**fields)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure_here(int(sys.argv[1]) if len(sys.argv) > 1 else 2)), indent=2))
