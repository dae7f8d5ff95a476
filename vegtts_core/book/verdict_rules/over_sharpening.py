"""Over-sharpening: whether runs are best early and then fall, by task, by learning rate and by reward.

Runs are what is counted here, so Wilson's interval over runs decides most of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import adapting
from vegtts_core.book import trajectories as traj
from vegtts_core.book import trajectories_control as ctl
from vegtts_core.book import trajectories_curse as curse
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.prose import number
from vegtts_core.book.trajectories_words import LEVEL
from vegtts_core.book.verdict_rules.deciding import by_majority, known_power
from vegtts_core.book.verdicts import Finding, Outcome, because, by_sign, sizes
from vegtts_core.runs import Run
from vegtts_core.statistics import count_power, mean_effect

EARLY = (1, 2)
"""Where over-sharpening has its peak, by section 5.3."""

PEAKS_SHARE = 0.75
"""Of isolated tasks that peak early: the share that power is computed for.

The paper counts 4 of 5, among them one that succeeds alike at every step, which `peaks` leaves out.
"""

PUBLISHED_RATES = (1e-5, 1e-6, 3e-7)
"""Of section 6.4; a rate beyond these says nothing of its claim."""


def best_steps(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Where each run is best: columns step, flat (whether all its steps score alike)."""
    rows = []
    for run in runs.values():
        found = metrics.trajectory(run.samples, str(run.manifest["parameters"]["protocol"]), resamples=1)
        scores = found.seeds["sample_fast_p"]
        step = int(metrics.best_of_adaptation(found)["step"].iloc[0])
        rows.append((step, bool(scores.max() - scores.min() < 1e-9)))
    return pd.DataFrame(rows, columns=["step", "flat"])


def peaks(worth: pd.DataFrame, n: str = "") -> Finding:
    """``worth``: `best_steps` of the runs. Most must peak early, or must not, beyond their interval."""
    moving = worth[~worth["flat"]]
    early, runs = int(moving["step"].isin(EARLY).sum()), len(moving)
    text = f"{early} of {plural(runs, 'run')} whose steps differ are best at step 1 or 2"
    outcome = by_majority(early, runs)
    power = known_power(count_power(PEAKS_SHARE, runs, lambda k: by_majority(k, runs) is Outcome.REPLICATED))
    yes, no = "most runs peak early", "most runs do not peak at step 1 or 2"
    return Finding(text, outcome, because(outcome, yes, no, power), n, power)


def isolated(runs: Mapping[str, Run]) -> Finding:
    """Runs on one task each, read as `peaks`."""
    return peaks(best_steps(runs), sizes(adapting.pooled(runs)))


def rates(runs: Mapping[str, Run]) -> Finding:
    """The sweep over the paper's rates: over-sharpening persists only if none ends at its best, beyond equal steps."""
    tried = {name: run for name, run in runs.items() if _rate(run) in PUBLISHED_RATES}
    if not tried:
        return Finding(
            "none of the paper's rates", Outcome.UNDECIDED, "No run at a rate that the paper tried.", "", 0.0
        )
    worth = curse.curse(traj.by_rate(tried))
    worth = worth.assign(source=worth["source"].str.removeprefix("rate "))
    text = "; ".join(f"{row.source}: best at step {row.step} of {row.last_step}" for row in worth.itertuples())
    n = f"{plural(len(tried), 'rate')}, {sizes(next(iter(tried.values())).samples)} each"
    rising = worth[(worth["equal"] < LEVEL) & (worth["step"] > max(EARLY)) & (worth["held_drop"] <= 0)]
    if len(rising):
        why = f"At {' and '.join(rising['source'])} the last steps are the best, beyond what equal steps would give."
        return Finding(text, Outcome.NOT_REPLICATED, why, n)
    return Finding(text, Outcome.UNDECIDED, "One run per rate: seeds and rates cannot be told apart.", n)


def _rate(run: Run) -> float:
    return float(run.manifest["parameters"]["update"]["learning_rate"])


def compression(pairs: Mapping[str, Mapping[str, Run]]) -> Finding:
    """``pairs``: runs ``dense`` and ``sparse`` that differ in their reward alone, by name."""
    later, n = [], []
    for both in pairs.values():
        table = ctl.density(both)
        sparse = table["run"].str.contains("above")
        later.append(float(table.loc[sparse, "expected_step"].mean() - table.loc[~sparse, "expected_step"].mean()))
        n.append(sizes(both["sparse"].samples))
    effect = mean_effect(later, range(len(later)))
    text = f"best step under the sparse reward less under the dense one: {number(effect.interval, '+.1f')}"
    outcome, power = by_sign(effect, 1), known_power(effect.power(1.0))
    why = f"{plural(len(pairs), 'pair')} of runs that differ in their reward alone."
    return Finding(text, outcome, why, n[0], power if len(pairs) > 1 else 0.0)
