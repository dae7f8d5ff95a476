"""Chapter 5.3's charts: lines over steps with their intervals, small multiples, bars of the best step.

They draw what they are given. Series that share a step stand side by side, so that no interval hides another.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from vegtts_core.book import theme

DODGE = 0.09
"""Steps between neighbouring series."""


def _dodged(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[int]]:
    names = [str(name) for name in dict.fromkeys(frame["series"])]
    shift = {name: (i - (len(names) - 1) / 2) * DODGE for i, name in enumerate(names)}
    data = frame.copy()
    data["at"] = data["step"] + data["series"].map(shift).astype(float)
    return data, names, sorted({int(step) for step in frame["step"]})


def _across(steps: list[int]) -> alt.X:
    scale = alt.Scale(domain=[steps[0] - 0.3, steps[-1] + 0.3], nice=False, zero=False)
    return alt.X("at:Q", scale=scale, axis=alt.Axis(title="step", values=steps, format="d", labelFlush=False))


def _layers(data: pd.DataFrame, names: list[str], steps: list[int], up: alt.Y, title: str) -> list[alt.Chart]:
    legend = alt.Legend(title=title or None, columns=4) if len(names) > 1 else None
    colour = alt.Color("series:N", sort=names, scale=alt.Scale(domain=names, range=theme.colours(names)), legend=legend)
    shapes = [theme.SHAPES[i % len(theme.SHAPES)] for i in range(len(names))]
    shape = alt.Shape("series:N", sort=names, scale=alt.Scale(domain=names, range=shapes), legend=legend)
    base = alt.Chart(data).encode(x=_across(steps), color=colour)
    tooltip = [alt.Tooltip("series:N"), alt.Tooltip("step:Q"), alt.Tooltip("value:Q", format=".3")]
    rules = base.mark_rule(strokeWidth=1.2, opacity=0.75).encode(y=up, y2="high:Q")
    line = base.mark_line(strokeWidth=1.2).encode(y=alt.Y("value:Q"))
    points = base.mark_point(size=40).encode(y=alt.Y("value:Q"), shape=shape, tooltip=tooltip)
    shown = [rules] if data["low"].notna().any() else []
    return [*shown, line, points]


def _up(title: str, fmt: str, domain: tuple[float, float] | None) -> alt.Y:
    scale = alt.Scale(domain=list(domain), nice=False) if domain else alt.Scale(zero=False, nice=True)
    return alt.Y("low:Q", scale=scale, axis=alt.Axis(title=title, format=fmt, labelFlush=False))


def trajectory(frame: pd.DataFrame, title: str = "") -> alt.LayerChart:
    """fast_1 by step, one line per series: ``trajectories.lines``."""
    data, names, steps = _dodged(frame.rename(columns={"fast_1": "value"}))
    top = max(0.1, min(1.0, 1.08 * float(data["high"].max())))
    layers = _layers(data, names, steps, _up("fast_1, share of rollouts", ".0%", (0, top)), title)
    return alt.layer(*layers).properties(width=theme.WIDTH, height=theme.HEIGHT)


def tasks(frame: pd.DataFrame, title: str = "") -> alt.FacetChart:
    """fast_1 by step, one panel per task: ``trajectories.task_lines``."""
    data, names, steps = _dodged(frame.rename(columns={"fast_1": "value"}))
    layers = _layers(data, names, steps, _up("fast_1", ".0%", (-0.02, 1.02)), title)
    order = [str(task) for task in dict.fromkeys(frame["task"])]
    panel = alt.layer(*layers, data=data).properties(width=theme.SMALL, height=theme.SMALL)
    return panel.facet(facet=alt.Facet("task:N", sort=order, title=None), columns=3)


def diversity(frame: pd.DataFrame) -> alt.ConcatChart:
    """One panel per measure, each on its own scale: ``trajectories.diversity``'s first table."""
    panels = []
    for measure, part in frame.groupby("measure", sort=False):
        data, names, steps = _dodged(part.assign(series="all seeds").rename(columns={"estimate": "value"}))
        layers = _layers(data, names, steps, _up("", ".2~f", None), "")
        panels.append(alt.layer(*layers).properties(width=theme.SMALL, height=theme.SMALL - 30, title=str(measure)))
    return alt.concat(*panels, columns=2, spacing=24)


def optimum(frame: pd.DataFrame) -> alt.FacetChart:
    """How often each step is the best, one panel per series: ``trajectories_curse.optimum``."""
    kinds = [str(kind) for kind in dict.fromkeys(frame["redrawn"])]
    order = [str(name) for name in dict.fromkeys(frame["series"])]
    colour = alt.Color(
        "redrawn:N",
        sort=kinds,
        scale=alt.Scale(domain=kinds, range=list(theme.CATEGORY_COLOURS[:2])),
        legend=alt.Legend(title="drawn again"),
    )
    across = alt.X("step:O", axis=alt.Axis(title="step", labelAngle=0))
    beside = alt.XOffset("redrawn:N", sort=kinds)
    up = alt.Y(
        "probability:Q",
        scale=alt.Scale(domain=[0, 1.1], nice=False),
        axis=alt.Axis(title="is the best step", format=".0%"),
    )
    bars = alt.Chart().mark_bar().encode(x=across, xOffset=beside, y=up, color=colour)
    mark = (
        alt.Chart()
        .transform_filter(f"datum.chosen && datum.redrawn == '{kinds[0]}'")
        .mark_point(shape="triangle-down", size=60, color=theme.TEXT, filled=True)
        .encode(x=across, y=alt.datum(1.06))
    )
    panel = alt.layer(bars, mark, data=frame).properties(width=theme.SMALL, height=theme.SMALL - 20)
    columns = 2 if len(order) in (2, 4) else 3  # no row that is left half empty
    return panel.facet(facet=alt.Facet("series:N", sort=order, title=None), columns=columns)
