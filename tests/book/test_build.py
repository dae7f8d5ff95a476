"""The book's build, on a book of one chapter: numbered parts, no warnings, nothing of the sources touched."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from vegtts_core.book import build
from vegtts_core.book.notebooks import KERNEL
from vegtts_core.project import VARIABLE, find_project_root

CELLS = [
    ("code", 'source = "recorded"\nparams = "cpu"', ["parameters", "remove-cell"]),
    (
        "markdown",
        "(sec-one)=\n# One\n\nSee {numref}`fig-one`, {numref}`tab-one`, {eq}`eq-one` and {glue:text}`many`.",
        [],
    ),
    ("markdown", "```{math}\n:label: eq-one\nx = 1\n```", []),
    (
        "code",
        "import altair as alt, pandas as pd\nfrom vegtts_core.book.figures import Figure\n"
        'from vegtts_core.book.prose import glue\nglue("many", 1234, ",d")\nframe = pd.DataFrame({"x": [1, 2]})\n'
        'Figure(alt.Chart(frame).mark_point().encode(x="x"), "fig-one", "A caption with $x$.")',
        [],
    ),
    (
        "code",
        "from vegtts_core.book.tables import Column, side_by_side\n"
        'side_by_side(frame, frame.assign(y=3), "x", "tab-one", "Two sides.", Column("x"), {"y": Column("y")})',
        [],
    ),
    ("code", "from vegtts_core.book.boxes import Comparison\nComparison('Claim', 'was', 'is', 'so')", []),
]


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A project with the real configuration and one chapter."""
    project = find_project_root()
    shutil.copytree(project / "book" / "_static", tmp_path / "book" / "_static")
    for name in ("_config.yml", "references.bib"):
        shutil.copy(project / "book" / name, tmp_path / "book" / name)
    (tmp_path / "book" / "chapters").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: chapters/one\n")
    book = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    for kind, source, tags in CELLS:
        cell = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
        cell.metadata["tags"] = tags
        book.cells.append(cell)
    (tmp_path / "chapters").mkdir()
    nbformat.write(book, tmp_path / "chapters" / "one.ipynb")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_a_book_is_built(small, capfd):
    assert build.main(["--source", "recorded"]) == 0, capfd.readouterr()
    page = (small / "book" / "_build" / "html" / "chapters" / "one.html").read_text(encoding="utf-8")
    assert list((small / "book" / "chapters").iterdir()) == []
    for label in ("Figure 1", "Table 1", "1,234", "A caption with"):
        assert label in page
    assert len(re.findall(r'<figure[^>]*id="fig-one"', page)) == 1
    assert page.count("<svg role=") == 1
    assert 'colspan="1"' not in page
    assert "many = 1,234" not in page  # shown in JupyterLab only
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"[^>]*(?:rel="stylesheet"|></script>)', page)
    assert not re.findall(r"<script[^>]*src=\"https?:", page)


def test_a_warning_fails_the_build(small, capfd):
    path = small / "chapters" / "one.ipynb"
    book = nbformat.read(path, 4)
    book.cells.append(nbformat.v4.new_markdown_cell("{numref}`fig-missing`"))
    nbformat.write(book, path)
    assert build.main(["--commit"]) == 1
    assert "each warning is an error" in capfd.readouterr().err
    assert list((small / "book" / "chapters").iterdir()) == []


def test_chapters_side_by_side_are_those_one_after_another(small, monkeypatch):
    shutil.copy(small / "chapters" / "one.ipynb", small / "chapters" / "two.ipynb")
    (small / "book" / "_toc.yml").write_text("format: jb-book\nroot: chapters/one\nchapters:\n- file: chapters/two\n")
    written = []
    for cores in (1, 2):
        monkeypatch.setattr(build, "SIDE_BY_SIDE", cores)
        staging = build.stage(small)
        assert build.execute_chapters(small, staging, "recorded", "cpu", small / "chapters") == ["one", "two"]
        written.append([(staging / "chapters" / f"{name}.ipynb").read_bytes() for name in ("one", "two")])
    assert written[0] == written[1]


def test_of_chapters_side_by_side_the_failing_one_is_told(small, capsys):
    book = nbformat.read(small / "chapters" / "one.ipynb", 4)
    cause = "from vegtts_core.errors import UserError\nraise UserError('The cause: the cure.')"
    book.cells.append(nbformat.v4.new_code_cell(cause))
    nbformat.write(book, small / "chapters" / "two.ipynb")
    (small / "book" / "_toc.yml").write_text("format: jb-book\nroot: chapters/one\nchapters:\n- file: chapters/two\n")
    assert build.main(["--commit"]) == 1
    assert "The cause: the cure." in capsys.readouterr().err
    assert list((small / "book" / "chapters").iterdir()) == []


def test_live_builds_never_commit(small, capsys):
    assert build.main(["--source", "live", "--commit"]) == 1
    assert "A live build never replaces" in capsys.readouterr().err


def test_a_chapter_without_source_is_named(small, capsys):
    (small / "chapters" / "one.ipynb").unlink()
    assert build.main([]) == 1
    assert "names chapters/one" in capsys.readouterr().err


def test_chapters_of_the_real_book():
    toc = find_project_root() / "book" / "_toc.yml"
    names = build.chapters_of(toc)
    assert "04_setup" in names and "glossary" not in names
    assert yaml.safe_load(toc.read_text())["root"].removeprefix("chapters/") == names[0]
