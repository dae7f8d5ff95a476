"""The figures of chapter 5.3b: rho, NLL and diversity along the checkpoints. It computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from vegtts_core.book import published, theme
from vegtts_core.book.charts import Axis
from vegtts_core.book.probing import ANALYSES, DIVERSITY, READINGS, SETS
from vegtts_core.metrics import Quarter

LINES = (*ANALYSES, "paper")
_COLOURS = [theme.CATEGORY_COLOURS[0], theme.CATEGORY_COLOURS[1], theme.SOURCE_COLOURS["paper"]]


def paper_points() -> pd.DataFrame:
    """The paper's rhos as points of the panels of every sample: both quarters show its bottom quartile."""
    table = published.table("5.3b-probe")
    rows = []
    for key, row in table.iterrows():
        panels = (Quarter.ALL,) if str(key).startswith("all") else (Quarter.SLOWEST, Quarter.MOST_SURPRISING)
        rows += [(panel.value, "paper", int(row["step"]), float(row["rho"])) for panel in panels]
    return pd.DataFrame(rows, columns=["set", "analysis", "step", "rho"])


def _title(text: str) -> alt.Title:
    return alt.Title(text, frame="group", anchor="start", fontSize=12)


def _steps(last: int) -> alt.X:
    ticks = sorted({round(last * part / 4) for part in range(5)})
    scale = alt.Scale(domain=[0, max(last, 1)], padding=8, nice=False)
    return alt.X("step:Q", scale=scale, axis=alt.Axis(title="step", values=ticks, format="d"))


def rhos(table: pd.DataFrame) -> alt.VConcatChart:
    """The rho trajectory: a row of panels per reading of failures, a column per set; bands: bootstrap over tasks."""
    last = max(int(table["step"].max()), int(paper_points()["step"].max()))
    rows = []
    for index, reading in enumerate(READINGS):
        panels = []
        for place, which in enumerate(SETS):
            part = table[(table["reading"] == reading) & (table["set"] == which.value)]
            paper = paper_points() if index == 0 else paper_points().iloc[:0]
            panels.append(rho_panel(part, paper[paper["set"] == which.value], last, which.value, place == 0))
        rows.append(alt.hconcat(*panels, title=alt.Title(reading, fontSize=13)).resolve_scale(y="shared"))
    return alt.vconcat(*rows)


def rho_panel(part: pd.DataFrame, paper: pd.DataFrame, last: int, title: str, first: bool) -> alt.LayerChart:
    """rho by step, a line per analysis with its band, and the paper's points; the ``first`` of a row has the axis."""
    domain = [-1.05, 1.05]
    upright = alt.Axis(title="ρ(NLL, speedup)", values=[-1, -0.5, 0, 0.5, 1]) if first else alt.Axis(title=None)
    if not first:
        upright = alt.Axis(title=None, labels=False, ticks=False, values=[-1, -0.5, 0, 0.5, 1])
    scale = alt.Scale(domain=domain, nice=False)
    colour = alt.Color("analysis:N", scale=alt.Scale(domain=list(LINES), range=_COLOURS), legend=alt.Legend(title=None))
    shape = alt.Shape("analysis:N", scale=alt.Scale(domain=list(LINES), range=["circle", "square", "diamond"]))
    shown = part[part["rho"].notna()]
    both = pd.concat([shown[["analysis", "step", "rho", "low", "high"]], paper], ignore_index=True)
    base = alt.Chart(both).encode(x=_steps(last), color=colour)
    y = alt.Y("rho:Q", scale=scale, axis=upright)
    tooltip = [alt.Tooltip("analysis:N"), alt.Tooltip("step:Q"), alt.Tooltip("rho:Q", format=".2f")]
    zero = alt.Chart(pd.DataFrame({"at": [0.0]})).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
    layers: list[alt.Chart] = [zero.encode(y=alt.Y("at:Q", scale=scale, axis=upright))]
    if both["low"].notna().any():
        band = base.transform_filter("isValid(datum.low)").mark_area()
        layers.append(band.encode(y=alt.Y("low:Q", scale=scale, axis=upright), y2="high:Q"))
    layers.append(base.transform_filter("datum.analysis != 'paper'").mark_line().encode(y=y))
    layers.append(base.mark_point(size=36).encode(y=y, shape=shape, tooltip=tooltip))
    if not len(shown):
        note = alt.Chart(pd.DataFrame({"step": [last / 2], "at": [0.8], "note": ["undefined or n < 5"]}))
        text = note.mark_text(color=theme.MUTED, fontSize=11)
        layers.append(text.encode(x=_steps(last), y=alt.Y("at:Q", scale=scale, axis=upright), text="note:N"))
    return alt.layer(*layers).properties(width=theme.SMALL, height=theme.SMALL, title=_title(title))


def _lines(frame: pd.DataFrame, axis: Axis, last: int, title: str, reference: float | None = None) -> alt.LayerChart:
    base = alt.Chart(frame).encode(x=_steps(last), color=alt.value(theme.CATEGORY_COLOURS[0]))
    y = alt.Y(f"{axis.column}:Q", scale=axis.scale(), axis=axis.axis())
    tooltip = [alt.Tooltip("step:Q"), axis.tooltip()]
    layers: list[alt.Chart] = []
    if frame["low"].notna().any():
        layers.append(
            base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", scale=axis.scale(), axis=axis.axis()), y2="high:Q")
        )
    layers += [base.mark_line().encode(y=y), base.mark_point(size=36).encode(y=y, tooltip=tooltip)]
    if reference is not None:
        rule = alt.Chart(pd.DataFrame({"at": [reference]})).mark_rule(
            color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1
        )
        layers.insert(0, rule.encode(y=alt.Y("at:Q", scale=axis.scale(), axis=axis.axis())))
    return alt.layer(*layers).properties(width=theme.SMALL, height=theme.SMALL, title=_title(title))


def nlls(table: pd.DataFrame) -> alt.HConcatChart:
    """Mean NLL per token, its change since step 0 (paired), and the sum per completion, each on its own scale."""
    last = int(table["step"].max())
    panels = (
        ("nll_mean", "per token", "nats/token", None),
        ("change", "change since step 0", "nats/token", 0.0),
        ("nll_sum", "sum per completion", "nats", None),
    )
    charts = []
    for name, title, unit, reference in panels:
        frame = table[["step", name, f"{name}_low", f"{name}_high"]].set_axis(["step", name, "low", "high"], axis=1)
        charts.append(_lines(frame, Axis(name, unit, ".3~g"), last, title, reference))
    return alt.hconcat(*charts)


def diversity(table: pd.DataFrame, names: Sequence[str] = ("distinct_share", "entropy", "edit_distance")) -> alt.Chart:
    """Diversity measures of the run's own rollouts per step (``metrics.diversity_by_step``)."""
    last = int(table["step"].max())
    charts = []
    for name in names:
        part = table[table["measure"] == name]
        charts.append(_lines(part, Axis("estimate", DIVERSITY[name][0], ".2~f"), last, ""))
    return alt.hconcat(*charts)  # type: ignore[return-value]
