"""Chapter 2's two tables: what ways of choosing need and cost, and whom the paper's bibliography credits.

Both are data (``data/related``), read and checked by people; it knows nothing of the works' contents.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pandas as pd

from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.selection import TIE

METHOD_COLUMNS = {
    "method": Column("method"),
    "needs": Column("needs at selection time"),
    "cost": Column("costs beside sampling"),
    "ties": Column("ties"),
    "home": Column("home in this book"),
}

NAME_COLUMNS = {
    "eprint": Column("arXiv"),
    "printed": Column("credited in the paper to"),
    "work": Column("the work"),
}


def _read(name: str) -> list[dict[str, Any]]:
    return json.loads((resources.files("vegtts_core.book") / "data" / "related" / name).read_text("utf-8"))


def methods() -> pd.DataFrame:
    """Ways of choosing one of K samples: columns of ``METHOD_COLUMNS`` (MyST)."""
    rows = [
        {key: text.replace("{tie}", number(TIE, ".5f")) for key, text in row.items()} for row in _read("methods.json")
    ]
    return pd.DataFrame(rows)


def names() -> pd.DataFrame:
    """Works that the paper credits to others than their authors: eprint, printed, key, kind, work (MyST)."""
    frame = pd.DataFrame(_read("names.json"))
    return frame.assign(work=[f"{{cite:t}}`{key}`" for key in frame["key"]])


def facts(run: Run) -> dict[str, str]:
    """Numbers of the chapter's sentences: the run's samples and distinct candidates, the tie, the credits."""
    kinds = names()["kind"].value_counts()
    return {
        "samples": f"{len(run.samples):,}",
        "distinct": f"{run.samples['fingerprint'].nunique():,}",
        "tie": number(TIE, ".5f"),
        "others": str(int(kinds["other authors"])),
        "teams": str(int(kinds["a team"])),
    }
