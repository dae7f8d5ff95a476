"""The launch line of a CUDA kernel: found in a completion, parsed, evaluated over the task's sizes, held to limits.

    launch: grid=(cdiv(out_1, 32), cdiv(out_0, 32)), block=(32, 8), shared=0

One to three numbers each for ``grid`` and ``block`` (missing ones are 1); ``shared``, in bytes, may be left out. The
arithmetic is `vegtts_core.kernels.arithmetic`'s, and one line may name its tile sizes: ``launch: tile=32, grid=(...)``.
"""

from __future__ import annotations

import re

from vegtts_core.kernels.arithmetic import Malformed, evaluate
from vegtts_core.kernels.types import Launch

#: A launch line, with or without comment signs before it.
LINE = re.compile(r"^[ \t]*(?://+|#+|\*+)?[ \t]*launch[ \t]*:(.*)$", re.MULTILINE | re.IGNORECASE)
#: Longer than any honest launch line (characters).
_LONGEST = 400

# Limits of every CUDA device since compute capability 3.0; shared memory is that of an H100, the most so far.
_GRID = (2**31 - 1, 65535, 65535)
_BLOCK = (1024, 1024, 64)
_THREADS = 1024
_SHARED = 227 * 1024


def parse_launch(text: str, sizes: dict[str, int]) -> Launch:
    """The launch that ``text`` (what follows ``launch:``) describes. Raises `Malformed`."""
    if len(text) > _LONGEST:
        raise Malformed(f"it is longer than {_LONGEST} characters")
    names, values = dict(sizes), dict[str, tuple[int, ...]]()
    for item in _split(text):
        name, equals, expression = item.partition("=")
        name = name.strip()
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise Malformed(f"{item.strip()!r} is not of the form name=value")
        if name in values or name in names:
            raise Malformed(f"{name!r} is given twice" if name in values else f"{name!r} is a name of the task")
        if name in ("grid", "block", "shared"):
            values[name] = _numbers(expression, names)
        else:
            names[name] = evaluate(expression, names)
    for name in ("grid", "block"):
        if name not in values:
            raise Malformed(f"{name!r} is missing")
    shared = values.get("shared", (0,))
    if len(shared) != 1:
        raise Malformed("'shared' is one number of bytes")
    grid, block = _triple("grid", values["grid"], _GRID), _triple("block", values["block"], _BLOCK)
    if block[0] * block[1] * block[2] > _THREADS:
        raise Malformed(f"a block of {' x '.join(map(str, block))} has more than {_THREADS} threads")
    if not 0 <= shared[0] <= _SHARED:
        raise Malformed(f"shared = {shared[0]} is not between 0 and {_SHARED} bytes")
    return Launch(grid, block, shared[0])


def _split(text: str, inner: bool = False) -> list[str]:
    """Parts between commas that stand outside parentheses."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character in ",;" and depth == 0 and not (inner and character == ";"):
            parts.append(text[start:place])
            start = place + 1
    if depth:
        raise Malformed("its parentheses do not match")
    parts.append(text[start:])
    if not inner and len(parts) > 1 and not parts[-1].strip():
        parts.pop()  # a comma or semicolon at the end
    return parts


def _numbers(text: str, names: dict[str, int]) -> tuple[int, ...]:
    """One expression, or several in parentheses."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        parts = _split(text[1:-1], inner=True)
        if len(parts) > 1:
            if not parts[-1].strip():
                parts.pop()
            return tuple(evaluate(part, names) for part in parts)
    return (evaluate(text, names),)


def _triple(name: str, values: tuple[int, ...], limits: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(values) > 3:
        raise Malformed(f"{name!r} has {len(values)} numbers where a launch has three")
    x, y, z = (*values, 1, 1)[:3]
    for axis, value, limit in zip("xyz", (x, y, z), limits, strict=True):
        if not 1 <= value <= limit:
            raise Malformed(f"{name}.{axis} = {value} is not between 1 and {limit}")
    return x, y, z
