"""The chapter runner: parameters are checked, copies are byte-identical, mistakes are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from vegtts_core.book import parameters, runner
from vegtts_core.book.notebooks import KERNEL, normalise
from vegtts_core.errors import UserError
from vegtts_core.project import VARIABLE

PARAMETERS = """
source = "recorded"
k = 16
rate = 0.5
flag = False
tasks = [4, 5]
seed = None  # type: int one seed
"""
BODY = """
import os, sys
print(k, end=" "); print(seed, os.getcwd()); sys.stdout.flush(); print("more")
print("progress", file=sys.stderr)
"""
RICH = """
import altair as alt, pandas as pd
from vegtts_core.book.figures import Figure
from vegtts_core.book.prose import glue
glue("count", 1234, ",d")
Figure(alt.Chart(pd.DataFrame({"x": [0.1, 0.3]})).mark_point(clip=True).encode(x="x"), "fig-x", "Points.")
"""


def chapter(root: Path, *bodies: str, name: str = "chapter") -> Path:
    book = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    first = nbformat.v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]})
    book.cells = [first, *(nbformat.v4.new_code_cell(body.strip()) for body in bodies)]
    for index, cell in enumerate(book.cells):
        cell.id = f"cell-{index}"
    path = root / "chapters" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: chapters/chapter\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_declared(root):
    assert parameters.declared(chapter(root)) == {
        "source": "recorded",
        "k": 16,
        "rate": 0.5,
        "flag": False,
        "tasks": [4, 5],
        "seed": None,
    }


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ({"rate": 1}, {"rate": 1.0}),
        ({"rate": "1e-5"}, {"rate": 1e-5}),  # what YAML makes of 1e-5
        ({"seed": 45}, {"seed": 45}),
        ({"seed": None}, {"seed": None}),
        ({"source": 12}, {"source": "12"}),
        ({"tasks": [1]}, {"tasks": [1]}),
    ],
)
def test_values_that_fit(root, given, checked):
    assert parameters.check(chapter(root), given) == checked


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seeed": 1}, "no parameter 'seeed': it has source, k, rate, flag, tasks, seed"),
        ({"k": "many"}, "'k' of chapter.ipynb must be a whole number, not 'many'"),
        ({"k": 1.5}, "must be a whole number"),
        ({"k": True}, "must be a whole number"),
        ({"k": None}, "must be a whole number"),
        ({"flag": 1}, "must be true or false"),
        ({"rate": "fast"}, "must be a number"),
        ({"seed": "x"}, "must be a whole number"),
    ],
)
def test_values_that_do_not(root, given, words):
    with pytest.raises(UserError, match=words) as problem:
        parameters.check(chapter(root), given)
    assert str(problem.value).count("\n") == 0


def test_pairs_and_files(tmp_path):
    assert parameters.read_pairs([("k", "16"), ("tasks", "[4, 5]"), ("s", "live")]) == {
        "k": 16,
        "tasks": [4, 5],
        "s": "live",
    }
    with pytest.raises(UserError, match="twice"):
        parameters.read_pairs([("k", "1"), ("k", "2")])
    path = tmp_path / "p.yaml"
    path.write_text("k: 3\n")
    assert parameters.read_file(path) == {"k": 3}
    path.write_text("[1, 2]")
    with pytest.raises(UserError, match="mapping"):
        parameters.read_file(path)


def test_two_executions_are_the_same_bytes(root, capsys):
    chapter(root, BODY, RICH)
    outputs = [root / "a.ipynb", root / "b.ipynb"]
    for output in outputs:
        assert runner.main(["chapter", "-p", "k", "7", "--output", str(output)]) == 0
    first, second = (output.read_bytes() for output in outputs)
    assert first == second
    assert str(root).encode() not in first
    book = json.loads(first)
    nbformat.validate(nbformat.from_dict(book))
    assert set(book["metadata"]) == {"kernelspec", "language_info"}
    assert [cell["id"] for cell in book["cells"]] == ["cell-0", "injected-parameters", "cell-1", "cell-2"]
    assert all(set(cell["metadata"]) <= {"tags"} for cell in book["cells"])
    stream = book["cells"][2]["outputs"]
    assert ["".join(output["text"]) for output in stream] == ["7 None .\nmore\n"]
    assert "progress" in capsys.readouterr().err


def test_user_errors_are_their_sentence(root, capsys):
    chapter(root, "from vegtts_core.errors import UserError\nraise UserError('No such run: record it first.')")
    assert runner.main(["chapter"]) == 1
    error = capsys.readouterr().err
    assert "No such run: record it first." in error
    assert "Traceback" not in error
    assert not (root / "runs").exists()


def test_other_errors_name_chapter_and_cell(root, capsys):
    chapter(root, "x = 1", "1 / 0")
    assert runner.main(["chapter"]) == 1
    assert "chapter.ipynb, cell 3 failed with ZeroDivisionError" in capsys.readouterr().err


def test_committed_chapters_are_left_alone(root, capsys):
    chapter(root, "x = 1")
    assert runner.main(["chapter", "--output", str(root / "book" / "chapters" / "chapter.ipynb")]) == 1
    assert "--commit" in capsys.readouterr().err
    assert runner.main(["nothing"]) == 1
    assert "There is no chapter 'nothing'" in capsys.readouterr().err


def test_default_output(root):
    name = runner.default_output(Path("05_1_scaling.ipynb"), {"seed": 45, "p": "a/b c"}, root)
    assert name == root / "runs" / "chapters" / "05_1_scaling-seed=45-p=a_b_c.ipynb"


def test_normalise_takes_paths_out(root):
    book = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    cell = nbformat.v4.new_code_cell("x")
    data = {"text/plain": f"{root}/data at 0x7f00aa11bb22", "application/json": {"p": [str(root)]}}
    cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    book.cells = [cell]
    shown = normalise(book, root).cells[0].outputs[0].data
    assert shown == {"text/plain": "data at 0x…", "application/json": {"p": ["."]}}
