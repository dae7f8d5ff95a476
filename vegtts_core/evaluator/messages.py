"""What the evaluator and a candidate's process say to each other.

One direction is trusted: an `Assignment` (pickled, in shared memory) and one-byte commands. The other direction is
not: what a candidate's process sends is at most a one-byte reply, an address in its own memory, or a failure that it
admits, as text. Nothing that it sends can earn a reward: times and comparisons are made elsewhere.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from vegtts_core.evaluator.sandbox import Layer
from vegtts_core.evaluator.types import ErrorKind

#: Largest message that is read from a candidate's process, in bytes.
MESSAGE_LIMIT = 4096
#: Where a process says that its result lies: an address in its memory.
ADDRESS = struct.Struct("=Q")
#: Longest text of a candidate's own words (exception messages) in a reason, in characters.
TEXT_LIMIT = 200


class Command(Enum):
    """What the evaluator asks of a process."""

    CALL = b"c"
    """Run ``forward`` (or the kernel) on the shared inputs, make its result dense. Answered by `Reply.DONE`; timed."""
    WRITE = b"w"
    """Copy the result into the shared output, if it is not read (`Assignment.is_read`). Answered by `Reply.WRITTEN`."""
    LOAD_WEIGHTS = b"l"
    """Copy the shared weights into the module. Answered by `Reply.LOADED`."""


class Reply(Enum):
    """The first byte of what a process answers."""

    READY = b"R"
    """The module is built."""
    MEMORY = b"M"
    """Comes with a descriptor of the process's memory, before any candidate's code has run in it."""
    DONE = b"D"
    """Followed by an `ADDRESS`, if the result is read there (`Assignment.is_read`)."""
    WRITTEN = b"W"
    LOADED = b"L"
    WAITING = b"H"
    """CUDA is started, and no candidate's code has run; the process waits for its assignment, or goes on with it."""
    FAILED = b"F"
    """Followed by an `ErrorKind`, a newline and text."""


#: The kinds that a process may report of itself; all of them end in reward 0.
ADMITTED = frozenset(
    {
        ErrorKind.COMPILE_ERROR,
        ErrorKind.EXCEPTION,
        ErrorKind.WRONG_TYPE,
        ErrorKind.WRONG_SHAPE,
        ErrorKind.INPUT_ALIASED,
        ErrorKind.OUT_OF_MEMORY,
        ErrorKind.CRASH,
    }
)


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies in a shared arena: byte offset, shape and dtype."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Gpu:
    """A GPU by its PCI address (``0000:18:00.0``; empty where torch does not tell) and its compute capability."""

    bus: str
    capability: tuple[int, int]


class Program(Enum):
    """What a process is for."""

    MODULE = "module"
    """Build a module from ``Assignment.source`` and call its ``forward``."""
    COMPILER = "compiler"
    """Compile ``Assignment.source`` by ``Assignment.command`` into the output arena."""
    NVRTC = "nvrtc"
    """Compile ``Assignment.source`` by NVRTC with the options ``Assignment.command`` into the output arena."""
    KERNEL = "kernel"
    """Load the library in the file descriptor ``library`` and call its ``kernel``, which writes the output itself."""


@dataclass(frozen=True)
class Assignment:
    """Everything that a process is told. It holds no seed, no expected output and no time.

    ``arguments`` are the arguments of ``forward`` in order, as slots of the input arena; those whose place is in
    ``numbers`` are handed over as Python floats, not as tensors.
    ``weights`` maps names of the module's state dict to slots of the weight arena.
    ``any_python``: nothing is known of ``source`` (scaffold ``module``); it may also start other processes.
    ``layers`` of the sandbox must all be there, or nothing is run.
    ``file_bytes`` is the largest file that it may write, its prints included.
    ``cpu_seconds`` is a backstop (rlimit) for the wall-clock limits that the evaluator itself enforces.
    """

    source: str
    class_name: str
    init_arguments: tuple[Any, ...]
    arguments: tuple[Slot, ...]
    numbers: frozenset[int]
    weights: dict[str, Slot]
    output: Slot
    training: bool
    writable_inputs: bool
    any_python: bool
    layers: frozenset[Layer]
    threads: int
    memory_bytes: int
    file_bytes: int
    cpu_seconds: int
    program: Program = Program.MODULE
    command: tuple[str, ...] = ()
    device_bytes: tuple[int, int, int] | None = None
    """Set where the arenas lie on the GPU: the sizes of inputs, weights and output."""
    gpu: Gpu | None = None
    """Set where any Python runs on the GPU: which one it is."""
    commits: bool = False
    """The result is written to the output before `Reply.DONE`, and once more on `Command.WRITE` (see `committed`)."""

    @property
    def is_read(self) -> bool:
        """Whether the evaluator reads the result out of the process, which has no output then (see `processes`)."""
        here = self.device_bytes is None and not self.commits
        return self.any_python and self.program is Program.MODULE and here


@dataclass(frozen=True)
class Waiting:
    """In place of an `Assignment`: start CUDA, which takes longer than most candidates, and wait for the assignment.

    It comes over the control socket, with the file descriptors of inputs, weights and output.
    """

    file_bytes: int


def letter_of(assignment: Assignment | Waiting) -> int:
    """The file descriptor of an anonymous file with the pickled assignment."""
    letter = os.memfd_create("assignment", os.MFD_CLOEXEC)
    with open(letter, "wb", closefd=False) as file:
        file.write(pickle.dumps(assignment))
    return letter


def one_line(text: str) -> str:
    """``text`` as one short printable line: it comes from a candidate, and ends up in tables, prompts and terminals."""
    text = re.sub(r"\s+", " ", text)
    text = "".join(character if character.isprintable() else "?" for character in text).strip()
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
