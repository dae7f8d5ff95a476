"""Search against adaptation at equal rollouts, and what a sample of an adapted checkpoint is worth (section 5.3).

Every share is one of samples, per task and run, so that no unit is mixed and no step is chosen by its score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.regimes import control
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdicts import Finding, Outcome, because, by_sign
from vegtts_core.runs import Run
from vegtts_core.statistics import Effect, Interval, mean_effect


def headline() -> Finding:
    """The abstract's gap, counted in one unit on the paper's own trajectory (section 5.3)."""
    table = published.table("5.3-trajectory").iloc[:2]
    shares = table[[name for name in table.columns if name.startswith("task_")]].astype(float)
    solved, tasks = int((shares.max() > 0).sum()), shares.shape[1]
    text = f"in the paper's own trajectory {solved} of {tasks} tasks have a fast sample by step 1"
    search, best = published.number("4.4/1/best_of_n_fast_1"), published.number("headline/ttt-best-3-seeds/value")
    why = (
        f"Tasks are set against samples; in samples it is {number(search, '.1%')} against {number(best, '.1%')}, "
        f"in tasks {solved} of {tasks} against {tasks} of {tasks}."
    )
    return Finding(text, Outcome.ARTEFACT if solved == tasks else Outcome.UNDECIDED, why)


def benefit(runs: Mapping[str, Run]) -> Effect:
    """fast_1 per sample at step 1 less that of other seeds' step 0, which is an independent Best-of-N.

    Per task and run; step 1 is taken whether or not it is the best, so nothing is chosen by the score that is reported.
    A share of samples does not grow with how many are drawn, so the two need not be equally many.
    """
    gaps = []
    for name, run in runs.items():
        search, protocol = control(name, runs), str(run.manifest["parameters"]["protocol"])
        step = run.samples[run.samples["step"] == 1]
        if len(search) and len(step):
            gaps.append(fast_per_task(step, protocol) - fast_per_task(search, protocol))
    found = pd.concat(gaps) if gaps else pd.Series(dtype=float)
    return mean_effect(found.to_numpy(), found.index.to_numpy())


def fast_per_task(samples: pd.DataFrame, protocol: str) -> pd.Series:
    """fast_1 per sample of each task, under ``protocol``."""
    view = metrics.under(samples, protocol)
    return (view["fast_limit"] > 1).groupby(view["task"]).mean()


def beats(gain: Effect, solved: Interval, n: str = "") -> Finding:
    """``gain``: fast_1 per sample, adaptation less search at equal rollouts; ``solved``: the same in tasks solved."""
    size = published.number("headline/ttt-best-3-seeds/value") - published.number("4.4/1/best_of_n_fast_1")
    if not gain.n:
        return Finding("no independent search", Outcome.UNDECIDED, "Other seeds' runs would be the search.", n, 0.0)
    power = known_power(gain.power(size))
    outcome = by_sign(gain, -1, size)
    text = f"adaptation less search, per sample: {points(gain.interval)}"
    if not math.isnan(solved.estimate):
        text += f"; tasks solved: {points(solved)}"
    why = because(outcome, "search is ahead at equal rollouts", "search is not ahead at equal rollouts", power)
    return Finding(text, outcome, why, n, power, gain, size, claimed=-1)


def change_since_start(samples: pd.DataFrame, protocol: str) -> Effect:
    """fast_1 per sample, mean over adapted steps less step 0, per task and seed: no step is chosen."""
    tasks = metrics.trajectory(samples, protocol, resamples=1).tasks
    later = tasks[tasks["step"] > 0].groupby(["seed", "task"])["sample_fast_p"].mean()
    start = tasks[tasks["step"] == 0].set_index(["seed", "task"])["sample_fast_p"]
    change = (later - start).dropna()
    return mean_effect(change.to_numpy(), change.index.get_level_values("task").to_numpy())


def worth_a_sample(change: Effect, n: str = "") -> Finding:
    """``change``: fast_1 per sample of adapted steps less that of step 0, the same policy before it moved."""
    size = published.number("headline/ttt-best-3-seeds/value") - published.number("4.4/1/best_of_n_fast_1")
    outcome, power = by_sign(change, -1, size), known_power(change.power(size))
    no = "a sample of an adapted checkpoint is worth no less than one of the unadapted policy"
    why = because(
        outcome, "a sample of an adapted checkpoint is worth less than one of the unadapted policy", no, power
    )
    text = f"adapted steps less step 0: {points(change.interval)}"
    return Finding(text, outcome, why, n, power, change, size, claimed=-1)
