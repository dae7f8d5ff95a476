"""One pass over memory for what the evaluator does with every element between timed calls; see ``native.cpp``.

In torch each of these takes several passes, or one that is slow, and together they took longer than the calls. They are
for tensors on the CPU in float32 (`fits`) and without NaN or infinities: who gets NaN back looks again, element by
element. All raise UserError if there is no compiler. Nothing here knows tasks or processes.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from importlib import resources

import torch

from vegtts_core.kernels import cpp

#: Relative error of the sums in ``native.cpp``, a few times over.
_SUMS_ERROR = 1e-4


def fits(*tensors: torch.Tensor) -> bool:
    """Whether the functions of this module take these."""
    return all(x.device.type == "cpu" and x.dtype is torch.float32 and x.is_contiguous() for x in tensors)


def fill_uniform(x: torch.Tensor, seed: int) -> None:
    """Fill with U[0, 1), in multiples of 2**-24 as torch draws it, in other bits than torch's of that seed."""
    if not fits(x):
        raise ValueError(f"not a contiguous float32 tensor on the CPU: {x.dtype} on {x.device}")
    _library().fill_uniform(x.data_ptr(), x.numel(), seed)


def flush(address: int, size: int) -> bool:
    """Write ``size`` bytes, from a whole line on, back to memory and out of every cache; False where a CPU cannot."""
    return bool(_library().flush(address, size))


def round_trip(one: int, other: int) -> float:
    """Seconds that a word takes from core ``one`` to ``other`` and back, at best; negative if they may not be used.

    Takes less than a millisecond where both are idle. The cores must differ: two threads wait for each other.
    """
    if one == other:
        raise ValueError(f"core {one} is one core, not two")
    return float(_library().round_trip(one, other))


def within(y: torch.Tensor, r: torch.Tensor, budget: float) -> bool:
    """Whether all is finite and every |y - r| at most ``budget`` times |r| plus the root mean square of r.

    What exceeds that by less than the float32 sums' own error counts as beyond it: never the other way round.
    """
    squares = ctypes.c_double()
    budget *= 1 - _SUMS_ERROR
    excess = _library().largest_excess(y.data_ptr(), r.data_ptr(), r.numel(), budget, ctypes.byref(squares))
    return excess <= budget * math.sqrt(squares.value / r.numel())


def largest_error(y: torch.Tensor, r: torch.Tensor, scales: torch.Tensor, x: torch.Tensor | None) -> float:
    """The largest |y - r| / (|r| + s), where s is the row's of ``scales``, or |x| where that is smaller (NaN: 0).

    NaN if anything is not finite on the way.
    """
    sizes = scales.to(torch.float32).contiguous()
    columns = r.numel() // sizes.numel()
    bounding = None if x is None else x.data_ptr()
    return _library().largest_error(y.data_ptr(), r.data_ptr(), bounding, sizes.data_ptr(), sizes.numel(), columns)


@cache
def _library() -> ctypes.CDLL:
    source = (resources.files("vegtts_core.evaluator") / "native.cpp").read_text(encoding="utf-8")
    library = cpp.load(source)
    pointer, count, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    library.fill_uniform.argtypes, library.fill_uniform.restype = (pointer, count, ctypes.c_uint64), None
    library.flush.argtypes, library.flush.restype = (pointer, count), ctypes.c_int
    library.round_trip.argtypes, library.round_trip.restype = (ctypes.c_int32, ctypes.c_int32), ctypes.c_double
    library.largest_excess.argtypes, library.largest_excess.restype = (pointer, pointer, count, real, pointer), real
    library.largest_error.argtypes, library.largest_error.restype = (*[pointer] * 4, count, count), real
    return library
