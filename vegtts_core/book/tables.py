"""A numbered table: a data frame with a caption, units and number formats, written once for all who read it.

JupyterLab shows HTML, a terminal plain text, and the built book takes the MyST text, with its number and its
cross-references (``mime.py``). It knows nothing of how the numbers came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from vegtts_core.book.figures import METADATA
from vegtts_core.book.prose import Format, number, plain

PUBLISHED = "published"
HERE = "measured here"


@dataclass(frozen=True)
class Column:
    """How one column is headed and its numbers are written. ``group`` is a common heading over neighbouring columns."""

    label: str
    fmt: Format = ""
    unit: str = ""
    group: str = ""

    @property
    def heading(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Table:
    """A data frame, shown as the table ``name`` (``tab-…``, for ``{numref}``) under ``caption`` (MyST, one paragraph).

    Only the columns named in ``columns`` are shown, in that order; cells may hold MyST inline text. Rows whose position
    is in ``emphasis`` are set in bold.
    """

    frame: pd.DataFrame
    name: str
    caption: str
    columns: Mapping[str, Column]
    emphasis: tuple[int, ...] = field(default=())

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(common heading, number of columns under it), left to right; empty if no column has one."""
        spans: list[tuple[str, int]] = []
        for column in self.columns.values():
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans if any(name for name, _ in spans) else []

    @property
    def rows(self) -> list[list[str]]:
        """Every cell as text, row by row."""
        return [
            [number(_scalar(row[key]), column.fmt) for key, column in self.columns.items()]
            for row in self.frame.to_dict("records")
        ]

    def _right(self) -> list[bool]:
        """Whether each column is set flush right: numbers are."""
        return [pd.api.types.is_numeric_dtype(self.frame[key]) or bool(c.fmt) for key, c in self.columns.items()]

    def markdown(self) -> str:
        """A MyST ``{table}`` directive with caption and label."""
        headings = [f"{c.group}: {c.heading}" if c.group else c.heading for c in self.columns.values()]
        lines = [headings, ["---:" if right else ":---" for right in self._right()]]
        for index, row in enumerate(self.rows):
            lines.append([f"**{cell}**" if index in self.emphasis and cell else cell for cell in row])
        body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f":::{{table}} {self.caption}\n:name: {self.name}\n\n{body}\n:::\n"

    def html(self) -> str:
        """HTML without ids, scripts or styles."""
        right = self._right()
        head = ""
        if self.groups:
            spans = (f'<th colspan="{span}" scope="colgroup">{escape(plain(name))}</th>' for name, span in self.groups)
            head += f"<tr>{''.join(spans)}</tr>"
        labels = (f'<th scope="col">{escape(plain(c.heading))}</th>' for c in self.columns.values())
        head += f"<tr>{''.join(labels)}</tr>"
        body = "\n".join(
            "<tr>"
            + "".join(_cell(text, flush, index in self.emphasis) for text, flush in zip(row, right, strict=True))
            + "</tr>"
            for index, row in enumerate(self.rows)
        )
        caption = f"<caption><b>Table</b> {escape(self.name)}: {escape(plain(self.caption))}</caption>"
        return f'<table class="vegtts-table">{caption}\n<thead>{head}</thead>\n<tbody>{body}</tbody></table>'

    def text(self) -> str:
        """Columns aligned with spaces, for a terminal."""
        headings = [plain(f"{c.group}: {c.heading}" if c.group else c.heading) for c in self.columns.values()]
        lines = [headings, *([plain(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
        padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return plain(self.caption) + "\n" + "\n".join(line.rstrip() for line in padded)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"text/html": self.html(), "text/markdown": self.markdown(), "text/plain": self.text()}
        headings = [c.heading for c in self.columns.values()]
        return data, {METADATA: {"kind": "table", "groups": self.groups, "headings": headings}}


def _scalar(value: Any) -> Any:
    """A numpy scalar as Python's own, so that its format and its missing value are Python's."""
    return value.item() if hasattr(value, "item") else value


def _cell(text: str, right: bool, bold: bool) -> str:
    style = ' align="right"' if right else ' align="left"'
    inner = escape(plain(text))
    return f"<td{style}>{f'<b>{inner}</b>' if bold else inner}</td>"


def side_by_side(
    published: pd.DataFrame,
    here: pd.DataFrame,
    on: str,
    name: str,
    caption: str,
    key: Column,
    columns: Mapping[str, Column],
    here_columns: Mapping[str, Column] | None = None,
    emphasis: tuple[int, ...] = (),
) -> Table:
    """A two-sided table: the paper's numbers on the left, ours on the right, one row per value of ``on``.

    ``columns`` says how each side's columns are shown (``here_columns``, where ours differ); columns that a frame lacks
    are left out of its side. Rows come in the order of ``published``, then those that only ``here`` has; a row that one
    side lacks shows dashes.
    """
    left = {f"published.{k}": c for k, c in columns.items() if k in published.columns}
    right = {f"here.{k}": c for k, c in (here_columns or columns).items() if k in here.columns}
    order = [*published[on], *(value for value in here[on] if value not in set(published[on]))]
    frame = pd.DataFrame({on: pd.Series(order, dtype=object)})
    for side, source, shown in (("published", published, left), ("here", here, right)):
        indexed = source.set_index(on)
        for label in shown:
            column = label.removeprefix(f"{side}.")
            frame[label] = [indexed[column].get(value) for value in order]
    shown_columns = {on: key}
    shown_columns |= {label: _grouped(column, PUBLISHED) for label, column in left.items()}
    shown_columns |= {label: _grouped(column, HERE) for label, column in right.items()}
    return Table(frame, name, caption, shown_columns, emphasis)


def _grouped(column: Column, group: str) -> Column:
    return Column(column.label, column.fmt, column.unit, group)
