"""The vocabulary of kernels: languages, and how a CUDA kernel is launched. Knows nothing of tasks or processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Language(StrEnum):
    """What a candidate's source is written in."""

    PYTHON = "python"
    """A module with ``ModelNew``: the scaffolds ``forward`` and ``module``."""
    CPP = "cpp"
    """C++17 with OpenMP, run on the CPU."""
    CUDA = "cuda"
    """CUDA C++, run on a GPU."""


@dataclass(frozen=True)
class Launch:
    """How a CUDA kernel is launched: blocks of the grid, threads of a block, bytes of dynamic shared memory."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int = 0


CODE_NAME = "completion"
"""The name that compilers are given for the policy's own lines (``#line``)."""


@dataclass(frozen=True)
class Diagnostic:
    """One of a compiler's complaints. ``line`` counts from 1 in what the policy wrote, or in the given source."""

    line: int
    message: str


class CompileError(Exception):
    """The source does not compile. ``diagnostics`` has lines and messages, ``output`` all that the compiler said."""

    def __init__(self, output: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.output = output
        self.diagnostics = diagnostics
        first = [f"line {d.line}: {d.message}" for d in diagnostics[:3]]
        last = output.strip().splitlines()[-1] if output.strip() else "no output"
        super().__init__("; ".join(first) or last)
