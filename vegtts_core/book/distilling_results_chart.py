"""Small multiples of appendix E.2: one panel per measure, steps across, a line with intervals per method."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.distilling_results import ADAPTATION, FEEDBACK, PROMPT_ONLY

COLOURS = {ADAPTATION: "#1a1a1a", FEEDBACK: "#2a86cf", PROMPT_ONLY: "#d55e00"}
ASIDE = 0.1
"""Steps by which the methods stand beside each other."""


def panels(
    frame: pd.DataFrame, measures: Mapping[str, tuple[str, str]], colours: Mapping[str, str] = COLOURS
) -> alt.HConcatChart:
    """``frame``: ``method``, ``step``, ``measure``, ``estimate``, ``low``, ``high``; ``measures``: title and format.

    ``colours``: of the methods, in the order of the legend.
    """
    order = [method for method in colours if method in set(frame["method"])]
    data = frame.assign(at=frame["step"] + [ASIDE * (order.index(m) - (len(order) - 1) / 2) for m in frame["method"]])
    steps = sorted(int(step) for step in data["step"].unique())
    colour = alt.Color(
        "method:N",
        scale=alt.Scale(domain=order, range=[colours[method] for method in order]),
        legend=alt.Legend(title=None),
        sort=order,
    )
    shape = alt.Shape("method:N", scale=alt.Scale(domain=order, range=list(theme.SHAPES[: len(order)])), legend=None)
    charts = []
    for measure, (title, fmt) in measures.items():
        part = data[data["measure"] == measure]
        base = alt.Chart(part, title=alt.Title(title, fontSize=12)).encode(
            x=alt.X(
                "at:Q",
                scale=alt.Scale(domain=[steps[0] - 0.3, steps[-1] + 0.3], nice=False),
                axis=alt.Axis(title="step", values=steps, format="d", grid=False),
            ),
            color=colour,
        )
        share = fmt.endswith("%")
        up = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=True, nice=True)
        height = alt.Y("estimate:Q", scale=up, axis=alt.Axis(title=None, format=fmt, tickCount=5))
        layers = [base.mark_line(strokeWidth=1.5).encode(y=height)]
        if part["low"].notna().any():
            layers.append(base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", scale=up), y2="high:Q"))
        tip = [alt.Tooltip("method:N"), alt.Tooltip("step:Q"), alt.Tooltip("estimate:Q", format=fmt, title=title)]
        layers.append(base.mark_point(size=45).encode(y=height, shape=shape, tooltip=tip))
        charts.append(alt.layer(*layers).properties(width=150, height=170))
    return alt.hconcat(*charts, spacing=52, bounds="flush")
