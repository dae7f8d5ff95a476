"""From what a policy wrote to code and launch line: fences, chatter around them, the line of the code's first line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vegtts_core.kernels.launch import LINE

_FENCE = re.compile(r"```[^\n`]*\n?")
_ENTRY = re.compile(r"\bkernel\s*\(")


@dataclass(frozen=True)
class Written:
    """``code`` without the launch lines (blank lines stand in for them), and its first line in the completion (from 1).

    ``launches`` are what follows ``launch:``, wherever in the completion it stood.
    """

    code: str
    first_line: int
    launches: tuple[str, ...]


def read(completion: str) -> Written:
    """The code and launch lines in a completion. ``code`` is empty if nothing looks like a kernel."""
    completion = completion.replace("\r\n", "\n").replace("\r", "\n")
    launches = tuple(match.group(1) for match in LINE.finditer(completion))
    start, end = _place(completion)
    code = LINE.sub("", completion[start:end])
    return Written(code if code.strip() else "", completion.count("\n", 0, start) + 1, launches)


def _place(completion: str) -> tuple[int, int]:
    """Where the code stands: the first part between fences that has a kernel in it, else the first part that has text.

    A completion may continue a fence that the prompt opened, so the text before the first fence is a part as well.
    """
    fences = list(_FENCE.finditer(completion))
    edges = [0, *(edge for fence in fences for edge in fence.span()), len(completion)]
    parts = list(zip(edges[::2], edges[1::2], strict=True))
    for start, end in parts:
        if _ENTRY.search(completion, start, end):
            return start, end
    return next(((start, end) for start, end in parts if completion[start:end].strip()), (0, 0))
