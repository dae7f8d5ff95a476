"""How much the tuning holes of the kernel templates matter: the slowest choice's time over the fastest's.

It reads what ``benchmarks/tuning_spread.py`` recorded. A reward is dense where correct choices differ in speed.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.charts import Axis
from vegtts_core.book.measurement import Recording, empty_chart, grouped, or_nothing
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column

MOST = 0.5
"""Of the tasks: "most of them" is more than this share."""


def spreads(found: Sequence[Recording]) -> pd.DataFrame:
    """One row per device and task: columns where, task, family, spread, speedup (of the fastest)."""
    rows = [
        (
            recording.where,
            f"task {str(each['task']).rpartition('/')[2]}",
            str(each["family"]).replace("_", " "),
            float(each["ratio"]),
            float(each["reference_ms"]) / float(each["fastest_ms"]),
        )
        for recording in found
        for each in recording.data["tasks"]
    ]
    return pd.DataFrame(rows, columns=["where", "task", "family", "spread", "speedup"])


def enough(found: Sequence[Recording]) -> float:
    """The spread that counts as enough; NaN if nothing is recorded."""
    return float(found[0].data["enough"]) if found else float("nan")


def table(found: Sequence[Recording]) -> pd.DataFrame:
    """One row per device and family, and one for all families: tasks, their spreads, and the share with enough."""
    frame, rows = spreads(found), []
    for where, own in frame.groupby("where", sort=False):
        for family, part in [*own.groupby("family"), ("all families", own)]:
            spread = part["spread"]
            row = {"where": where, "family": family, "tasks": len(part), "least": float(spread.min())}
            row |= {"median": float(spread.median()), "most": float(spread.max())}
            rows.append(row | {"share": float((spread >= enough(found)).mean())})
    return or_nothing(pd.DataFrame(rows, columns=list(COLUMNS)), "where")


COLUMNS = {
    "where": Column("device"),
    "family": Column("family"),
    "tasks": Column("tasks", ".0f"),
    "least": Column("least", "{:.2f}×", group="slowest over fastest choice"),
    "median": Column("median", "{:.2f}×", group="slowest over fastest choice"),
    "most": Column("greatest", "{:.2f}×", group="slowest over fastest choice"),
    "share": Column("tasks with enough", ".0%"),
}


def emphasis(frame: pd.DataFrame) -> tuple[int, ...]:
    """The rows of ``table`` for all families."""
    return tuple(place for place, family in enumerate(frame["family"]) if family == "all families")


def figure(found: Sequence[Recording]) -> alt.TopLevelMixin:
    """A point per task, by family; the dashed line is what counts as enough."""
    frame = spreads(found)
    if frame.empty:
        return empty_chart()
    families = sorted(set(frame["family"]))
    places = list(dict.fromkeys(frame["where"]))
    x = Axis("spread", "slowest over fastest choice", ".3~g", log=True)
    legend = alt.Legend(title=None) if len(places) > 1 else None
    rule = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
    points = (
        alt.Chart(frame)
        .mark_point(size=45, opacity=0.7)
        .encode(
            x=alt.X("spread:Q", scale=x.scale(), axis=x.axis()),
            y=alt.Y("family:N", sort=families, axis=alt.Axis(title=None, labelLimit=220)),
            yOffset=alt.YOffset("where:N", sort=places),
            color=alt.Color("where:N", scale=alt.Scale(domain=places, range=theme.colours(places)), legend=legend),
            tooltip=[alt.Tooltip("where:N", title="device"), alt.Tooltip("task:N"), x.tooltip()],
        )
    )
    height = 22 * len(families) * len(places)
    return alt.layer(rule.encode(x=alt.datum(enough(found))), points).properties(width=theme.WIDTH - 40, height=height)


def text(found: Sequence[Recording]) -> str:
    """Share of tasks whose spread is enough, and the median spread, per device; one sentence."""
    frame, limit = spreads(found), enough(found)
    texts = [
        f"{number(float((part['spread'] >= limit).mean()), '.0%')} of {len(part)} tasks, median "
        f"{number(float(part['spread'].median()), '{:.2f}×')} ({where})"
        for where, part in frame.groupby("where", sort=False)
    ]
    if not texts:
        return "Not recorded for this edition."
    return f"Choices of the template's constants range over {number(limit, '{:g}×')} or more on {'; '.join(texts)}."


def verdict(found: Sequence[Recording]) -> str:
    """Whether the fastest choice is enough faster than the slowest on most tasks, per device."""
    frame, limit, texts = spreads(found), enough(found), []
    for where, part in frame.groupby("where", sort=False):
        wide = float((part["spread"] >= limit).mean())
        what = "on most tasks" if wide > MOST else "on a minority of tasks only"
        texts.append((str(where), f"tuning alone is worth {number(limit, '{:g}×')} or more {what}"))
    return grouped(texts) or "Nothing is recorded for this edition, so nothing can be said."
