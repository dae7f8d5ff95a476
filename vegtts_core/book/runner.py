"""Executes one chapter with parameters: ``python -m vegtts_core.book.runner 05_1_scaling -p seed 45``.

The executed copy goes under ``runs/chapters/``, never over the committed one in ``book/chapters/`` unless ``--commit``
says so. It knows nothing of what a chapter computes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from vegtts_core.book import notebooks, parameters
from vegtts_core.book.runs import TERMINAL
from vegtts_core.errors import UserError
from vegtts_core.project import VARIABLE, find_project_root


class ChapterError(Exception):
    """A cell of a chapter failed: the text names chapter and cell and ends with the cell's traceback."""


def find_chapter(name: str, root: Path) -> Path:
    """The notebook meant by ``name``: a path, or the stem of a file in ``chapters/``."""
    for path in (Path(name), root / "chapters" / name, root / "chapters" / f"{name}.ipynb"):
        if path.is_file():
            return path.resolve()
    known = ", ".join(sorted(path.stem for path in (root / "chapters").glob("*.ipynb")))
    raise UserError(f"There is no chapter {name!r}: give a notebook's path or one of {known or 'none yet'}.")


def default_output(chapter: Path, given: Mapping[str, Any], root: Path) -> Path:
    """``runs/chapters/<chapter>-<params>.ipynb``."""
    words = [chapter.stem, *(f"{name}={value}" for name, value in given.items())]
    return root / "runs" / "chapters" / (re.sub(r"[^\w.=+-]+", "_", "-".join(words)).strip("_") + ".ipynb")


def execute(chapter: Path, given: Mapping[str, Any], root: Path, progress: bool = True) -> NotebookNode:
    """``chapter`` executed with the parameters ``given``, normalised (see ``notebooks``).

    The kernel's working directory is ``root``, its stderr appears on ours as it comes. Raises ``UserError`` for wrong
    parameters and for one raised inside the chapter, ``ChapterError`` for any other failure of a cell.
    """
    checked = parameters.check(chapter, given)
    try:
        with _environment({VARIABLE: str(root), TERMINAL: "1" if sys.stderr.isatty() else ""}):
            notebook = papermill.execute_notebook(
                chapter,
                None,
                parameters=checked,
                kernel_name="python3",
                cwd=root,
                progress_bar={"desc": chapter.stem, "leave": True} if progress else False,
                stderr_file=sys.stderr,
                # The kernel warns of its own transport, which is local.
                extra_arguments=["--IPKernelApp.log_level=40"],
            )
    except PapermillExecutionError as problem:
        raise _explain(chapter, problem) from problem
    return notebooks.normalise(notebook, root)


def _explain(chapter: Path, problem: PapermillExecutionError) -> Exception:
    if problem.ename == UserError.__name__:
        return UserError(problem.evalue)
    traceback = "\n".join(problem.traceback)
    where = f"{chapter.name}, cell {problem.cell_index + 1}"
    return ChapterError(f"{traceback}\n{where} failed with {problem.ename}: {problem.evalue}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the kernel started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.book.runner", description=__doc__)
    parser.add_argument("chapter", help="path of a notebook, or the stem of one in chapters/")
    parser.add_argument(
        "-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter"
    )
    parser.add_argument("-f", dest="file", type=Path, help="YAML file of parameters; -p goes first")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--output", type=Path, help="where the executed notebook goes")
    target.add_argument("--commit", action="store_true", help="replace the committed copy in book/chapters/")
    options = parser.parse_args(arguments)
    try:
        root = find_project_root()
        chapter = find_chapter(options.chapter, root)
        given = parameters.read_file(options.file) if options.file else {}
        given |= parameters.read_pairs(options.pairs)
        output = options.output or default_output(chapter, given, root)
        if options.commit:
            output = root / "book" / "chapters" / chapter.name
        elif (root / "book" / "chapters").resolve() in output.resolve().parents:
            raise UserError(f"{output} holds a committed chapter: choose another --output or say --commit.")
        notebooks.write(execute(chapter, given, root), output)
    except (UserError, ChapterError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
