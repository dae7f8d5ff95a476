"""The figures of chapter 3.2: steps from left to right, one column of panels per scaffold. It computes nothing.

What it draws comes from ``training.progress`` and ``training_warm.coverage``.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.charts import Axis, scaling_curve
from vegtts_core.book.measurement import empty_chart
from vegtts_core.book.selecting import speed_axis
from vegtts_core.book.training import ALL

#: The paper's policy writes bodies of forward: its numbers stand beside ours in that scaffold only.
PAPERS_SCAFFOLD = "forward"

SOURCES = ("measured here", "paper")


def coverage_curve(curve: pd.DataFrame) -> alt.LayerChart | alt.Chart:
    """``training_warm.coverage`` as a scaling curve, or a line that says that there is none."""
    if curve.empty:
        return empty_chart("no samples of the policy")
    across, up = Axis("n", "samples per task"), Axis("share", "tasks with a correct sample", ".0%")
    return scaling_curve(curve, across, up, "low", "high", "series", series_title="")


def steps_figure(progress: pd.DataFrame, paper: pd.DataFrame) -> alt.VConcatChart:
    """Correctness and speedup of each step's rollouts, appendix B's checkpoints beside them."""
    right = Axis("value", "correct", ".0%", domain=(-0.02, 1.02))
    shown = with_paper(long(progress, "correct"), paper, "correct")
    fast = with_paper(long(progress, "speedup"), paper, "speedup")
    speed = speed_axis("value", pd.concat([fast["value"], fast["low"], fast["high"]]), "speedup")
    return steps_grid([(shown, right, None), (fast, speed, 1.0)])


def diversity_figure(progress: pd.DataFrame, k: int) -> alt.VConcatChart:
    """Distinct candidates among a group's ``k`` rollouts, and the entropy of their distribution."""
    most = float(np.log(k))
    distinct = Axis("value", f"distinct of {k}", ".3~g", domain=(0, k + 0.3))
    entropy = Axis("value", "entropy (nats)", ".1f", domain=(-0.05, most + 0.05))
    return steps_grid([(long(progress, "distinct"), distinct, None), (long(progress, "entropy"), entropy, most)])


def long(found: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure of ``progress``, an Interval, as columns step, scaffold, value, low, high, source, slots."""
    rows = found[found["scaffold"] != ALL]
    return pd.DataFrame(
        {
            "step": rows["step"].to_numpy(),
            "scaffold": rows["scaffold"].to_numpy(),
            "value": [interval.estimate for interval in rows[measure]],
            "low": [interval.low for interval in rows[measure]],
            "high": [interval.high for interval in rows[measure]],
            "slots": rows["slots"].to_numpy(),
            "source": SOURCES[0],
        }
    )


def with_paper(frame: pd.DataFrame, paper: pd.DataFrame, measure: str) -> pd.DataFrame:
    """``frame`` with appendix B's checkpoints, where the run is long enough to stand beside them."""
    if not len(frame) or frame["step"].max() < paper["step"].min() or PAPERS_SCAFFOLD not in set(frame["scaffold"]):
        return frame
    if measure == "correct":
        values = [(found.estimate, found.low, found.high) for found in paper["correct"]]
    else:
        values = [(float(value), float("nan"), float("nan")) for value in paper["speedup"]]
    rows = pd.DataFrame(values, columns=["value", "low", "high"])
    rows["step"], rows["scaffold"], rows["source"] = paper["step"].to_numpy(), PAPERS_SCAFFOLD, SOURCES[1]
    return pd.concat([frame, rows], ignore_index=True)


def steps_grid(rows: Sequence[tuple[pd.DataFrame, Axis, float | None]]) -> alt.VConcatChart:
    """One row of panels per (long frame, its y axis, a dashed line), one column per scaffold, against the step."""
    names = sorted({name for frame, _, _ in rows for name in frame["scaffold"]})
    last = max(int(frame["step"].max()) for frame, _, _ in rows)
    both = any(SOURCES[1] in set(frame["source"]) for frame, _, _ in rows)
    lines = []
    for index, (frame, axis, reference) in enumerate(rows):
        panels = [
            _panel(
                frame[frame["scaffold"] == name], axis, reference, last, name if index == 0 else "", place == 0, both
            )
            for place, name in enumerate(names)
        ]
        lines.append(alt.hconcat(*panels).resolve_scale(y="shared"))
    return alt.vconcat(*lines)


def _panel(
    frame: pd.DataFrame, axis: Axis, reference: float | None, last: int, title: str, first: bool, both: bool
) -> alt.LayerChart:
    ticks = sorted({round(last * part / 4) for part in range(5)})
    x = alt.X(
        "step:Q",
        scale=alt.Scale(domain=[0, max(last, 1)], padding=8, nice=False),
        axis=alt.Axis(title="step", values=ticks, format="d"),
    )
    upright = axis.axis()
    if not first:  # the scale is the left panel's: the same lines, without numbers
        for name in ("title", "labels", "ticks"):
            upright[name] = None if name == "title" else False
    y = alt.Y("value:Q", scale=axis.scale(), axis=upright)
    legend = alt.Legend(title=None) if both else None
    colour = alt.Color(
        "source:N", scale=alt.Scale(domain=list(SOURCES), range=theme.colours(list(SOURCES))), legend=legend
    )
    shape = alt.Shape("source:N", scale=alt.Scale(domain=list(SOURCES), range=["circle", "diamond"]), legend=legend)
    base = alt.Chart(frame).encode(x=x, color=colour)
    bars = base.mark_rule(strokeWidth=1, opacity=0.6).encode(
        y=alt.Y("low:Q", scale=axis.scale(), axis=upright), y2="high:Q"
    )
    tooltip = [alt.Tooltip("step:Q"), alt.Tooltip("value:Q", format=axis.fmt), alt.Tooltip("slots:Q", title="tasks")]
    points = base.mark_point(size=26).encode(y=y, shape=shape, tooltip=tooltip)
    layers: list[alt.Chart] = [bars, points]
    if reference is not None:
        rule = alt.Chart(pd.DataFrame({"at": [reference]})).mark_rule(
            color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1
        )
        layers.insert(0, rule.encode(y=alt.Y("at:Q", scale=axis.scale(), axis=upright)))
    chart = alt.layer(*layers).properties(width=theme.SMALL + 80, height=theme.SMALL)
    return chart.properties(title=title) if title else chart
