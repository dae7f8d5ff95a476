"""How many threads the evaluator's own arithmetic uses, and how many cores a candidate has.

Threads: one, almost always: worker threads of the evaluator's process go on spinning for milliseconds after they have
finished, on the cores that candidates are timed on. Only the reference's float64 runs use more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

#: The warm process's id, in all that is forked from it: several evaluators should not meet on the same cores.
_PLACE = os.getpid()


def keep_to_cores(count: int) -> None:
    """Run this process on ``count`` of the machine's cores, the same ones for all that one warm process forks.

    Otherwise a candidate that starts more threads than it was granted would be compared with a reference that did not.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(_PLACE + place) % len(cores)] for place in range(min(count, len(cores)))})


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch operations of this process on ``count`` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
