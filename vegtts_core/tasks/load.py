"""Finding tasks by name: subsets, splits, levels, ids, keys, or a copy of KernelBench that the user names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from vegtts_core.errors import UserError
from vegtts_core.tasks.build import level1_task
from vegtts_core.tasks.kernelbench import PREFIX, load_kernelbench
from vegtts_core.tasks.level1 import PROBLEMS, VARIANTS
from vegtts_core.tasks.types import Size, Task

_KEY = re.compile(r"(?:level1/)?(\d+)(?:-(\w+))?")


@cache
def named_selections() -> dict[str, tuple[int, ...]]:
    """Ids by name: ``level1``, ``subset_1``, ``subset_2``, ``l1_seed42_train``, ``l1_seed42_eval``, ... (43, 44)."""
    splits = json.loads((files("vegtts_core.tasks") / "data" / "splits.json").read_text(encoding="utf-8"))
    names = {"level1": tuple(PROBLEMS)}
    for name, value in splits.items():
        if isinstance(value, list):
            names[name] = tuple(value)
        elif isinstance(value, dict):
            names |= {f"{name}_{part}": tuple(value[part]) for part in ("eval", "train")}
    return names


@cache
def evaluation_tasks() -> frozenset[int]:
    """Level-1 ids on which some published split or subset evaluates: no prompt may show an answer to them."""
    named = named_selections().items()
    return frozenset(id for name, ids in named if name.endswith("_eval") or name.startswith("subset_") for id in ids)


def load_tasks(selector: str | Iterable[int | str], size: Size | str = Size.CPU) -> list[Task]:
    """The tasks that ``selector`` names, at ``size``.

    A name of ``named_selections``, one key (``level1/12-diag``, ``12-diag``, ``12``), an iterable of ids and keys
    (kept in its order), or ``kernelbench:/path[#level[/id,id...]]`` for a checkout or a ``datasets`` copy.
    Raises ``UserError`` for a selector or size that names nothing.
    """
    size = _size(size)
    if isinstance(selector, str):
        if selector.startswith(PREFIX):
            return load_kernelbench(selector, size)
        if selector in named_selections():
            return [level1_task(id, "", size) for id in named_selections()[selector]]
        return [get_task(selector, size)]
    return [get_task(item, size) for item in selector]


def get_task(key: int | str, size: Size | str = Size.CPU) -> Task:
    """The level-1 task with this id or key (``12``, ``"12-diag"``, ``"level1/12-diag"``). Raises ``UserError``."""
    size = _size(size)
    match = _KEY.fullmatch(str(key))
    if match:
        id, variant = int(match[1]), match[2] or ""
        if (id, variant) in VARIANTS or (not variant and id in PROBLEMS):
            return level1_task(id, variant, size)
    names = ", ".join(sorted(named_selections()))
    raise UserError(
        f"{key!r} names no task: use an id from 1 to 100, a key such as 'level1/12-diag', one of {names}, or "
        "'kernelbench:/path#level/id,id'."
    )


def _size(size: Size | str) -> Size:
    try:
        return Size(size)
    except ValueError:
        raise UserError(f"{size!r} is not a size: use {' or '.join(repr(s.value) for s in Size)}.") from None
