"""Kernels that are forked: the same outputs as any other kernel's, nothing shared, and their ends are noticed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError

from vegtts_core.book import forked, runner
from vegtts_core.book.notebooks import KERNEL


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """As a build's: one new process whose kernels are forked."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), forked.use) as made:
        yield made


def chapter(folder: Path, *bodies: str) -> Path:
    """A chapter without parameters."""
    book = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    first = nbformat.v4.new_code_cell('source = "recorded"', metadata={"tags": ["parameters"]})
    book.cells = [first, *(nbformat.v4.new_code_cell(body.strip()) for body in bodies)]
    for index, cell in enumerate(book.cells):
        cell.id = f"cell-{index}"
    path = folder / "chapter.ipynb"
    nbformat.write(book, path)
    return path


def executed(pool: ProcessPoolExecutor, path: Path) -> nbformat.NotebookNode:
    return pool.submit(runner.execute, path, {}, path.parent, False).result(timeout=120)


def test_a_forked_kernel_writes_what_any_other_writes(pool, tmp_path):
    path = chapter(tmp_path, "print(sum(range(10)), source)", "import pandas\npandas.DataFrame({'x': [1.5]})")
    ours, usual = executed(pool, path), runner.execute(path, {}, tmp_path)
    assert nbformat.writes(ours) == nbformat.writes(usual)
    assert ours.cells[1].outputs[0]["text"] == "45 recorded\n"


def test_libraries_are_there_and_state_is_not(pool, tmp_path):
    body = "import sys, os\nprint('torch' in sys.modules, os.getcwd())"
    mark = "import pandas\nprint(hasattr(pandas, 'marked'))\npandas.marked = True"
    for _ in range(2):
        cells = executed(pool, chapter(tmp_path, body, mark)).cells
        assert cells[1].outputs[0]["text"].startswith("True ")
        assert cells[2].outputs[0]["text"] == "False\n"


def test_a_failing_cell_names_its_chapter(pool, tmp_path):
    with pytest.raises(runner.ChapterError, match=r"chapter\.ipynb, cell 2 failed with ZeroDivisionError"):
        executed(pool, chapter(tmp_path, "1 / 0"))


def test_a_kernel_that_dies_is_noticed(pool, tmp_path):
    with pytest.raises(DeadKernelError):
        executed(pool, chapter(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    assert executed(pool, chapter(tmp_path, "print(1)")).cells[1].outputs[0]["text"] == "1\n"
