"""The tables of chapter 5.1 that rest on a run: the scaling curve, rates per task, decisions, levels of fast_p.

It arranges what ``metrics`` and ``selection`` compute from a protocol's view, and knows nothing of how samples were
evaluated. What follows from the paper alone is in ``scaling_paper``, sentences are in ``scaling_words``.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isnan

import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published, scaling_paper
from vegtts_core.book.prose import MISSING, number
from vegtts_core.book.tables import PUBLISHED, Column
from vegtts_core.metrics import GROUP, Bound, By, EquivalentK
from vegtts_core.statistics import Interval, Population, mean_interval, wilson

PROTOCOLS = ("published", "sound")

#: Headings over the columns of each protocol.
HEADINGS = {"published": "here, published protocol", "sound": "here, sound protocol"}

LEVELS = (1.0, 1.05, 1.1, 1.5, 2.0)

Views = Mapping[str, pd.DataFrame]

MARK = "\\*"
"""After bounds that are Wilson's."""


def with_width(found: Interval) -> tuple[Interval, bool]:
    """``found``, or Wilson's interval for ``n`` tasks where the bootstrap's has no width; and whether it is Wilson's.

    A share of 0 or 1 in every task resamples to itself, which is no evidence that other tasks would agree.
    """
    if isnan(found.low) or found.high - found.low > 1e-9 or not 0 <= found.estimate <= 1:
        return found, False
    return wilson(found.estimate * found.n, found.n, found.level), True


def percent(found: Interval) -> str:
    """An interval as ``40% [20–60%]``, marked where the bounds are Wilson's; without bounds the estimate alone."""
    shown, replaced = with_width(found)
    if isnan(shown.low):
        return number(shown.estimate, ".1%")
    return f"{number(shown.estimate, '.1%')} {bounds(shown.low, shown.high)}{MARK if replaced else ''}"


def bounds(low: float, high: float) -> str:
    """``[20–60%]``; a dash where there are none."""
    return MISSING if isnan(low) or isnan(high) else f"[{100 * low:.0f}–{100 * high:.0f}%]"


def sample_counts(view: pd.DataFrame) -> list[int]:
    """The K of a curve: powers of two up to the smallest group's size, and that size."""
    least = int(view.groupby(GROUP).size().min()) if len(view) else 0
    powers = [2**i for i in range(least.bit_length())]
    return sorted({*powers, least}) if least else []


def curves(views: Views) -> pd.DataFrame:
    """The scaling curve under each protocol, one row per protocol and K.

    As ``metrics.scaling_curve``, with ``protocol``; ``low`` and ``high`` are Wilson's where the bootstrap has no width
    (``replaced``); ``seed_low`` and ``seed_high`` speak of these tasks with other seeds.
    """
    parts = []
    for protocol, view in views.items():
        ks = sample_counts(view)
        curve = metrics.scaling_curve(view, ks)
        same = metrics.scaling_curve(view, ks, population=Population.SEEDS)
        curve = curve.assign(protocol=protocol, seed_low=same["low"], seed_high=same["high"])
        shown = [
            with_width(Interval(float(row["pass_at_k"]), float(row["low"]), float(row["high"]), int(row["tasks"])))
            for row in curve.to_dict("records")
        ]
        curve["low"], curve["high"] = [s.low for s, _ in shown], [s.high for s, _ in shown]
        parts.append(curve.assign(replaced=[replaced for _, replaced in shown]))
    return pd.concat(parts, ignore_index=True)


def curve_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 5.1 beside ``curves``: one row per K, bounds as text."""
    paper = scaling_paper.scaling().set_index("k")
    table = pd.DataFrame({"k": sorted({*paper.index, *rows["k"]})})
    table["paper"] = [paper["pass_at_k"].get(k) for k in table["k"]]
    table["paper_bounds"] = [bounds(*paper.loc[k, ["low", "high"]]) if k in paper.index else None for k in table["k"]]
    table["paper_std"] = [paper["std"].get(k) for k in table["k"]]
    for protocol in PROTOCOLS:
        own = rows[rows["protocol"] == protocol].set_index("k")
        for name in ("pass_at_k", "std"):
            table[f"{protocol}_{name}"] = [own[name].get(k) for k in table["k"]]
        for ends, name in ((("low", "high"), "bounds"), (("seed_low", "seed_high"), "seed_bounds")):
            mark = [MARK if name == "bounds" and own["replaced"].get(k) else "" for k in table["k"]]
            text = [bounds(*own.loc[k, list(ends)]) if k in own.index else MISSING for k in table["k"]]
            table[f"{protocol}_{name}"] = [t + m for t, m in zip(text, mark, strict=True)]
    return table


def curve_columns() -> dict[str, Column]:
    """How ``curve_table`` is shown: rates, with the intervals that speak of other tasks."""
    columns = {
        "k": Column("K", "d"),
        "paper": Column("rate", ".1%", group=PUBLISHED),
        "paper_bounds": Column("95% CI", group=PUBLISHED),
    }
    for protocol in PROTOCOLS:
        columns[f"{protocol}_pass_at_k"] = Column("rate", ".1%", group=HEADINGS[protocol])
        columns[f"{protocol}_bounds"] = Column("other tasks", group=HEADINGS[protocol])
    return columns


def spread_columns() -> dict[str, Column]:
    """How ``curve_table`` is shown: the spread over seeds."""
    columns = {"k": Column("K", "d"), "paper_std": Column("std", ".1%", group=PUBLISHED)}
    for protocol in PROTOCOLS:
        columns[f"{protocol}_std"] = Column("std", ".1%", group=HEADINGS[protocol])
        columns[f"{protocol}_seed_bounds"] = Column("same tasks, other seeds", group=HEADINGS[protocol])
    return columns


def figure_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """For figure 3: columns series (a protocol, or ``paper``), k, pass_at_k, low, high; the paper's without a band."""
    paper = scaling_paper.scaling()[["k", "pass_at_k"]].assign(series="paper", low=np.nan, high=np.nan)
    own = rows.rename(columns={"protocol": "series"})
    return pd.concat([own[["series", "k", "pass_at_k", "low", "high"]], paper], ignore_index=True)


def one_draw(views: Views) -> pd.DataFrame:
    """``scaling_paper.one_draw`` and, below it, the same two rates here under each protocol."""
    rows = []
    for protocol in PROTOCOLS:
        view = views[protocol]
        correct = view[view["correct"]]
        of_correct = metrics.sample_fast_p(correct)
        rows.append((HEADINGS[protocol], "counted", metrics.sample_fast_p(view), of_correct))
    here = pd.DataFrame(rows, columns=["where", "stated", "of_all", "of_correct"])
    return pd.concat([scaling_paper.one_draw(), here], ignore_index=True)


def intervals(views: Views, rows: pd.DataFrame) -> pd.DataFrame:
    """The paper's interval, its reconstruction, and both kinds of interval here (sound): text, one row per K.

    ``here_draw`` is ``metrics.subset_resampling``: what the paper appears to do, not an interval of the mean.
    """
    table = scaling_paper.intervals()
    resampled = metrics.subset_resampling(views["sound"], sample_counts(views["sound"])).set_index("k")
    own = rows[rows["protocol"] == "sound"].set_index("k")
    return pd.DataFrame(
        {
            "k": table["k"],
            "paper": [bounds(*ends) for ends in table[["low", "high"]].to_numpy()],
            "rebuilt": [bounds(*ends) for ends in table[["draw_low", "draw_high"]].to_numpy()],
            "here_draw": [_ends(resampled, k) for k in table["k"]],
            "here": [_ends(own, k) + (MARK if own["replaced"].get(k) else "") for k in table["k"]],
        }
    )


def _ends(indexed: pd.DataFrame, k: int) -> str:
    return bounds(*indexed.loc[k, ["low", "high"]]) if k in indexed.index else MISSING


def equivalent(found: EquivalentK, last: float) -> str:
    """``3.4 [< 1, > 64]``; ``last`` is the curve's last K."""
    if found.bound is Bound.UNKNOWN:
        return MISSING
    if isnan(found.low):
        return found.label
    ends = ["< 1" if k == 0 else f"> {last:g}" if k == inf else f"{k:.2g}" for k in (found.low, found.high)]
    return f"{found.label} [{', '.join(ends)}]"


#: What table 5.2 and the text quote: label, unit counted, path.
QUOTED = (
    ("Best-of-N, K = 64", "tasks", "5.2/best-of-n-64/fast_1"),
    ("Best-of-N, K = 1", "samples", "5.2/best-of-n-1/fast_1"),
    ("TTT, step 8", "samples", "5.2/ttt-boa-step-8/fast_1"),
    ("TTT, mean of 3 seeds", "samples", "headline/ttt-best-3-seeds/value"),
    ("TTT, best step of seed 42", "samples", "5.3-trajectory/2/fast_1"),
    ("TTT, step 1 of seed 42", "samples", "5.3-trajectory/1/fast_1"),
    ("**Best-of-N, all its samples**", "samples", "headline/subset-1-best-of-n-per-sample/value"),
)


def equivalents(views: Views) -> pd.DataFrame:
    """Table 5.2 extended: each quoted value read off a curve, as the paper reads it.

    Columns: method, unit (what the value counts), fast_1, stated (the paper's equivalent K), paper (on table 5.1),
    before (on the curve of the unadapted policy's per-task rates), published and sound (on this run's curves).
    """
    quoted = published.table("5.2").set_axis([label for label, _, _ in QUOTED[:3]])["equivalent_k"]
    paper, before = scaling_paper.scaling(), scaling_paper.step_curve(0)
    rows = []
    for label, unit, path in QUOTED:
        share = published.number(path)
        row = {"method": label, "unit": unit, "fast_1": share, "stated": quoted.get(label)}
        row |= {name: metrics.equivalent_k(c, share).label for name, c in (("paper", paper), ("before", before))}
        for protocol in PROTOCOLS:
            ks = sample_counts(views[protocol])
            found = metrics.equivalent_k_interval(views[protocol], share, ks)
            row[protocol] = equivalent(found, max(ks, default=0))
        rows.append(row)
    return pd.DataFrame(rows)


def equivalent_columns(*curves: str) -> dict[str, Column]:
    """How ``equivalents`` is shown, with the curves named: of ``paper``, ``before``, ``published``, ``sound``."""
    columns = {
        "method": Column("method", group=PUBLISHED),
        "unit": Column("share of", group=PUBLISHED),
        "fast_1": Column("fast_1", ".1%", group=PUBLISHED),
    }
    if "paper" in curves:
        columns["stated"] = Column("equivalent K", group=PUBLISHED)
    shown = {
        "paper": Column("table 5.1", group="K read off"),
        "before": Column("section 5.3, step 0", group="K read off"),
        "published": Column("published protocol", group="K read off this run's curve"),
        "sound": Column("sound protocol", group="K read off this run's curve"),
    }
    return columns | {name: shown[name] for name in curves}


def per_task(views: Views) -> pd.DataFrame:
    """One row per task: task_id, paper (per-sample rate before adaptation), distinct (candidates, counted per seed and
    summed), and per protocol correct (share), sample and task (fast_1 per sample, share of seeds with a fast sample).
    """
    ids = views["sound"].drop_duplicates("task").set_index("task")["task_id"].astype(int).sort_values()
    rates = scaling_paper.task_rates()
    found = {protocol: metrics.summary(views[protocol], by=By.TASK).loc[ids.index] for protocol in PROTOCOLS}
    table = pd.DataFrame({"task_id": ids, "paper": [rates.get(i) for i in ids]}, index=ids.index)
    table["distinct"] = found["sound"]["distinct"]
    for protocol, part in found.items():
        table[f"{protocol}_correct"] = part["correctness"]
        table[f"{protocol}_sample"] = part["sample_fast_p"]
        table[f"{protocol}_task"] = part["task_fast_p"]
    return table.reset_index(drop=True)


def per_task_columns() -> dict[str, Column]:
    """How ``per_task`` is shown."""
    columns = {"task_id": Column("task", "d"), "paper": Column("sample fast_1", ".1%", group=PUBLISHED)}
    columns["distinct"] = Column("distinct", "d", group="here")
    for protocol in PROTOCOLS:
        heading = HEADINGS[protocol]
        columns[f"{protocol}_correct"] = Column("correct", ".0%", group=heading)
        columns[f"{protocol}_sample"] = Column("sample fast_1", ".1%", group=heading)
        columns[f"{protocol}_task"] = Column("task fast_1", ".0%", group=heading)
    return columns


def levels(views: Views, ps: tuple[float, ...] = LEVELS) -> pd.DataFrame:
    """fast_p at several p: per protocol the per-sample and the per-task rate with intervals over tasks, as text."""
    table = pd.DataFrame({"p": ps})
    for protocol in PROTOCOLS:
        for unit, pick in (("sample", "mean"), ("task", "max")):
            table[f"{protocol}_{unit}"] = [percent(_rate(views[protocol], p, pick)) for p in ps]
    return table


def _rate(view: pd.DataFrame, p: float, pick: str) -> Interval:
    groups = view.assign(hit=(view["fast_limit"] > p).astype(float)).groupby(GROUP, as_index=False)["hit"].agg(pick)
    return mean_interval(groups["hit"], groups["task"])


def rate(view: pd.DataFrame, p: float = 1.0) -> Interval:
    """The per-sample fast_p with its interval over tasks and seeds; Wilson's where that has no width."""
    return with_width(_rate(view, p, "mean"))[0]


def levels_columns() -> dict[str, Column]:
    """How ``levels`` is shown."""
    columns = {"p": Column("p", ".2f")}
    for protocol in PROTOCOLS:
        columns[f"{protocol}_sample"] = Column("of samples", group=HEADINGS[protocol])
        columns[f"{protocol}_task"] = Column("of tasks", group=HEADINGS[protocol])
    return columns
