"""Builds the book: ``python -m vegtts_core.book.build --source recorded`` gives ``book/_build/html``.

With ``--source live`` the run that the chapters share is made first. ``book/`` is copied to its ``_build/staging``, the
chapters are executed into that copy, and Jupyter Book renders it without executing anything; every warning is an error.
The committed chapters in ``book/chapters/`` change only with ``--commit``. It knows nothing of what the chapters say.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import yaml
from tqdm import tqdm

from vegtts_core.book import forked, kept, notebooks, web
from vegtts_core.book.runner import ChapterError, execute
from vegtts_core.errors import UserError
from vegtts_core.project import VARIABLE, find_project_root

SOURCES = ("recorded", "live")
#: Chapters executed at once, each in a kernel of up to 1.5 GB.
SIDE_BY_SIDE = 4


def chapters_of(toc: Path) -> list[str]:
    """The chapters' stems, in the order of the table of contents."""
    contents = yaml.safe_load(toc.read_text(encoding="utf-8"))

    def files(node: object) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in files(item)]
        if isinstance(node, dict):
            own = [node[key] for key in ("root", "file") if key in node]
            return own + [name for key in ("chapters", "sections", "parts") for name in files(node.get(key, []))]
        return []

    return [name.removeprefix("chapters/") for name in files(contents) if name.startswith("chapters/")]


def stage(root: Path) -> Path:
    """A fresh copy of ``book/``, without its builds, in ``book/_build/staging``."""
    staging = root / "book" / "_build" / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(root / "book", staging, ignore=shutil.ignore_patterns("_build", "README.md"))
    (staging / "chapters").mkdir(exist_ok=True)
    return staging


def execute_chapters(root: Path, staging: Path, source: str, params: str, sources: Path) -> list[str]:
    """Execute every chapter of the table of contents that has a notebook in ``sources``; returns their stems.

    Side by side on the cores that there are, at most ``SIDE_BY_SIDE``; one after another where chapters measure
    (``source`` *live*).
    """
    done = []
    for name in chapters_of(staging / "_toc.yml"):
        if (sources / f"{name}.ipynb").is_file():
            done.append(name)
        elif not (staging / "chapters" / f"{name}.ipynb").is_file():
            raise UserError(f"book/_toc.yml names chapters/{name}, but {sources} has no {name}.ipynb: add it.")
    workers = min(SIDE_BY_SIDE, len(os.sched_getaffinity(0)), len(done)) if source == "recorded" else 1
    given = {"source": source, "params": params}
    if workers < 2:
        for name in done:
            _execute_to(staging, sources / f"{name}.ipynb", given, root, True)
        return done
    # New processes: papermill has an event loop and environment variables for each chapter. Their kernels are forked.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), forked.use)
    try:
        # The largest first: begun last, it would be executed alone while the other cores idle.
        by_size = sorted(done, key=lambda name: -(sources / f"{name}.ipynb").stat().st_size)
        waiting = [pool.submit(_execute_to, staging, sources / f"{name}.ipynb", given, root, False) for name in by_size]
        for finished in tqdm(as_completed(waiting), "chapters", len(waiting), unit="chapter"):
            finished.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return done


def _execute_to(staging: Path, chapter: Path, given: dict[str, str], root: Path, progress: bool) -> None:
    notebooks.write(execute(chapter, given, root, progress), staging / "chapters" / chapter.name)


def run_live(root: Path, params: str) -> None:
    """Make the live run that the chapters share, with its progress on the terminal; they then find it in the store."""
    environment = os.environ | {VARIABLE: str(root)}
    command = [sys.executable, "-m", "vegtts_core.search", "--params", params]
    if subprocess.run(command, check=False, env=environment).returncode != 0:
        raise UserError("The live run behind the chapters failed as said above: mend that, or use --source recorded.")


def render(root: Path, staging: Path, builder: str = "html") -> Path:
    """Let Jupyter Book make HTML of the staged book; returns the folder. Raises ``UserError`` if anything is amiss.

    ``builder``: *html*, a page per chapter, or *singlehtml*, all of it on one.
    """
    web.write_script(staging / "_static")
    build = root / "book" / "_build"
    for stale in (builder, ".doctrees"):
        shutil.rmtree(build / stale, ignore_errors=True)
    # The package has no __main__, and its script may not be on PATH.
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", str(staging), "--path-output", str(root / "book"), "-W", "-n", "--keep-going"]
    command += ["--builder", builder]
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        raise UserError("Jupyter Book reported the problems above: mend them, since each warning is an error here.")
    return build / builder


def build_book(root: Path, source: str, params: str, sources: Path, commit: bool = False) -> Path:
    """Stage, execute, render; with ``commit`` the executed chapters replace those in ``book/chapters/``.

    Returns the folder of the HTML.
    """
    if source == "live":
        run_live(root, params)
    staging = stage(root)
    with kept.keeping():
        done = execute_chapters(root, staging, source, params, sources)
    html = render(root, staging)
    if commit:
        for name in done:
            notebook = (staging / "chapters" / f"{name}.ipynb").read_bytes()
            (root / "book" / "chapters" / f"{name}.ipynb").write_bytes(notebook)
    return html


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.book.build", description=__doc__)
    parser.add_argument("--source", choices=SOURCES, default="recorded", help="parameter of every chapter")
    parser.add_argument("--params", default="cpu", help="parameter of every chapter: a file in params/, by its stem")
    parser.add_argument("--chapters-from", type=Path, help="folder of the chapters' sources (default: chapters/)")
    parser.add_argument("--commit", action="store_true", help="refresh book/chapters/ (from recorded runs only)")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        if options.commit and options.source != "recorded":
            raise UserError("A live build never replaces the committed chapters: use --commit with --source recorded.")
        root = find_project_root()
        sources = options.chapters_from or root / "chapters"
        html = build_book(root, options.source, options.params, sources, options.commit)
    except (UserError, ChapterError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{html / 'index.html'} ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
