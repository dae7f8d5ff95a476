"""Printing: a page of this machine becomes a PDF, and what goes wrong is one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vegtts_core.book import pdf
from vegtts_core.errors import UserError

PAGE = """<!doctype html><style>@page { size: A4 } h1 { break-before: page }</style>
<h1>One</h1><svg width="200" height="80"><rect width="200" height="80" fill="teal"/></svg><h1>Two</h1><p id="later"></p>
<script>setTimeout(() => { document.body.insertAdjacentHTML("beforeend", "<h1>Three</h1>") }, 2000)</script>"""


@pytest.mark.browser
def test_a_page_is_printed_after_its_scripts_have_run(tmp_path: Path) -> None:
    page, target = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(PAGE, encoding="utf-8")
    target.write_bytes(b"an older one")
    pdf.print_page(page, target)
    printed = target.read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 3


@pytest.mark.browser
def test_a_browser_that_prints_nothing_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE, encoding="utf-8")
    with pytest.raises(UserError, match="printed nothing"):
        pdf.print_page(page, tmp_path / "missing" / "page.pdf")


def test_without_a_browser_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pdf, "render", lambda *given: pytest.fail("rendered"))
    with pytest.raises(UserError, match="install it"):
        pdf.make_pdf(tmp_path)


def test_charts_are_printed_as_they_were_drawn() -> None:
    given = '<script src="a.js"></script><script defer="defer" src="_static/vegtts-charts.js"></script><p>x</p>'
    assert pdf.printable(given) == '<script src="a.js"></script><p>x</p>'
