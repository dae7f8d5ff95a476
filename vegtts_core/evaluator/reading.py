"""A result that is read out of the memory of the process that computed it, while that process is stopped.

Whoever writes a result down does work after the clock has stopped, and any Python can do other work in its place: some
of the call's own, for as long as the writing may take. So it writes nothing. The descriptor comes from trusted code of
the process, before a candidate's code has run there; the address comes from the candidate, and can be no better than
what lies there. This module knows neither whether the process is stopped nor what the result means.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from vegtts_core.evaluator.messages import Assignment
from vegtts_core.evaluator.runner import SharedMemory
from vegtts_core.evaluator.shared_memory import bytes_of

#: How much is read at a time, in bytes.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a result goes: ``size`` bytes from ``offset`` on in the file ``fd``."""

    fd: int
    offset: int
    size: int

    @classmethod
    def of(cls, assignment: Assignment, output: SharedMemory) -> Place:
        """The output of a process with this assignment."""
        slot = assignment.output
        return cls(output.fd, slot.offset, bytes_of(slot.shape, slot.dtype))


def read_result(memory: int, address: int, place: Place) -> None:
    """Copy what lies at ``address`` of the process behind the descriptor ``memory`` to ``place``.

    What cannot be read there is left as it is.
    """
    piece = memoryview(bytearray(min(_PIECE, place.size)))
    done = 0
    with contextlib.suppress(OSError, OverflowError):
        while done < place.size:
            count = os.preadv(memory, [piece[: place.size - done]], address + done)
            if not count:
                return
            os.pwrite(place.fd, piece[:count], place.offset + done)
            done += count
