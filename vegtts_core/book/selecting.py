"""The tables of chapter 5.2: what the strategies get, beside the paper's numbers, and how much they can choose from.

It arranges what ``selection`` computes from a protocol's view. It knows nothing of how samples were evaluated. Tests
and correlations are in ``selecting_tests``, sentences in ``selecting_words``, and what choosing by a clock does to the
chosen speedup in ``winners``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core.book.charts import Axis, grouped_intervals
from vegtts_core.book.prose import number
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.contested import is_contested
from vegtts_core.metrics import GROUP
from vegtts_core.selection import (
    STRATEGIES,
    TIE,
    Signal,
    Strategy,
    aggregate_strategies,
    eligible,
    evaluate_strategies,
    surprisal_guided_top,
)
from vegtts_core.statistics import Interval, wilson

PAPER = "paper"
PROTOCOLS = ("published", "sound")

#: (Task, seed) pairs behind the paper's table 5.3: 5 tasks, 2 seeds.
PAPER_PAIRS, PAPER_TASKS = 10, 5

DECISIONS = ("faster", "same", "undecided", "slower")

NAN = float("nan")


def best_of_random(m: int) -> Strategy:
    """The fastest of m correct samples drawn at random without replacement, in expectation.

    What a rule that may time m samples has to beat. It is the fastest of the top m of samples that surprisal does not
    tell apart, so its weights are exact and need no seed.
    """
    rule = surprisal_guided_top(m).rule
    return Strategy(
        f"best-of-{m}-random",
        f"Fastest of {m} random correct samples, in expectation",
        m,
        lambda surprisal, limit: rule(np.zeros_like(surprisal), limit),
    )


BEST_OF_3_RANDOM = best_of_random(3)


def _percent(low: float, high: float) -> str | None:
    """Bounds as ``41–87%`` on one line; None where there are none."""
    return None if np.isnan(low) or np.isnan(high) else f"{100 * low:.0f}\u2060–\u2060{100 * high:.0f}%"


SIDES = {PAPER: "paper", "published": "here, published", "sound": "here, sound"}
"""How a table with one row per side calls them: the paper, and the run of the chapter under each protocol."""


def success(paper: pd.DataFrame, here: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table 5.3's success rates: per strategy a row of the paper and one of each protocol's ``aggregate_strategies``.

    Columns: strategy, side, success, bootstrap and wilson (bounds as text; the paper's Wilson from its share and number
    of pairs), std over seeds, groups.
    """
    rows = []
    for name in [s.name for s in STRATEGIES]:
        share = float(paper.at[name, "fast_1"])
        score = wilson(share * PAPER_PAIRS, PAPER_PAIRS)
        spread = float(paper.at[name, "std"])
        rows.append((name, SIDES[PAPER], share, None, _percent(score.low, score.high), spread, PAPER_PAIRS))
        for protocol, table in here.items():
            ours = table.set_index("strategy").loc[name]
            bounds = [_percent(ours[f"{kind}low"], ours[f"{kind}high"]) for kind in ("", "wilson_")]
            rows.append(
                (name, SIDES[protocol], float(ours["success"]), *bounds, float(ours["std"]), int(ours["groups"]))
            )
    columns = ["strategy", "side", "success", "bootstrap", "wilson", "std", "groups"]
    return pd.DataFrame(rows, columns=columns)


SUCCESS_COLUMNS = {
    "strategy": Column("strategy"),
    "side": Column("source"),
    "success": Column("success", ".0%"),
    "bootstrap": Column("bootstrap"),
    "wilson": Column("Wilson"),
    "std": Column("std", ".1%"),
    "groups": Column("groups", "d"),
}


def speedups(paper: pd.DataFrame, here: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table 5.3's speedups: the paper's arithmetic mean, and ours arithmetic and geometric under each protocol."""
    rows = []
    for name in [s.name for s in STRATEGIES]:
        row: dict[str, object] = {"strategy": name, "paper.mean": float(paper.at[name, "mean_speedup"])}
        for protocol, table in here.items():
            ours = table.set_index("strategy").loc[name]
            row[f"{protocol}.mean"] = float(ours["mean_speedup"])
            row[f"{protocol}.geometric"] = Interval(
                float(ours["geometric_speedup"]), float(ours["geometric_low"]), float(ours["geometric_high"]), 0
            )
        rows.append(row)
    return pd.DataFrame(rows)


SPEEDUP_COLUMNS = {"strategy": Column("strategy"), "paper.mean": Column("arithmetic", "{:.1f}×", group=PUBLISHED)}
for _protocol in PROTOCOLS:
    _group = f"{HERE}, {_protocol} protocol"
    SPEEDUP_COLUMNS[f"{_protocol}.mean"] = Column("arithmetic", "{:.3f}×", group=_group)
    SPEEDUP_COLUMNS[f"{_protocol}.geometric"] = Column("geometric [95%]", ".3f", group=_group)


def success_points(paper: pd.DataFrame, here: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Figure 4a, long: columns strategy, side, success, low, high.

    Bounds are the wider of the bootstrap's and Wilson's: the first closes up where all groups agree, the second takes
    them as independent. The paper's are Wilson's for its 10 pairs.
    """
    rows = []
    for name in [s.name for s in STRATEGIES]:
        share = float(paper.at[name, "fast_1"])
        score = wilson(share * PAPER_PAIRS, PAPER_PAIRS)
        rows.append((name, PAPER, share, score.low, score.high))
        for protocol, table in here.items():
            ours = table.set_index("strategy").loc[name]
            low, high = np.fmin(ours["low"], ours["wilson_low"]), np.fmax(ours["high"], ours["wilson_high"])
            rows.append((name, protocol, float(ours["success"]), float(low), float(high)))
    return pd.DataFrame(rows, columns=["strategy", "side", "success", "low", "high"])


def speedup_points(paper: pd.DataFrame, here: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Figure 4b, long: ours (geometric means with bounds) and the paper's (arithmetic means without).

    Columns strategy, side, speedup, low, high.
    """
    ours = [
        (row["strategy"], protocol, row["geometric_speedup"], row["geometric_low"], row["geometric_high"])
        for name in [s.name for s in STRATEGIES]
        for protocol, table in here.items()
        for row in table[table["strategy"] == name].to_dict("records")
    ]
    theirs = [(s.name, PAPER, float(paper.at[s.name, "mean_speedup"]), NAN, NAN) for s in STRATEGIES]
    columns = ["strategy", "side", "speedup", "low", "high"]
    return pd.DataFrame(ours, columns=columns), pd.DataFrame(theirs, columns=columns)


def speed_axis(column: str, values: Sequence[float] | pd.Series, title: str) -> Axis:
    """A speedup's axis: logarithmic where the values span more than a factor of 4, else linear (equal to the eye)."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite) & (finite > 0)]
    wide = len(finite) > 0 and finite.max() > 4 * finite.min()
    return Axis(column, title, ".3~g", log=bool(wide))


def figure_speedups(ours: pd.DataFrame, theirs: pd.DataFrame) -> alt.VConcatChart:
    """Figure 4b: our panel over the paper's, each on its own scale, since one would hide the other's differences."""
    axis = speed_axis("speedup", pd.concat([ours["speedup"], ours["low"], ours["high"]]), "geometric mean speedup")
    top = grouped_intervals(ours, "strategy", "side", axis, "low", "high", 1.0, "measured here, protocol")
    paper_axis = Axis("speedup", "arithmetic mean speedup", ".3~g", log=True)
    bottom = grouped_intervals(theirs, "strategy", "side", paper_axis, "low", "high", 1.0, "")
    panels = (top.properties(title="Measured here"), bottom.properties(title="Published"))
    own = dict.fromkeys(("color", "shape", "y", "yOffset"), "independent")
    return alt.vconcat(*panels).resolve_scale(**own)


def copies(view: pd.DataFrame, p: float = 1.0) -> pd.DataFrame:
    """How much there is to choose from, one row per task of a protocol's view, in the order of task numbers.

    ``groups``; ``correct``: samples that can be chosen, per group; ``distinct``: different candidates among them, per
    group, with ``fewest`` and ``most``; ``one_top3``: groups whose three most surprising correct samples can only be
    copies of one candidate; ``contested``: groups that hold both a fast and another correct sample. Only in contested
    groups can two strategies differ in success.
    """
    rows = []
    for (task_id, task), part in view.groupby(["task_id", "task"], sort=True):
        counts, distinct, one, contested = [], [], 0, 0
        for _, group in part.groupby(GROUP):
            usable = group[eligible(group)]
            counts.append(len(usable))
            distinct.append(int(usable["fingerprint"].nunique(dropna=False)))
            third = usable["surprisal"].nlargest(3).min()
            top = usable.loc[usable["surprisal"] >= third - TIE, "fingerprint"]
            one += int(len(usable) > 1 and top.nunique(dropna=False) == 1)
            contested += is_contested(group, p)
        rows.append(
            {
                "task": task,
                "task_id": task_id,
                "groups": len(counts),
                "correct": float(np.mean(counts)),
                "distinct": float(np.mean(distinct)),
                "fewest": min(distinct),
                "most": max(distinct),
                "one_top3": one,
                "contested": contested,
            }
        )
    columns = ["task", "task_id", "groups", "correct", "distinct", "fewest", "most", "one_top3", "contested"]
    return pd.DataFrame(rows, columns=columns)


#: How the strategies may be run: heading, signal, whether copies are collapsed first.
VARIANTS = {
    "plain": ("as drawn", Signal.UNTEMPERED, False),
    "distinct": ("copies once", Signal.UNTEMPERED, True),
    "sampling": ("tempered signal", Signal.SAMPLING, False),
}


def variants(views: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean success of the five strategies and of best-of-3-random, plain, with copies collapsed, and by the tempered
    log-probability: columns strategy and ``<protocol>.<variant>``.
    """
    strategies = (STRATEGIES[0], STRATEGIES[1], BEST_OF_3_RANDOM, *STRATEGIES[2:])
    frame = pd.DataFrame({"strategy": [s.name for s in strategies]})
    for protocol, view in views.items():
        for key, (_, signal, distinct) in VARIANTS.items():
            found = evaluate_strategies(view, strategies=strategies, signal=signal, distinct=distinct)
            means = aggregate_strategies(found, resamples=1).set_index("strategy")["success"]
            frame[f"{protocol}.{key}"] = [float(means.get(name, NAN)) for name in frame["strategy"]]
    return frame


VARIANT_COLUMNS = {"strategy": Column("strategy")} | {
    f"{protocol}.{key}": Column(label, ".0%", group=f"{protocol} protocol")
    for protocol in PROTOCOLS
    for key, (label, _, _) in VARIANTS.items()
}


def copies_side_by_side(views: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """``copies`` under each protocol, one row per task: columns task, groups, ``<protocol>.<column>``."""
    frame = None
    for protocol, view in views.items():
        found = copies(view)
        found["task"] = "task " + found["task_id"].astype(str)
        ranges = zip(found["distinct"], found["fewest"], found["most"], strict=True)
        found["distinct_range"] = [f"{number(mean, '.1f')} ({a}–{b})" for mean, a, b in ranges]
        if frame is None:
            frame = found[["task", "groups"]].copy()
        for column in ("correct", "distinct", "distinct_range", "one_top3", "contested"):
            frame[f"{protocol}.{column}"] = found[column].to_numpy()
    return pd.DataFrame() if frame is None else frame


COPY_COLUMNS = {"task": Column("task"), "groups": Column("groups", "d")} | {
    f"{protocol}.{key}": Column(label, fmt, group=f"{protocol} protocol")
    for protocol in PROTOCOLS
    for key, label, fmt in (
        ("correct", "correct", ".1f"),
        ("distinct_range", "distinct", ""),
        ("contested", "contested", "d"),
    )
}


def candidates(view: pd.DataFrame, most_tasks: int = 12) -> pd.DataFrame:
    """One row per distinct correct candidate of a group, for small multiples.

    Columns: task, task_id, seed, surprisal (the mean over the copies), speedup, decision, copies. At most
    ``most_tasks`` tasks, in the order of their numbers.
    """
    rows = view[eligible(view)].copy()
    rows["fingerprint"] = rows["fingerprint"].astype(object).where(rows["fingerprint"].notna(), rows.index.astype(str))
    rows["decision"] = pd.Categorical(rows["decision"].fillna("undecided"), DECISIONS, ordered=True)
    found = rows.groupby(["task_id", "seed", "step", "fingerprint"], as_index=False).agg(
        surprisal=("surprisal", "mean"),
        speedup=("speedup", "mean"),
        decision=("decision", "min"),
        copies=("sample", "size"),
    )
    kept = sorted(found["task_id"].unique())[:most_tasks]
    found = found[found["task_id"].isin(kept)]
    found["task"] = "task " + found["task_id"].astype(str)
    found = found.sort_values(["task_id", "decision"], kind="stable", ignore_index=True)
    found["decision"] = found["decision"].astype(str)
    return found[["task", "task_id", "seed", "surprisal", "speedup", "decision", "copies"]]
