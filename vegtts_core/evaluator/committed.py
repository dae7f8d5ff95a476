"""The clock of a process that is not believed and cannot be stopped altogether: any Python on a GPU.

Stopping a process does not stop what it has queued on the device, so neither its answer nor its silence says when its
work begins and ends. What the evaluator can see is memory. So the clock runs from before the call's inputs are anywhere
that the process can read, until the evaluator has a copy of the output that no other process can reach:

    clock starts
    the inputs are written to the memory that the process reads   (work that waited for them is inside the clock)
    the call; the process writes its result to the output and answers
    the output is copied to memory of the evaluator's own          (what is written later does not count)
    clock stops
    inputs and output are overwritten, queued behind the copy; the process is stopped, and must be alone
    the process writes its result once more, and it must be the copy, bit by bit

An answer that comes too early shows as a wrong copy; work in other threads, streams and graphs, before the call or
after it, is inside the clock if the copy depends on it. The second writing is for results that were put into the output
without the copy that everybody else pays for: they are gone. The time that the evaluator's own copies take on an idle
device, found beforehand, is taken off the clock, for candidate and reference alike.

What a process leaves running on the device when it is stopped slows its neighbours down:
`vegtts_core.evaluator.beside` looks for that.
This module knows neither devices nor which results are right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from vegtts_core.evaluator.failures import CandidateFailure
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.types import ErrorKind

_CHANGED = "Its result was not the same when it was asked for again: it was written down ahead, or later."


class Process(Protocol):
    """What is asked of the process, in steps (see `vegtts_core.evaluator.processes.Process`)."""

    def begin(self) -> float:
        """Have ``forward`` called; the process answers once its result is in the output."""
        ...

    def await_done(self, limit: float | None = None) -> float:
        """Wait for that answer, at most ``limit`` seconds."""
        ...

    def stop(self) -> None:
        """Stop it; a failure if it is not alone."""
        ...

    def write(self) -> float:
        """Have the result written once more."""
        ...


class Memory(Protocol):
    """The memory that one process shares with the evaluator, and the evaluator's own beside it."""

    def show(self) -> None:
        """Write the call's inputs where the process reads them. Returns when they are there."""
        ...

    def keep(self) -> None:
        """Copy the output to memory of the evaluator's own. May return before that is done."""
        ...

    def await_kept(self) -> None:
        """Return when it is done."""
        ...

    def settle(self) -> None:
        """Return when everything that was queued on this memory is done."""
        ...

    def is_kept(self) -> bool:
        """Whether the output is now, bit by bit, what was kept."""
        ...


def timed(
    process: Process,
    memory: Memory,
    when_done: Callable[[], None] | None,
    copying_seconds: float = 0.0,
    limit: float | None = None,
) -> Call:
    """One call by the clock of this module; the result is what ``memory`` kept, the process is stopped.

    ``when_done`` overwrites inputs and output; it may queue that. ``copying_seconds`` come off the time; ``limit`` is
    on the call, in seconds. Raises `CandidateFailure`.
    """
    start = time.perf_counter()
    memory.show()
    process.begin()
    process.await_done(limit)
    memory.keep()
    if when_done is not None:
        when_done()
    memory.await_kept()
    seconds = time.perf_counter() - start - copying_seconds
    process.stop()
    memory.settle()
    process.write()
    if not memory.is_kept():
        raise CandidateFailure(ErrorKind.LATE_WORK, _CHANGED)
    # Copies of next to nothing may take no longer than was found beforehand.
    return Call(max(seconds, 1e-9), 0.0)
