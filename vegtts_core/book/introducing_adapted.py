"""What the adaptation runs say of section 1's claims, as findings with an outcome: chapter 1's checklist reads them.

It decides by the intervals that chapters 5.3 and 5.3b show, and computes nothing that they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vegtts_core.book import adapting, probing, selecting_words
from vegtts_core.book import trajectories as traj
from vegtts_core.book import trajectories_control as ctl
from vegtts_core.book import trajectories_curse as curse
from vegtts_core.book import trajectories_diversity as div
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.probing_words import change_text, moved
from vegtts_core.book.runs import names_runs, training_runs
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.metrics import Quarter
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, wilson

EARLY = (1, 2)
"""Where over-sharpening has its peak, by section 5.3."""


def findings(source: str, params: str | Path) -> dict[str, Finding]:
    """By claim id; empty where ``params`` names no adaptation runs."""
    if not names_runs(source, params, "adaptation"):
        return {}
    found = of_runs(training_runs(source, params, "adaptation"))
    if source != "recorded" or names_runs(source, params, "probe"):
        found["anti-calibration"] = anti_calibration(probing.changes(probing.material(source, params)))
    if thinned := ctl.density_runs(source, params):
        text = f"{plural(len(thinned), 'run')} under other rewards, in the chapter's table"
        found["sparse-rewards"] = Finding(text, Outcome.UNDECIDED)
    return found


def of_runs(runs: Mapping[str, Run]) -> dict[str, Finding]:
    """What a family of adaptation runs says: search against adaptation, peaks, diversity."""
    protocol, samples = adapting.protocol_of(runs), adapting.pooled(runs)
    changes = traj.steps(samples, protocol)["change"]
    return {
        "search-beats-adaptation": beats(ctl.gap(samples, protocol)),
        "equivalent-k": worth_a_sample(changes.iloc[1] if len(changes) > 1 else None),
        "over-sharpening": peaks(curse.curse(traj.of_runs(runs))),
        "collapse": collapse(div.diversity(samples, protocol)[1]),
    }


def _falls(value: Interval | None, text: str) -> Finding:
    """Supported where the whole interval is below 0, contradicted where it is above."""
    if value is None or pd.isna(value.low):
        return Finding(f"{text}: no interval", Outcome.UNDECIDED)
    told = f"{text}: {points(value)}"
    if value.high < 0:
        return Finding(told, Outcome.SUPPORTED)
    return Finding(told, Outcome.CONTRADICTED if value.low > 0 else Outcome.UNDECIDED)


def beats(gap: Interval) -> Finding:
    """``gap``: tasks solved by adaptation minus by search at equal rollouts."""
    return _falls(gap, "tasks solved, adaptation less search, at two steps' rollouts")


def worth_a_sample(change: Interval | None) -> Finding:
    """``change``: fast_1 per rollout at step 1 minus at step 0."""
    return _falls(change, "fast_1 per rollout, step 1 less step 0")


def peaks(worth: pd.DataFrame) -> Finding:
    """``worth``: ``trajectories_curse.curse`` of the runs. Most must peak early, or must not, beyond their interval."""
    moving = worth[~worth["flat"]]
    early = int(moving["step"].isin(EARLY).sum())
    share = wilson(early, len(moving))
    text = f"{early} of {plural(len(moving), 'run')} whose steps differ are best at step 1 or 2"
    if share.low > 0.5:
        return Finding(text, Outcome.SUPPORTED)
    return Finding(text, Outcome.CONTRADICTED if share.high < 0.5 else Outcome.UNDECIDED)


def collapse(changes: pd.DataFrame) -> Finding:
    """``changes``: ``trajectories_diversity.diversity``'s second table. Measures that disagree decide nothing."""
    less, more = int(changes["less"].sum()), int(changes["more"].sum())
    text = f"of {len(changes)} measures of diversity {less} fall beyond their interval and {more} rise"
    if less and not more:
        return Finding(text, Outcome.SUPPORTED)
    return Finding(text, Outcome.CONTRADICTED if more and not less else Outcome.UNDECIDED)


def anti_calibration(changes: pd.DataFrame) -> Finding:
    """``changes``: ``probing.changes``. Confidence in slow samples is a rising rho; all readings have to agree."""
    rows = changes[changes["set"] == Quarter.ALL.value]
    states = {moved(row) for _, row in rows.iterrows()}
    within = rows[rows["analysis"] == "within task"]
    text = "; ".join(f"{row['reading']}, within task: {change_text(row)}" for _, row in within.iterrows())
    if states == {selecting_words.Finding.MORE}:
        return Finding(text, Outcome.SUPPORTED)
    against = states == {selecting_words.Finding.LESS}
    return Finding(text, Outcome.CONTRADICTED if against else Outcome.UNDECIDED)
