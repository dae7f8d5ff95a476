"""Chapter 10: is the end of a budget better spent on timing the leaders again?

Three readings of a candidate are needed: the clock that finds it, the clock that times it again, and a reading that
chose nothing. A run evaluates each correct candidate twice, and its first evaluation has two clocks (the published
protocol's few calls, the sound one's pairs) and two halves of the latter. The second evaluation, on fresh data in new
processes, is only ever read. Clocks of one evaluation share what drifts slowly, so re-timing gains less here than
re-timing hours later would.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vegtts_core.book.beyond_ranking import ratio
from vegtts_core.book.tables import Column
from vegtts_core.book.winners import readings
from vegtts_core.evaluator.repeats import noise_part
from vegtts_core.metrics import GROUP
from vegtts_core.project import find_project_root
from vegtts_core.runs import Run
from vegtts_core.runs.intervals import BETWEEN
from vegtts_core.runs.repeats import evaluations, pairs, recorded_runs
from vegtts_core.statistics import mean_effect

Array = NDArray[np.float64]

WAYS = {
    "published, sound": ("published", "sound", False),
    "half, all pairs": ("even", "odd", True),
}
"""Name: clock that finds, clock that times again, and whether the two are averaged (else the second decides)."""

BUDGETS = (8, 16, 32)
AGAIN = (2, 4)
DRAWS = 1000


def repeated() -> pd.DataFrame:
    """Pairs of evaluations of one candidate by whichever recorded runs: `vegtts_core.runs.repeats.pairs`."""
    return pairs(evaluations(recorded_runs(find_project_root())))


def _table(samples: pd.DataFrame) -> pd.DataFrame:
    """Every accepted distinct candidate of every group, with its log readings: NaN where it is not correct."""
    accepted = samples[samples["fingerprint"].notna()].drop_duplicates([*GROUP, "fingerprint"])
    clocks = readings(samples).drop(columns=GROUP)
    found = accepted[[*GROUP]].join(clocks)
    return found[[*GROUP, "published", "sound", "even", "odd", "fresh_sound"]]


def realised(
    first: Array,
    second: Array,
    fresh: Array,
    budget: int,
    again: int,
    average: bool,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """(expected log speedup on fresh data, chance that what is deployed is slower than the reference there).

    Of a group's candidates in random order the first ``budget - again`` are evaluated, the ``again`` fastest of them by
    ``first`` timed on ``second``, and the fastest of those by the second (or the mean of both) is deployed if it clears
    1 on what chose it; else the reference stays, as where nothing is correct. NaN in ``first``: not correct. With
    ``again`` 0 the first clock decides. Candidates without a reading on the other clocks are never leaders.
    """
    n = len(first)
    usable = np.isfinite(first) & np.isfinite(second) & np.isfinite(fresh)
    clock = np.where(usable, first, -np.inf)
    order = np.argsort(rng.random((draws, n)), axis=1)[:, : max(budget - again, 0)]
    seen = clock[order]
    leaders = np.take_along_axis(order, np.argsort(-seen, axis=1, kind="stable")[:, : max(again, 1)], axis=1)
    score = clock[leaders]
    if again:
        other = np.where(usable, second, -np.inf)[leaders]
        score = (score + other) / 2 if average else other
    if not score.shape[1]:
        return 0.0, 0.0
    best = np.argmax(score, axis=1)[:, None]
    chosen = np.take_along_axis(leaders, best, axis=1)[:, 0]
    deployed = np.take_along_axis(score, best, axis=1)[:, 0] > 0
    value = np.where(deployed, np.where(usable, fresh, 0.0)[chosen], 0.0)
    return float(value.mean()), float((value < 0).mean())


def outcomes(runs: Mapping[str, Run], draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """One row per (policy, way, budget, again, task, seed, step): ``log`` and ``slower`` of `realised`.

    Groups with no more candidates than the budget are left out: there, re-timing is free. Orders are the same for every
    way of spending, so differences are paired.
    """
    rows = []
    for label, run in runs.items():
        for index, (key, group) in enumerate(_table(run.samples).groupby(GROUP)):
            for way, (one, two, average) in WAYS.items():
                clocks = [group[name].to_numpy(dtype=float) for name in (one, two, "fresh_sound")]
                for budget in BUDGETS:
                    for again in (0, *AGAIN):
                        if budget < len(group):
                            rng = np.random.default_rng([seed, index])
                            found = realised(*clocks, budget, again, average, draws, rng)  # type: ignore[arg-type]
                            rows.append((label, way, budget, again, *key, *found))  # type: ignore[misc]
    return pd.DataFrame(rows, columns=["policy", "way", "budget", "again", *GROUP, "log", "slower"])


def effects(found: pd.DataFrame) -> pd.DataFrame:
    """Re-timing minus none, paired by group: columns policy, way, budget, again, ``gain`` (Effect on log speedup),
    ``without`` and ``with`` (geometric mean speedups), ``slower_without``, ``slower_with``, groups, tasks.
    """
    rows = []
    for (label, way, budget), part in found.groupby(["policy", "way", "budget"], sort=False):
        wide = part.pivot(index=GROUP, columns="again", values=["log", "slower"])
        for again in AGAIN:
            change = wide["log"][again] - wide["log"][0]
            tasks = change.index.get_level_values("task")
            gain = mean_effect(change.to_numpy(dtype=float), tasks)
            start = mean_effect(wide["log"][0].to_numpy(dtype=float), tasks).interval.estimate
            rows.append(
                {
                    "policy": label,
                    "way": way,
                    "budget": int(budget),  # type: ignore[call-overload]
                    "again": again,
                    "gain": gain,
                    "without": float(np.exp(start)),
                    "with": float(np.exp(start + gain.interval.estimate)),
                    "slower_without": float(wide["slower"][0].mean()),
                    "slower_with": float(wide["slower"][again].mean()),
                    "groups": len(change),
                    "tasks": gain.n,
                }
            )
    names = "policy way budget again gain without with slower_without slower_with groups tasks"
    return pd.DataFrame(rows, columns=names.split())


def table(found: pd.DataFrame, budget: int = 16) -> pd.DataFrame:
    """`effects` at one budget (the largest there is, if not that one), as shown."""
    if found.empty:
        return found.assign(ratio=[])
    at = budget if (found["budget"] == budget).any() else int(found["budget"].max())
    rows = found[found["budget"] == at].reset_index(drop=True)
    return rows.assign(ratio=[ratio(effect) for effect in rows["gain"]])


COLUMNS = {
    "policy": Column(""),
    "way": Column("clocks"),
    "again": Column("r", "d"),
    "tasks": Column("n", "d"),
    "without": Column("none", "{:.3f}×", group="realised speedup"),
    "with": Column("re-timed", "{:.3f}×", group="realised speedup"),
    "ratio": Column("ratio [95%]", ".3f", group="realised speedup"),
    "slower_without": Column("none", ".0%", group="kept and slower"),
    "slower_with": Column("re-timed", ".0%", group="kept and slower"),
}


def agreement(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Do two evaluations of a candidate agree? One row per policy over its correct distinct candidates, timed twice.

    ``candidates``; ``outside``: share whose two 95% intervals (sound protocol) exclude each other, by the first's
    bounds and the second's lower bound and estimate; ``by_noise``: the same without the intervals' part for what
    differs between evaluations (`vegtts_core.runs.intervals`); ``factor``: the largest ratio between the two speedups,
    with its ``task``; ``typical``: the median one. Stale tasks of a run that was measured again are left out.
    """
    rows = []
    for label, run in runs.items():
        samples = run.samples[~run.samples["task"].isin(run.stale_tasks)]
        twice = samples[(samples["sound_correct"] == True) & samples["retimed_sound_speedup"].notna()]  # noqa: E712
        twice = twice.drop_duplicates(["task", "fingerprint"])
        if twice.empty:
            continue
        one, two = (twice[name].astype(float) for name in ("sound_speedup", "retimed_sound_speedup"))
        # The second interval's upper bound is not recorded: it is taken to be as far off as the lower one.
        first, second = np.log(one.to_numpy()), np.log(two.to_numpy())
        below, above, again = (
            np.abs(center - np.log(twice[name].to_numpy(dtype=float)))
            for center, name in (
                (first, "sound_speedup_low"),
                (first, "sound_speedup_high"),
                (second, "retimed_sound_speedup_low"),
            )
        )
        between = twice[BETWEEN].fillna(0.0).to_numpy(dtype=float) if BETWEEN in twice else np.zeros(len(twice))

        def apart(reach: Array, gap: Array = second - first, sides: tuple[Array, ...] = (below, above, again)) -> float:
            down, up, other = (noise_part(side, reach) for side in sides)
            return float(np.mean((gap > up + other) | (-gap > down + other)))

        factor = np.exp(np.abs(np.log(one) - np.log(two)))
        worst = int(np.argmax(factor.to_numpy()))
        rows.append(
            {
                "policy": label,
                "candidates": len(twice),
                "outside": apart(np.zeros(len(twice))),
                "by_noise": apart(between),
                "typical": float(factor.median()),
                "factor": float(factor.iloc[worst]),
                "task": int(twice["task_id"].iloc[worst]),
                "first": float(one.iloc[worst]),
                "second": float(two.iloc[worst]),
            }
        )
    names = "policy candidates outside by_noise typical factor task first second"
    return pd.DataFrame(rows, columns=names.split())
