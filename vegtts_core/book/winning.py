"""Per task, which wins: search or adaptation; and whether it would win again with other rollouts (section 5.4).

A winner by a difference that the rollouts' own noise explains is none. It takes the rules' tasks from ``regimes``.
"""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book import theme
from vegtts_core.book.regimes import Rule
from vegtts_core.book.tables import Column
from vegtts_core.statistics import Interval

SEARCH, ADAPTATION, NEITHER = "search", "adaptation", "neither"

_WIDTH = 2 * stats.norm.ppf(0.975)

COLUMNS = {
    "shown": Column("tasks of"),
    "task": Column("task"),
    "coverage": Column("Best-of-N", ".0%"),
    "adapted": Column("adapted", ".0%"),
    "points": Column("difference, points [95%]", "+.0f"),
    "winner": Column("winner"),
    "again": Column("wins again", ".0%"),
}


def winners(rules: Iterable[Rule]) -> pd.DataFrame:
    """One row per rule and task: source, task, coverage, adapted, difference (Interval; ``points``: in percentage

    points), winner, again, sure; ``shown``: the source where it is new.

    ``again``: how often the same method would be ahead if the rollouts were drawn anew, with normal errors of the width
    of the difference's interval in this draw and in the next (so 50% where nothing is known); NaN where both are equal.
    ``sure``: the interval excludes 0.
    """
    rows = []
    for rule in rules:
        for row in rule.tasks.to_dict("records"):
            gain, low, high = float(row["benefit"]), float(row["low"]), float(row["high"])
            error = (high - low) / _WIDTH
            again = float(stats.norm.cdf(abs(gain) / error / np.sqrt(2))) if gain and error > 0 else np.nan
            winner = NEITHER if gain == 0 else ADAPTATION if gain > 0 else SEARCH
            coverage = float(row["coverage"])
            difference = Interval(gain, low, high, 1)
            sure = low > 0 or high < 0
            rows.append((rule.name, str(row["task"]), coverage, coverage + gain, difference, winner, again, sure))
    names = ["source", "task", "coverage", "adapted", "difference", "winner", "again", "sure"]
    frame = pd.DataFrame(rows, columns=names)
    points = [Interval(100 * d.estimate, 100 * d.low, 100 * d.high, d.n) for d in frame["difference"]]
    return frame.assign(points=points, shown=frame["source"].where(~frame["source"].duplicated(), ""))


def figure(table: pd.DataFrame) -> alt.Chart:
    """Adapted minus Best-of-N by task, one row of points per source, with intervals; to the right adaptation wins."""
    frame = table.assign(
        estimate=[each.estimate for each in table["difference"]],
        low=[each.low for each in table["difference"]],
        high=[each.high for each in table["difference"]],
        kind=np.where(table["sure"], "beyond noise", "within noise"),
    )[["source", "task", "estimate", "low", "high", "kind"]]
    order = list(dict.fromkeys(frame["task"]))
    kinds = alt.Scale(domain=["beyond noise", "within noise"], range=[theme.CATEGORY_COLOURS[0], theme.MUTED])
    colour = alt.Color("kind:N", scale=kinds, legend=alt.Legend(title=None))
    axis = alt.Axis(title="adapted minus Best-of-N", format="+.0%", values=[-1, -0.5, 0, 0.5, 1])
    y = alt.Y("task:N", sort=order, axis=alt.Axis(title="task"))
    base = alt.Chart().encode(y=y, color=colour)
    zero = alt.Chart().mark_rule(color=theme.MUTED, strokeDash=[4, 3]).encode(x=alt.datum(0))
    bars = base.mark_rule().encode(x=alt.X("low:Q", axis=axis, scale=alt.Scale(domain=[-1, 1])), x2="high:Q")
    shown = [alt.Tooltip("task:N"), *(alt.Tooltip(f"{name}:Q", format="+.0%") for name in ("estimate", "low", "high"))]
    points = base.mark_point(size=50, filled=True).encode(x=alt.X("estimate:Q", axis=axis), tooltip=shown)
    layer = alt.layer(zero, bars, points).properties(width=theme.SMALL + 60, height=theme.SMALL)
    return layer.facet(
        alt.Facet("source:N", sort=list(dict.fromkeys(frame["source"])), header=alt.Header(title=None)),
        columns=2,
        data=frame,
    )
