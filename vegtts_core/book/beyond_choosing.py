"""Chapter 10: what a practitioner could do for the same cost, once every candidate is known to be correct.

Chapter 5.2 has the paper's five rules and their tests; here are the cheap alternatives that cost as many timings, each
held against random choice of the same cost. Copies count once throughout, except in one row.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import ranking
from vegtts_core.book.beyond_ranking import Views, points, ratio
from vegtts_core.book.charts import Axis, grouped_intervals
from vegtts_core.book.selecting_words import signed
from vegtts_core.book.tables import Column
from vegtts_core.metrics import GROUP
from vegtts_core.ranking import Order, Unit
from vegtts_core.statistics import Effect, mean_effect

TIMINGS = (1, 3, 5)
"""Timings that a rule may spend; with 1 the candidate is returned untimed."""

AS_DRAWN = "random, as drawn"
ORACLE = "oracle"

_RULES = [
    *((Order.RANDOM, m) for m in TIMINGS),
    *((Order.CONFIDENCE, m) for m in TIMINGS),
    *((Order.SURPRISAL, m) for m in TIMINGS),
    (Order.SHORTEST, 1),
    (Order.LONGEST, 1),
    (Order.MAJORITY, 1),
    (Order.RANDOM, None),
]


def rule(order: str, m: int | None) -> str:
    """How a rule is called: ``surprisal``, ``surprisal, best of 3``, ``oracle``."""
    if m is None:
        return ORACLE
    return order if m == 1 else f"{order}, best of {m}"


def outcomes(views: Views) -> pd.DataFrame:
    """What each rule returns in each group: `ranking.after_filter` with columns policy, rule and ``timings`` (m)."""
    parts = []
    for label, view in views.items():
        found = ranking.after_filter(view, _RULES)
        drawn = ranking.after_filter(view, [(Order.RANDOM, 1)], Unit.SAMPLES)
        limits = [None if pd.isna(m) else int(m) for m in found["m"]]
        found["rule"] = [rule(order, m) for order, m in zip(found["order"], limits, strict=True)]
        found["timings"] = [np.nan if m is None else m for m in limits]
        parts.append(pd.concat([found, drawn.assign(rule=AS_DRAWN, timings=1)]).assign(policy=label))
    return pd.concat(parts, ignore_index=True)[["policy", "rule", "timings", *GROUP, "success", "log_speedup"]]


def effects(found: pd.DataFrame) -> pd.DataFrame:
    """Each rule's mean over tasks, and its difference from random of the same cost, paired by group.

    Groups of all policies in ``found`` together, each task weighing the same. Columns rule, timings, ``success``,
    ``speedup`` (geometric, groups with a correct candidate), ``points`` and ``ratio`` (Effects; None
    for random itself).
    """
    keys = ["policy", *GROUP]
    wide = {name: found.pivot(index=keys, columns="rule", values=name) for name in ("success", "log_speedup")}
    tasks = wide["success"].index.get_level_values("task")
    rows = []
    for name, part in found.groupby("rule", sort=False):
        timings = float(part["timings"].iloc[0])
        base = rule(str(Order.RANDOM), 1 if np.isnan(timings) else int(timings))
        row: dict[str, object] = {"rule": name, "timings": timings}
        success, log = (mean_effect(wide[key][name].to_numpy(dtype=float), tasks) for key in wide)
        row |= {"success": success.interval.estimate, "speedup": float(np.exp(log.interval.estimate))}
        for key, source in (("points", "success"), ("ratio", "log_speedup")):
            same = name == base
            row[key] = (
                None if same else mean_effect((wide[source][name] - wide[source][base]).to_numpy(dtype=float), tasks)
            )
        rows.append(row | {"tasks": log.n, "groups": log.groups})
    return pd.DataFrame(rows)


def table(found: pd.DataFrame) -> pd.DataFrame:
    """`effects` as shown, by cost: random first, the oracle last."""
    order = found["timings"].fillna(np.inf).to_numpy()
    rows = found.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    cost = ["all" if np.isnan(t) else "none" if t == 1 else str(int(t)) for t in rows["timings"]]
    return rows.assign(
        cost=cost,
        points=[None if e is None else points(e) for e in rows["points"]],
        ratio=[None if e is None else ratio(e) for e in rows["ratio"]],
    )


COLUMNS = {
    "cost": Column("timings"),
    "rule": Column("rule"),
    "success": Column("fast_1", ".0%"),
    "speedup": Column("speedup", "{:.3f}×"),
    "points": Column("fast_1, points [95%]", lambda value: signed(value, "+.1f"), group="against random of that cost"),
    "ratio": Column("speedup, ratio [95%]", ".3f", group="against random of that cost"),
}

SHOWN = ("confidence", "surprisal", "surprisal, best of 3", "majority", "shortest", "longest")
"""Rules of the figure."""


def by_policy(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`effects` of each policy by itself."""
    return {str(label): effects(part) for label, part in found.groupby("policy", sort=False)}


def figure(found: Mapping[str, pd.DataFrame]) -> alt.LayerChart:
    """Each policy's ratio to random of the same cost, per rule; `by_policy`'s tables."""
    rows = []
    for label, part in found.items():
        for name in SHOWN:
            effect = part.set_index("rule").at[name, "ratio"]
            value = ratio(effect) if isinstance(effect, Effect) else None
            if value is not None and np.isfinite(value.estimate):
                rows.append((name, f"policy {label}", value.estimate, value.low, value.high))
    frame = pd.DataFrame(rows, columns=["rule", "policy", "ratio", "low", "high"])
    axis = Axis("ratio", "speedup over random choice of the same cost", ".2~f")
    return grouped_intervals(frame, "rule", "policy", axis, "low", "high", 1.0, "", row_height=12)
