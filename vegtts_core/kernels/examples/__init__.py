"""Honest kernels for some level-1 tasks, in C++ and in CUDA: tests' positive set, and few-shot material.

A file ``25_swish.cpp`` or ``25_swish.cu`` is a completion as a policy would write it, for task 25. Each passes the
evaluator on its device. Prompts show only those whose tasks are training tasks in every split.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from vegtts_core.kernels.types import Language

_SUFFIX = {Language.CPP: ".cpp", Language.CUDA: ".cu"}


@cache
def _files(language: Language) -> dict[int, str]:
    folder = resources.files("vegtts_core.kernels.examples")
    return {
        int(file.name.split("_")[0]): file.name for file in folder.iterdir() if file.name.endswith(_SUFFIX[language])
    }


def example_ids(language: Language) -> tuple[int, ...]:
    """Level-1 problem numbers that have a kernel in this language, in order."""
    return tuple(sorted(_files(language)))


def example_text(id: int, language: Language) -> str | None:
    """The completion for problem ``id``; None if there is none."""
    name = _files(language).get(id)
    return None if name is None else (resources.files("vegtts_core.kernels.examples") / name).read_text("utf-8")
