"""Where the project lies: the folder that holds ``chapters/`` and ``book/``. It knows nothing of their contents."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vegtts_core.errors import UserError

VARIABLE = "VEGTTS_ROOT"


def find_project_root() -> Path:
    """The project's folder: ``VEGTTS_ROOT``, else the first one above the current folder, else above the package.

    Raises ``UserError`` if there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not _is_root(Path(named)):
            raise UserError(f"{VARIABLE} is {named}, which has no book/_toc.yml: set it to the project's folder.")
        return Path(named).resolve()
    for folder in _above(Path.cwd()), _above(Path(__file__).resolve().parent):
        for candidate in folder:
            if _is_root(candidate):
                return candidate
    raise UserError(
        f"No project folder (one with book/_toc.yml) above {Path.cwd()} or the installed package: "
        f"change into it or set {VARIABLE}."
    )


def _above(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents


def _is_root(folder: Path) -> bool:
    return (folder / "book" / "_toc.yml").is_file()


def runs_folder() -> Path:
    """Where live runs go: ``VEGTTS_RUNS``, else ``runs/`` of the project."""
    named = os.environ.get("VEGTTS_RUNS")
    return Path(named).resolve() if named else find_project_root() / "runs"


def recorded_folder() -> Path:
    """Where the recorded runs lie."""
    return find_project_root() / "data" / "runs"
