"""The scaling curves of the study's Best-of-N runs beside the chapter's own, under the sound protocol (section 5.1).

It arranges what ``metrics`` and ``ranking`` compute, one view per run, and words what the intervals allow. It knows
nothing of how samples were evaluated, and no run by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics, ranking
from vegtts_core.book import study
from vegtts_core.book.charts import Axis, scaling_curve
from vegtts_core.book.prose import MISSING, number
from vegtts_core.book.scaling import MARK, bounds, curves, sample_counts
from vegtts_core.book.tables import Column
from vegtts_core.metrics import GROUP
from vegtts_core.metrics.saturation import saturation
from vegtts_core.ranking import Order, Unit
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval

PROTOCOL = "sound"
SHOWN = (1, 4, 16, 64)
CLAIMED = 16
"""The K at which the paper calls the curve saturated."""

Views = Mapping[str, pd.DataFrame]


def views(searches: Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    """Each search's view under the sound protocol, by its short name."""
    return {study.short(name): metrics.under(run.samples, PROTOCOL) for name, run in searches.items()}


def solved(found: Views) -> pd.DataFrame:
    """``scaling.curves`` of every run: columns series (the run), k, pass_at_k, low, high, replaced, tasks, seeds."""
    parts = [curves({PROTOCOL: view}).assign(series=name) for name, view in found.items()]
    columns = ["series", "k", "pass_at_k", "low", "high", "replaced", "tasks", "seeds"]
    return pd.concat(parts, ignore_index=True)[columns]


def reached(found: Views, seed: int = 0) -> pd.DataFrame:
    """Speedup of what K random samples leave a user with: geometric means over tasks, bootstrap over tasks and seeds.

    Nothing faster counts as 1; chosen by the first evaluation, read from the second where the run has one. Columns
    series, k, reached (an Interval).
    """
    rows = []
    for name, view in found.items():
        ks = sample_counts(view)
        part = ranking.curves(view, Unit.SAMPLES, (Order.RANDOM,))
        wide = part[part["m"].isin(ks)].pivot(index=GROUP, columns="m", values="log_reached")
        tasks = wide.index.get_level_values("task")
        for k in ks:
            found_k = mean_interval(wide[k], tasks, seed=seed)
            three = np.exp([found_k.estimate, found_k.low, found_k.high])
            rows.append({"series": name, "k": k, "reached": Interval(*map(float, three), found_k.n)})
    return pd.DataFrame(rows, columns=["series", "k", "reached"])


def table(found: Views) -> pd.DataFrame:
    """One row per run: tasks, seeds, and at each K of ``SHOWN`` the share solved and the speedup, as text."""
    shares, speeds = solved(found).set_index(["series", "k"]), reached(found).set_index(["series", "k"])["reached"]
    rows = []
    for name, view in found.items():
        row: dict[str, object] = {"run": name, "tasks": view["task"].nunique(), "seeds": view["seed"].nunique()}
        for k in SHOWN:
            row[f"solved_{k}"] = row[f"reached_{k}"] = MISSING
            if (name, k) in shares.index:
                share = shares.loc[(name, k)]
                mark = MARK if share["replaced"] else ""
                row[f"solved_{k}"] = (
                    f"{number(float(share['pass_at_k']), '.0%')} {bounds(share['low'], share['high'])}{mark}"
                )
                row[f"reached_{k}"] = number(speeds.loc[(name, k)], ".2f")
        rows.append(row)
    return pd.DataFrame(rows)


def figure(rows: pd.DataFrame) -> alt.ConcatChart:
    """``solved`` as one small panel per run, two beside each other."""
    share = Axis("pass_at_k", "tasks solved", ".0%", domain=(0, 1))
    panels = []
    for name, part in rows.groupby("series", sort=False):
        data = part.assign(protocol=PROTOCOL)
        chart = scaling_curve(
            data, Axis("k", "K, samples per task"), share, "low", "high", "protocol", None, "protocol"
        )
        panels.append(chart.properties(width=225, height=150, title=str(name)))
    return alt.concat(*panels, columns=2, spacing=16)


def columns(measure: str) -> dict[str, Column]:
    """How ``table`` is shown: ``solved`` or ``reached``."""
    heading = {"solved": "tasks with a fast sample among K", "reached": "speedup reached with K samples"}[measure]
    start = {"run": Column("run"), "tasks": Column("tasks", "d")}
    return start | {f"{measure}_{k}": Column(f"K = {k}", group=heading) for k in SHOWN}


def states(found: Views) -> dict[str, str]:
    """Per run what its interval says of "95% of the end by K = 16": yes, no, open, nothing, short or one.

    ``nothing``: no sample is fast. ``short``: fewer than twice 16 samples, so the end is not seen. ``one``: a single
    task has a fast sample, and no interval over tasks can speak of others.
    """
    return {name: _state(view) for name, view in found.items()}


def _state(view: pd.DataFrame) -> str:
    if max(sample_counts(view), default=0) < 2 * CLAIMED:
        return "short"
    solvable = view.loc[view["fast_limit"] > 1, "task"].nunique()
    if solvable < 2:
        return "one" if solvable else "nothing"
    ends = saturation(view)
    if np.isnan(ends.low):
        return "open"
    return "yes" if ends.high <= CLAIMED else "no" if ends.low > CLAIMED else "open"


def here(found: Views) -> str:
    """The fewest samples that reach 95% of the curve's end, per run, with its interval over tasks."""
    parts = []
    for name, view in found.items():
        ends = saturation(view)
        if np.isnan(ends.estimate):
            parts.append(f"{name}: nothing fast")
            continue
        interval = "no interval" if np.isnan(ends.low) else f"{ends.low:.0f} to {ends.high:.0f}"
        fast = view.loc[view["fast_limit"] > 1, "task"].nunique()
        parts.append(
            f"{name}: K = {ends.estimate:.0f} ({interval}; {fast} of {view['task'].nunique()} tasks ever solved)"
        )
    return "; ".join(parts) + "."


_WORDS = {
    "yes": f"saturated by K = {CLAIMED}",
    "no": f"not saturated by K = {CLAIMED}",
    "open": "undecided, the interval holds both answers",
    "nothing": "nothing fast, so nothing to saturate",
    "short": "too few samples to see an end",
    "one": "one task with a fast sample, so undecided for others",
}


def verdict(decided: Mapping[str, str]) -> str:
    """What follows from ``states``, runs of one answer together."""
    parts = []
    for state, words in _WORDS.items():
        names = [name for name, value in decided.items() if value == state]
        if names:
            parts.append(f"{words[0].upper()}{words[1:]}: {'; '.join(names)}.")
    return " ".join(parts) + " An end at the last K recorded is no limit: more samples may move it."
