"""The book's kinds of chart: a point with its interval, a scaling curve with its band, a strip per task.

Each helper takes a data frame and says which column is which; it returns a plain Altair chart, to be wrapped in a
``Figure``. It draws what it is given and computes no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import altair as alt
import pandas as pd

from vegtts_core.book import theme

PADDING = 10
"""Pixels between the outermost mark and the end of its axis."""


@dataclass(frozen=True)
class Axis:
    """A column and how it is shown. ``fmt`` is a d3 format (``.0%``); ``log`` draws it on a logarithmic scale."""

    column: str
    title: str
    fmt: str = ""
    log: bool = False
    domain: tuple[float, float] | None = None

    def scale(self) -> alt.Scale:
        """The Vega-Lite scale, with room for the marks at its ends unless ``domain`` is given."""
        extra = {"domain": list(self.domain)} if self.domain else {"padding": PADDING}
        if self.log:
            return alt.Scale(type="log", nice=False, **extra)
        return alt.Scale(zero=False, nice=False, **extra)

    def axis(self) -> alt.Axis:
        """The Vega-Lite axis; a logarithmic one is labelled at 1, 2, 5, 10, ..."""
        extra: dict[str, object] = {"format": self.fmt} if self.fmt else {}
        if self.log:
            extra["values"] = [float(f"{lead}e{power}") for power in range(-6, 7) for lead in (1, 2, 5)]
        return alt.Axis(title=self.title, labelFlush=False, **extra)

    def tooltip(self) -> alt.Tooltip:
        """What hovering shows."""
        return alt.Tooltip(f"{_safe(self.column)}:Q", title=self.title, **({"format": self.fmt} if self.fmt else {}))


def _safe(column: str) -> str:
    """Vega-Lite reads dots, brackets and colons in a field name as its own syntax."""
    return column.replace(".", r"\.").replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")


def _names(frame: pd.DataFrame, column: str) -> list[str]:
    return [str(name) for name in dict.fromkeys(frame[column])]


def _colour(frame: pd.DataFrame, column: str, title: str | None) -> tuple[alt.Color, alt.Shape]:
    names = _names(frame, column)
    legend = alt.Legend(title=title or None) if title is not None and len(names) > 1 else None
    colour = alt.Color(
        f"{_safe(column)}:N", scale=alt.Scale(domain=names, range=theme.colours(names)), legend=legend, sort=names
    )
    shapes = [theme.SHAPES[i % len(theme.SHAPES)] for i in range(len(names))]
    shape = alt.Shape(f"{_safe(column)}:N", scale=alt.Scale(domain=names, range=shapes), legend=legend, sort=names)
    return colour, shape


def _interval_tooltips(value: Axis, low: str, high: str, extra: list[str]) -> list[alt.Tooltip]:
    ends = [Axis(low, "lower bound", value.fmt), Axis(high, "upper bound", value.fmt)]
    return [*(alt.Tooltip(f"{_safe(c)}:N", title=c) for c in extra), value.tooltip(), *(end.tooltip() for end in ends)]


def _reference(at: float | None) -> list[alt.Chart]:
    if at is None:
        return []
    data = pd.DataFrame({"at": [float(at)]})
    return [alt.Chart(data).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1).encode(x="at:Q")]


def point_interval(
    frame: pd.DataFrame,
    category: str,
    value: Axis,
    low: str,
    high: str,
    reference: float | None = None,
    row_height: int = 34,
) -> alt.LayerChart:
    """One row per ``category``: a point at ``value`` on its interval from ``low`` to ``high``.

    A dashed line stands at ``reference``. Rows without bounds show the point alone.
    """
    names = _names(frame, category)
    data = frame[[category, value.column, low, high]]
    colour, shape = _colour(data, category, None)
    rows = alt.Y(f"{_safe(category)}:N", sort=names, axis=alt.Axis(title=None, labelLimit=220))
    across = alt.X(f"{_safe(value.column)}:Q", scale=value.scale(), axis=value.axis())
    base = alt.Chart(data).encode(y=rows, color=colour)
    lines = base.mark_rule().encode(
        x=alt.X(f"{_safe(low)}:Q", scale=value.scale(), axis=value.axis()), x2=f"{_safe(high)}:Q"
    )
    points = base.mark_point().encode(x=across, shape=shape, tooltip=_interval_tooltips(value, low, high, [category]))
    shown = [lines] if data[low].notna().any() else []
    return alt.layer(*_reference(reference), *shown, points).properties(
        width=theme.WIDTH, height=row_height * len(names)
    )


def grouped_intervals(
    frame: pd.DataFrame,
    category: str,
    group: str,
    value: Axis,
    low: str,
    high: str,
    reference: float | None = None,
    group_title: str | None = None,
    row_height: int = 20,
) -> alt.LayerChart:
    """As ``point_interval``, with one interval per ``group`` (a protocol, a source, a strategy) in each row."""
    names, groups = _names(frame, category), _names(frame, group)
    data = frame[[category, group, value.column, low, high]]
    colour, shape = _colour(data, group, group if group_title is None else group_title)
    rows = alt.Y(
        f"{_safe(category)}:N",
        sort=names,
        axis=alt.Axis(title=None, labelLimit=220),
        scale=alt.Scale(paddingInner=0.25),
    )
    beside = alt.YOffset(f"{_safe(group)}:N", sort=groups)
    base = alt.Chart(data).encode(y=rows, yOffset=beside, color=colour)
    lines = base.mark_rule().encode(
        x=alt.X(f"{_safe(low)}:Q", scale=value.scale(), axis=value.axis()), x2=f"{_safe(high)}:Q"
    )
    points = base.mark_point().encode(
        x=alt.X(f"{_safe(value.column)}:Q", scale=value.scale(), axis=value.axis()),
        shape=shape,
        tooltip=_interval_tooltips(value, low, high, [category, group]),
    )
    height = row_height * len(names) * len(groups) + 10 * len(names)
    shown = [lines] if data[low].notna().any() else []
    return alt.layer(*_reference(reference), *shown, points).properties(width=theme.WIDTH, height=height)


def scaling_curve(
    frame: pd.DataFrame,
    x: Axis,
    y: Axis,
    low: str,
    high: str,
    series: str,
    levels: Mapping[str, float] | None = None,
    series_title: str | None = None,
) -> alt.LayerChart:
    """``y`` against ``x`` (a budget, on a logarithmic scale of base 2), one line with a band per ``series``.

    ``levels`` are horizontal dashed lines with their names. Ticks stand at the values of ``x`` that occur.
    """
    data = frame[[series, x.column, y.column, low, high]]
    ticks = sorted({float(value) for value in data[x.column]})
    scale = alt.Scale(type="log", base=2, nice=False, padding=PADDING)
    budget = alt.X(
        f"{_safe(x.column)}:Q", scale=scale, axis=alt.Axis(title=x.title, values=ticks, format="d", labelFlush=False)
    )
    colour, shape = _colour(data, series, series if series_title is None else series_title)
    base = alt.Chart(data).encode(x=budget, color=colour)
    band = base.mark_area().encode(y=alt.Y(f"{_safe(low)}:Q", scale=y.scale(), axis=y.axis()), y2=f"{_safe(high)}:Q")
    up = alt.Y(f"{_safe(y.column)}:Q", scale=y.scale(), axis=y.axis())
    line = base.mark_line().encode(y=up)
    tooltip = [alt.Tooltip(f"{_safe(series)}:N", title=series), Axis(x.column, x.title, "d").tooltip()]
    points = base.mark_point().encode(y=up, shape=shape, tooltip=[*tooltip, *_interval_tooltips(y, low, high, [])])
    layers: list[alt.Chart] = [band, line, points]
    if levels:
        marks = pd.DataFrame({"label": list(levels), "level": [float(v) for v in levels.values()], "end": ticks[-1]})
        rules = alt.Chart(marks).encode(y=alt.Y("level:Q", scale=y.scale(), axis=y.axis()))
        layers.append(rules.mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1))
        layers.append(
            rules.mark_text(align="right", dy=-7, color=theme.MUTED).encode(
                x=alt.X("end:Q", scale=scale), text="label:N"
            )
        )
    return alt.layer(*layers).properties(width=theme.WIDTH, height=theme.HEIGHT)


def strips(
    frame: pd.DataFrame,
    facet: str,
    x: Axis,
    y: Axis,
    colour: str | None = None,
    colour_title: str | None = None,
    reference: float | None = 1.0,
    columns: int = 3,
) -> alt.FacetChart:
    """Small multiples: one scatter of ``y`` (a speedup, usually ``log``) by ``x`` (a surprisal) per ``facet`` (a task).

    Hovering shows the values; dragging and the wheel zoom. A dashed line stands at ``reference`` on the y axis.
    """
    data = frame[[facet, x.column, y.column, *([colour] if colour else [])]].copy()
    data["reference"] = reference
    tooltip = [alt.Tooltip(f"{_safe(facet)}:N", title=facet), x.tooltip(), y.tooltip()]
    shown: dict[str, object] = {"color": alt.value(theme.CATEGORY_COLOURS[0])}
    if colour:
        paint, shape = _colour(data, colour, colour if colour_title is None else colour_title)
        shown = {"color": paint, "shape": shape}
    points = (
        alt.Chart(data)
        .mark_point(size=36, opacity=0.7)
        .encode(
            x=alt.X(f"{_safe(x.column)}:Q", scale=x.scale(), axis=x.axis()),
            y=alt.Y(f"{_safe(y.column)}:Q", scale=y.scale(), axis=y.axis()),
            tooltip=tooltip,
            **shown,
        )
        .add_params(alt.selection_interval(name="zoom", bind="scales"))
    )
    layers = [points]
    if reference is not None:
        rule = alt.Chart().mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
        layers.insert(0, rule.encode(y=alt.Y("mean(reference):Q", scale=y.scale(), axis=y.axis())))
    panel = alt.layer(*layers, data=data).properties(width=theme.SMALL, height=theme.SMALL)
    order = _names(data, facet)
    return panel.facet(facet=alt.Facet(f"{_safe(facet)}:N", sort=order, title=None), columns=columns)
