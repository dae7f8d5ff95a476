"""The numbers that the paper prints, typed in from its text, each with its table and section.

Shares are fractions of 1 (53.3% is 0.533), speedups ratios, log-probabilities nats, differences in percentage points
divided by 100. Nothing is corrected: where the paper contradicts itself both values are here, and
``inconsistencies()`` lists them. This module knows nothing of what was measured by us.

Tables with a number in the paper have that number (``5.1``); the others the number of their section, with a word where
there are several (``5.2-quartiles``). So ``5.3`` is the table of selection strategies, which stands in section 5.2.
A path ``table/row/column`` names one value.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from vegtts_core.errors import UserError

_DATA = resources.files("vegtts_core.book") / "data" / "published"


@dataclass(frozen=True)
class Column:
    """A column of a published table; its unit is fraction, ratio, count, tokens, nats, text and so on."""

    unit: str
    meaning: str


@dataclass(frozen=True)
class TableInfo:
    """Where a published table stands, and what its columns are. The first column names the row."""

    id: str
    title: str
    section: str
    numbered: bool
    notes: str
    columns: dict[str, Column]

    @property
    def place(self) -> str:
        """For captions: ``table 5.1`` or ``section 5.4``, ``appendix B``."""
        if self.numbered:
            return f"table {self.id}"
        return f"appendix {self.section}" if self.section[0].isupper() else f"section {self.section}"


class Needs(StrEnum):
    """What has to be run before a claim can be checked."""

    BEST_OF_N = "best_of_n"
    """A Best-of-N run."""
    MEASUREMENT = "measurement"
    """The evaluator's own experiments (chapter 9)."""
    TRAINING = "training"
    """GRPO on the training tasks."""
    ADAPTATION = "adaptation"
    """Test-time training as well as a Best-of-N run."""
    SELF_DISTILLATION = "self_distillation"
    """SDPO runs."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, in our words. ``values`` are the paths of the published numbers behind it.

    ``title`` names it in a few words; ``figure`` says the numbers in a line, with the values by position; ``main``: one
    of those that the argument rests on.
    """

    id: str
    title: str
    sentence: str
    section: str
    needs: Needs
    values: tuple[str, ...]
    figure: str
    main: bool

    def published(self) -> dict[str, float | str]:
        """Each path with its published value."""
        return {path: value(path) for path in self.values}

    @property
    def text(self) -> str:
        """The published figure in a line."""
        return re.sub(r"(?<![\w.])-(?=\d)", "−", self.figure.format(*self.published().values()))


@dataclass(frozen=True)
class Inconsistency:
    """A quantity that the paper gives several values for: (path, place) of each."""

    topic: str
    statement: str
    values: tuple[tuple[str, str], ...]


@cache
def _read(name: str) -> Any:
    return json.loads((_DATA / name).read_text(encoding="utf-8"))


def ids() -> list[str]:
    """Every table, in the paper's order."""
    return list(_read("tables.json"))


def info(table_id: str) -> TableInfo:
    """Title, place and columns of a table. Raises UserError for an unknown id."""
    found = _read("tables.json").get(table_id)
    if found is None:
        raise UserError(f"The paper has no table {table_id!r}: use one of {', '.join(ids())}.")
    columns = {name: Column(**column) for name, column in found["columns"].items()}
    return TableInfo(table_id, found["title"], found["section"], found["numbered"], found["notes"], columns)


@cache
def _table(table_id: str) -> pd.DataFrame:
    columns = info(table_id).columns
    text = {name: str for name, column in columns.items() if column.unit in ("text", "label")}
    with (_DATA / _read("tables.json")[table_id]["file"]).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=text).set_index(next(iter(columns)))  # type: ignore[arg-type]


def table(table_id: str) -> pd.DataFrame:
    """A published table, indexed by its first column (strings, also for steps, tasks and K); units in ``info``.

    Values that the paper does not give are NaN. Raises UserError for an unknown id.
    """
    return _table(table_id).copy()


def value(path: str) -> float | str:
    """One published value, e.g. ``value("5.3/surprisal-guided/fast_1") == 0.8``.

    Raises UserError for a path that is not ``table/row/column`` of an existing entry.
    """
    parts = path.split("/")
    if len(parts) != 3:
        raise UserError(f"{path!r} names no published value: write it as table/row/column, such as 5.1/16/pass_at_k.")
    frame = _table(parts[0])
    _, row, column = parts
    if row not in frame.index:
        raise UserError(f"Table {parts[0]} has no row {row!r}: use one of {', '.join(frame.index)}.")
    if column not in frame.columns:
        raise UserError(f"Table {parts[0]} has no column {column!r}: use one of {', '.join(frame.columns)}.")
    found = frame.at[row, column]
    return found if isinstance(found, str) else float(found)


def number(path: str) -> float:
    """`value` of a path that names a number. Raises UserError as that does, and ValueError for a text."""
    return float(value(path))


_CLAIM = ("id", "title", "sentence", "section", "figure", "main")


def claims(needs: Needs | None = None) -> list[Claim]:
    """The paper's claims, the main ones first, all or those that need one kind of run."""
    found = [
        Claim(needs=Needs(c["needs"]), values=tuple(c["values"]), **{k: c[k] for k in _CLAIM})
        for c in _read("claims.json")
    ]
    return [claim for claim in found if needs is None or claim.needs is needs]


def inconsistencies() -> list[Inconsistency]:
    """Where the paper contradicts itself or compares unlike things."""
    return [
        Inconsistency(i["topic"], i["statement"], tuple((path, place) for path, place in i["values"]))
        for i in _read("inconsistencies.json")
    ]
