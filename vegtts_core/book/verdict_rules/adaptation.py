"""What one policy's adaptation runs say, by claim id: search against adaptation, peaks, regimes.

It knows which rule reads what of the runs; the rules are in the modules beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vegtts_core.book import adapting
from vegtts_core.book import trajectories_control as ctl
from vegtts_core.book.regimes import measured_rules
from vegtts_core.book.verdict_rules.adaptation_benefit import beats, benefit, change_since_start, worth_a_sample
from vegtts_core.book.verdict_rules.over_sharpening import best_steps, peaks
from vegtts_core.book.verdict_rules.regime_threshold import regimes
from vegtts_core.book.verdicts import Finding, sizes
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval
from vegtts_core.tasks.load import named_selections


def of_runs(runs: Mapping[str, Run]) -> dict[str, Finding]:
    """What adaptation runs of one policy say: search against adaptation, peaks, regimes."""
    protocol, samples = adapting.protocol_of(runs), adapting.pooled(runs)
    n, none = sizes(samples), Interval(math.nan, math.nan, math.nan, 0)
    found = {
        "search-beats-adaptation": beats(benefit(runs), ctl.gap(samples, protocol), n),
        "equivalent-k": worth_a_sample(change_since_start(samples, protocol), n),
        "over-sharpening": peaks(best_steps(runs), n),
        "regimes": regimes(measured_rules(runs), n),
    }
    hard = {name: run for name, run in runs.items() if set(run.samples["task_id"]) <= set(_subset("subset_2"))}
    if hard:
        found["hard-subset"] = beats(benefit(hard), none, sizes(adapting.pooled(hard)))
    return found


def _subset(name: str) -> Sequence[int]:
    return named_selections()[name]
