"""Reward density against the number of steps that pay (section 5.5, the Reward Compression Principle).

The claim: steps to saturation fall as rewards get denser. The paper has one density, so it never varies; here runs that
differ in how sparse their rewards are made stand side by side. A reward is dense in three ways that need not go
together: often nonzero, many levels, and different within a group (only there do GRPO's advantages differ from 0).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vegtts_core.metrics.adaptation import trajectory
from vegtts_core.metrics.checkpoints import best_of_adaptation
from vegtts_core.metrics.diversity import entropy
from vegtts_core.metrics.optimism import step_optimum
from vegtts_core.metrics.shares import GROUP
from vegtts_core.statistics.bootstrap import RESAMPLES
from vegtts_core.statistics.correlation import Correlation, spearman

DENSITIES = ("nonzero", "levels", "entropy", "informative")


def reward_densities(samples: pd.DataFrame, step: int = 0, digits: int = 2) -> pd.DataFrame:
    """How dense the rewards of one step are (0: what the base policy earns, before adaptation changes it).

    ``samples`` needs the columns task, seed, step, reward; a missing reward counts as 0. One row per seed:
    ``nonzero``: share of rollouts with a reward other than 0; ``levels``: different rewards per group, mean over
    groups; ``entropy``: of a group's rewards, nats, mean over groups; ``informative``: share of groups whose rewards
    are not all equal; ``rollouts``, ``groups``. Rewards are rounded to ``digits`` decimals first: copies of a candidate
    share one verdict, and two candidates of equal speed should count as one level.
    """
    rows = samples.loc[samples["step"] == step, [*GROUP, "reward"]].copy()
    rows["reward"] = rows["reward"].astype(float).fillna(0.0).round(digits) + 0.0
    table = []
    for seed, part in rows.groupby("seed", sort=True):
        counts = [group.value_counts().to_numpy() for _, group in part.groupby("task")["reward"]]
        table.append(
            {
                "seed": seed,
                "nonzero": float((part["reward"] != 0).mean()),
                "levels": float(np.mean([len(c) for c in counts])),
                "entropy": float(np.mean([entropy(c) for c in counts])),
                "informative": float(np.mean([len(c) > 1 for c in counts])),
                "rollouts": len(part),
                "groups": len(counts),
            }
        )
    return pd.DataFrame(table, columns=["seed", *DENSITIES, "rollouts", "groups"])


def density_and_optimum(
    runs: Mapping[str, pd.DataFrame],
    protocol: str,
    p: float = 1.0,
    digits: int = 2,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Reward density of each adaptation run beside the step at which it was best. One row per (run, seed).

    ``runs``: samples tables by name, alike in everything but the reward. Columns ``run``, those of ``reward_densities``
    at step 0, ``step`` (Best-of-Adaptation under ``protocol``, whatever the run was rewarded with), ``expected_step``
    (mean over redrawn rollouts of the argmax: where the trajectory is flat, ``step`` is chance), ``last_step`` (a run
    whose best step is its last was cut short), ``sample_fast_p``, ``gain`` (over step 0).
    """
    columns = ["run", "seed", *DENSITIES, "rollouts", "groups", "step", "expected_step", "last_step"]
    columns += ["sample_fast_p", "gain"]
    tables = []
    for name, samples in runs.items():
        best = best_of_adaptation(trajectory(samples, protocol, p, resamples=1))
        optimum = step_optimum(samples, protocol, p, resamples=resamples, seed=seed)
        weighted = (optimum["step"] * optimum["probability"]).groupby(optimum["seed"]).sum()
        best = best.assign(run=name, expected_step=best["seed"].map(weighted))
        kept = best[["run", "seed", "step", "expected_step", "last_step", "sample_fast_p", "gain"]]
        tables.append(reward_densities(samples, 0, digits).merge(kept, on="seed"))
    return pd.concat(tables)[columns].reset_index(drop=True) if tables else pd.DataFrame(columns=columns)


def density_correlation(
    table: pd.DataFrame, density: str = "entropy", resamples: int = RESAMPLES, seed: int = 0
) -> Correlation:
    """Spearman's rho(density, step) over the rows of ``density_and_optimum``; the principle says rho < 0.

    ``density`` is one of ``DENSITIES``. Runs stand where ``Correlation`` says tasks: bounds are a bootstrap over runs,
    ``p_naive`` takes the rows as independent. Raises ValueError for another name.
    """
    if density not in DENSITIES:
        raise ValueError(f"There is no density {density!r}: use one of {', '.join(DENSITIES)}.")
    return spearman(table[density], table["step"], table["run"], None, resamples, seed)
