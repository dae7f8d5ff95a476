"""How many threads the evaluator's own arithmetic uses, how many cores a candidate has, and which thread runs where.

Threads: one, almost always: worker threads of the evaluator's process go on spinning for milliseconds after they have
finished, on the cores that candidates are timed on. Only the reference's float64 runs use more.

Where: a worker thread is woken, call by call, next to the thread that wakes it, and stays there until the scheduler
looks, some milliseconds later; whether it gets a core of its own depends on what the other cores did a moment ago. A
call of two threads on one core takes 1.6 times as long, and a process keeps to one way for dozens of calls while the
one that it is compared with keeps to the other. So threads are told where to run (`spread`), and the evaluator's own
keeps out of the way (`aside`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

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


def spread(process: int, cores: Sequence[int], known: frozenset[int] = frozenset()) -> frozenset[int]:
    """Give each thread of a process that is stopped one of its ``cores``, its own where there are as many; its threads.

    The first thread too: left free, it follows whoever wakes it onto the core of another, and stays. A thread that
    begins in a call inherits its maker's core until the call is over; so it is with the reference. Nothing is done if
    the process's threads are those that are ``known`` from the last time.
    """
    with contextlib.suppress(OSError):  # it is gone, or a thread of it is: the next command will tell
        threads = frozenset(map(int, os.listdir(f"/proc/{process}/task")))
        if threads != known:
            for place, thread in enumerate(sorted(threads, key=lambda one: (one != process, one))):
                os.sched_setaffinity(thread, {cores[place % len(cores)]})
        return threads
    return known


@contextlib.contextmanager
def aside(cores: Sequence[int]) -> Iterator[None]:
    """Within the block, keep this thread off the ``cores`` of a process, or at least off that of its first thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - set(cores) or {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
