"""What this GPU can do at most, measured: bandwidth by working set, and the fastest arithmetic that is float32 enough.

Bandwidth is that of copies and sums (bytes read plus bytes written), over and over on the same data: small sets come
from the second-level cache. Arithmetic is a large matrix product on the tensor cores with TF32 operands: float32
results can be put together from such products, so nothing honest is faster per operation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from vegtts_core.evaluator.floors import remembered
from vegtts_core.kernels.ceilings import MIB, Ceilings, Rung

_LADDER = (1 * MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB, 4096 * MIB)
_MATRIX = 8192
_REPEATS = 12


def gpu_ceilings(anew: bool = False) -> Ceilings:
    """Ceilings of the first GPU, kept in the cache folder; ``anew`` measures, and keeps the higher of old and new."""
    return remembered(f"{torch.cuda.get_device_name(0)} {torch.version.cuda}", _measure, anew)


def _measure() -> Ceilings:
    torch.cuda.empty_cache()
    rungs = [Rung(size, _bandwidth(size)) for size in _LADDER if size < torch.cuda.mem_get_info(0)[0] // 4]
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        a, b = (torch.rand(_MATRIX, _MATRIX, device="cuda") for _ in range(2))
        out = torch.empty_like(a)
        flop = 2 * _MATRIX**3 / _fastest(lambda: torch.mm(a, b, out=out))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    properties = torch.cuda.get_device_properties(0)
    cache = properties.L2_cache_size
    last = rungs[-1]
    return Ceilings(last.bytes_per_second, flop, 0, properties.name, tuple(rungs), cache, last.working_set > cache)


def _bandwidth(working_set: int) -> float:
    """The best of a copy by the copy engine, one by a kernel, and a kernel that only reads; bytes per second."""
    source = torch.rand(working_set // 8, device="cuda")
    target = torch.empty_like(source)
    both = torch.rand(working_set // 4, device="cuda")
    total = torch.empty((), device="cuda")
    passes = max(1, 64 * MIB // working_set)  # one pass over a small set is shorter than its launch
    ways: tuple[Callable[[], object], ...] = (
        lambda: target.copy_(source),
        lambda: torch.add(source, 1.0, out=target),
        lambda: torch.sum(both, dim=0, out=total),
    )
    return passes * working_set / min(_fastest(lambda way=way: [way() for _ in range(passes)]) for way in ways)


def _fastest(call: Callable[[], object]) -> float:
    """Least seconds of a call between events, with the launches queued behind other work."""
    seconds = []
    busy = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    for _ in range(_REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        busy.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return min(seconds)
