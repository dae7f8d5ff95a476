"""Whether a candidate slows the reference down, where stopping it does not stop its work on the device.

A kernel that it left running takes turns with the reference's, and makes the reference look slow. What the reference
takes while no candidate exists is found before each process of a candidate starts; beside the candidate it should take
no longer. Some of the difference may be the device's doing (it is not quite as fast hot as cold): up to `TOLERATED` is
left alone, what is more is taken off the reference's times, and beyond `REFUSED` it is the candidate's failure.

It knows times only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from vegtts_core.evaluator.failures import CandidateFailure
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.types import ErrorKind

#: The reference's median time beside a candidate over that alone: up to here it counts as it was measured.
TOLERATED = 1.05
#: From here on the candidate earns nothing.
REFUSED = 1.5
#: Calls of the reference alone: untimed ones, and those that count.
WARMUP, CALLS = 3, 9


def unslowed(alone: Sequence[float], beside: Sequence[Call]) -> list[Call]:
    """The reference's calls ``beside`` a candidate, as they would have been; ``alone`` are seconds without it.

    Raises `CandidateFailure` if it was slowed down beyond what a device does by itself.
    """
    if not alone or not beside:
        return list(beside)
    slowed = statistics.median(call.seconds for call in beside) / statistics.median(alone)
    if slowed > REFUSED:
        raise CandidateFailure(
            ErrorKind.LINGERING,
            "It kept the device busy: the reference ran slower beside it than alone.",
        )
    share = 1.0 if slowed <= TOLERATED else 1 / slowed
    return [replace(call, seconds=share * call.seconds) for call in beside]
