"""The book as a PDF: ``python -m vegtts_core.book.pdf`` prints the committed chapters into ``book/_build/book.pdf``.

Jupyter Book puts all pages on one, and Chromium prints that one, charts (SVG), tables and formulas as they stand in the
browser. Code is left out. Nothing is executed: what is printed are the executed chapters in ``book/chapters/``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vegtts_core.book.build import render, stage
from vegtts_core.errors import UserError
from vegtts_core.project import find_project_root

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 300
"""Seconds that printing may take."""
SETTLED = 30_000
"""Milliseconds of the page's own time in which its formulas are typeset; they pass as fast as the work is done."""


def find_chromium() -> str | None:
    """The path of an installed Chromium."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def browser() -> str:
    """The path of Chromium. Raises UserError where there is none."""
    found = find_chromium()
    if found is None:
        raise UserError("No Chromium was found to print with: install it (Debian: apt-get install chromium).")
    return found


def print_page(page: Path, target: Path) -> None:
    """Print a page of this machine, network cut off, into ``target``. Raises UserError if Chromium fails."""
    target.unlink(missing_ok=True)
    command = [browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--virtual-time-budget={SETTLED}", "--no-pdf-header-footer"]
    command += [f"--print-to-pdf={target}", page.as_uri()]
    try:
        said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE).stderr
    except subprocess.TimeoutExpired:
        raise UserError(f"Chromium did not print the book within {PATIENCE} s: try again on an idle machine.") from None
    if not target.is_file():
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"Chromium printed nothing ({last}): try {command[0]} by hand.")


def printable(text: str) -> str:
    """The page without the script that makes its charts interactive: they are printed as they were drawn.

    Sphinx writes it into the root document's folder, its links relative to the folder above, where it must lie.
    """
    return re.sub(r'<script[^>]*src="_static/vegtts-charts\.js[^>]*></script>', "", text)


def make_pdf(root: Path) -> Path:
    """Render the committed chapters on one page and print it; returns the PDF."""
    browser()  # before minutes are spent
    folder = render(root, stage(root), "singlehtml")
    page = folder / "book.html"
    page.write_text(printable((folder / "chapters" / "intro.html").read_text(encoding="utf-8")), encoding="utf-8")
    target = root / "book" / "_build" / "book.pdf"
    print_page(page, target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    argparse.ArgumentParser(prog="python -m vegtts_core.book.pdf", description=__doc__).parse_args(arguments)
    started = time.monotonic()
    try:
        pdf = make_pdf(find_project_root())
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{pdf} ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
