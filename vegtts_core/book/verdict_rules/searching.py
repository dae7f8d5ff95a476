"""Search: how many tasks it solves, where it saturates, what one sample gives, and the speedups that it found."""

from __future__ import annotations

import math

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.measurement_run import claimed_shares
from vegtts_core.book.prose import interval, number
from vegtts_core.book.scaling import with_width
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdict_rules.evidence import NOTHING_FAST, Evidence, Rule
from vegtts_core.book.verdicts import MARGIN, Finding, Outcome, because, sample_share, sizes
from vegtts_core.metrics import GROUP
from vegtts_core.statistics import mean_effect, wilson
from vegtts_core.tasks.load import named_selections

_SAMPLES = 64
"""K of the published counts."""


def _subset(evidence: Evidence) -> pd.DataFrame:
    """The view on the tasks that the paper counts, subset 1: all of it where the run lacks some of them."""
    tasks = {f"level1/{number}" for number in named_selections()["subset_1"]}
    view = evidence.view
    return view[view["task"].isin(tasks)] if tasks <= set(view["task"]) else view


def _solves_all(evidence: Evidence) -> Finding:
    view = _subset(evidence)
    hits = view.assign(hit=view["fast_limit"] > 1).groupby(GROUP)["hit"].agg(["size", "any"])
    share = wilson(float(hits["any"].sum()), len(hits))
    text = f"{number(share, '.0%')} of {len(hits)} task and seed pairs"
    if not len(hits) or hits["size"].min() < _SAMPLES:
        return Finding(text, Outcome.UNDECIDED, f"Some pair has fewer than {_SAMPLES} samples.", sizes(view))
    missed = int((~hits["any"]).sum())
    outcome = Outcome.NOT_REPLICATED if missed else Outcome.REPLICATED
    why = f"A count: {missed} of {len(hits)} pairs of the paper's tasks and our seeds have no fast sample."
    return Finding(text, outcome, why, sizes(view))


def _saturation(evidence: Evidence) -> Finding:
    hits = evidence.view.assign(hit=evidence.view["fast_limit"] > 1).groupby(GROUP)["hit"].agg(["size", "sum"])
    last = int(hits["size"].min()) if len(hits) else 0
    if last <= 16:
        return Finding(f"K goes to {last} only", Outcome.UNDECIDED, "There are no samples beyond K = 16.", power=0.0)
    # A task in which nothing is fast has no curve that could saturate.
    hits = hits[hits.groupby("task")["sum"].transform("sum") > 0]
    if hits.empty:
        return Finding("nothing is fast at any K", Outcome.UNDECIDED, NOTHING_FAST, power=0.0, empty=True)
    at = [metrics.pass_at_k(hits["size"].to_numpy(), hits["sum"].to_numpy(), k) for k in (16, last)]
    gain = mean_effect(at[1] - at[0], hits.index.get_level_values("task"))
    text = f"K = 16 to {last}: {points(gain.interval)}, {gain.n} task{'s' * (gain.n != 1)} with a fast sample"
    outcome = Outcome.REPLICATED if gain.below(MARGIN) else Outcome.UNDECIDED
    if gain.low > MARGIN:
        outcome = Outcome.NOT_REPLICATED
    size = MARGIN - (published.number("5.1/64/pass_at_k") - published.number("5.1/16/pass_at_k"))
    power = known_power(gain.power(size))
    limit = number(MARGIN, ".0%")
    yes, no = f"more than 16 samples bring less than {limit}", f"more than 16 samples still bring over {limit}"
    return Finding(text, outcome, because(outcome, yes, no, power), power=power, effect=gain, size=size)


def _one_sample(evidence: Evidence) -> Finding:
    view = _subset(evidence)
    share, _ = with_width(sample_share(view))
    text = f"{interval(share.estimate, share.low, share.high, '.0%')} of samples"
    both = [published.number(path) for path in ("4.4/1/best_of_n_fast_1", "5.1/1/pass_at_k")]
    if math.isnan(share.low):
        return Finding(text, Outcome.UNDECIDED, "One task allows no interval.", sizes(view))
    inside = any(share.low <= value <= share.high for value in both)
    why = "The interval includes a published value." if inside else "The interval excludes both published values."
    return Finding(text, Outcome.UNDECIDED if inside else Outcome.NOT_REPLICATED, why, sizes(view))


def _huge(evidence: Evidence) -> Finding:
    beyond = claimed_shares()
    rows = evidence.view[evidence.view["task_id"].isin([4, 5]) & evidence.view["correct"]]
    best = rows.groupby("task_id")["speedup"].max()
    here = ", ".join(f"task {task}: {number(float(value), '.2f')}× at most" for task, value in best.items())
    both = [float(beyond[task]) for task in (4, 5)]
    excess = " and ".join(number(value, "{:,.0f}×") for value in both)
    if min(both) > 1:
        why = f"They exceed an H100's memory bandwidth by {excess}; copies in another's timing make such numbers."
        return Finding(here or "no correct sample there", Outcome.ARTEFACT, why)
    return Finding(here or "no correct sample there", Outcome.UNDECIDED)


RULES: dict[str, Rule] = {
    "saturation": _saturation,
    "search-solves-all": _solves_all,
    "one-sample": _one_sample,
    "huge-speedups": _huge,
}
