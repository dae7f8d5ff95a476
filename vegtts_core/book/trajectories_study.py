"""The study's trajectories in chapter 5.3: outcomes and diversity by step, and where every task ends.

A run is one source of its own, named by its setting and seed: settings differ, so runs are not pooled. What a peak is
worth comes from ``trajectories_curse``; the sentences are in ``trajectories_study_words``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import theme
from vegtts_core.book.prose import number
from vegtts_core.book.study import card
from vegtts_core.book.tables import Column
from vegtts_core.book.trajectories import Source, change
from vegtts_core.book.trajectories_curse import CURSE_COLUMNS, curse
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval

OUTCOMES = {"correct": ("correct", ".0%"), "fast_1": ("fast_1, sound", ".0%"), "speedup": ("median speedup", ".1f")}
DIVERSITY = {
    "distinct_correct": ("distinct correct", ".0f"),
    "entropy_miller_madow": ("entropy, nats", ".1f"),
    "edit_distance": ("edit distance", ".1f"),
}
USUAL = 0.5
"""From this share of correct rollouts on, a step's correct candidates count towards a task's fewest."""


def setting(run: Run) -> str:
    """``T = 1, rate 1e-04, seed 42``: what tells the study's runs from each other."""
    parameters = run.manifest["parameters"]
    rate = number(parameters["update"]["learning_rate"], ".0e").replace("e-0", "e-")
    return f"T = {parameters['temperature']:g}, rate {rate}, seed {parameters['seed']}"


def sources(runs: Mapping[str, Run]) -> dict[str, Source]:
    """One source per run by its setting; runs that share one (other tasks) are told apart by their names."""
    found: dict[str, Source] = {}
    for key, run in runs.items():
        name = setting(run)
        name = f"{name} ({key})" if name in found else name
        found[name] = Source(name, run.samples, str(run.manifest["parameters"]["protocol"]))
    return found


def cards(runs: Mapping[str, Run]) -> str:
    """The cards that the runs' candidates were timed on, from their manifests."""
    return " and ".join(dict.fromkeys(card(run) for run in runs.values()))


def colours(found: Mapping[str, Source]) -> dict[str, str]:
    """A colour per run, in order."""
    return dict(zip(found, theme.colours(list(found)), strict=True))


def _view(source: Source) -> pd.DataFrame:
    view = metrics.under(source.samples, source.protocol)
    columns = ["task", "task_id", "step", "fingerprint"]
    view[columns] = source.samples[columns].to_numpy()
    view["fast"] = view["fast_limit"] > 1
    return view


def median_speedup(part: pd.DataFrame) -> Interval:
    """Geometric mean over tasks of the median speedup of a task's correct rollouts; bootstrap over tasks."""
    right = part[part["correct"].astype(bool)]
    logs = np.log(right.groupby("task")["speedup"].median().astype(float))
    found = mean_interval(logs.to_numpy(), logs.index.to_numpy())
    low, high = (math.exp(value) for value in (found.low, found.high))
    return Interval(math.exp(found.estimate), low, high, found.n)


def outcomes(found: Mapping[str, Source]) -> pd.DataFrame:
    """Rows method, step, measure (of ``OUTCOMES``), estimate, low, high, tasks; bootstrap over tasks."""
    rows = []
    for name, source in found.items():
        steps = metrics.trajectory(source.samples, source.protocol).seeds.set_index("step")
        for step, part in _view(source).groupby("step", sort=True):
            row = steps.loc[step]
            speed = median_speedup(part)
            tasks = int(part["task"].nunique())
            shares = {
                "correct": ("correctness", "correct_low", "correct_high"),
                "fast_1": ("sample_fast_p", "low", "high"),
            }
            rows += [(name, step, key, *(row[c] for c in columns), tasks) for key, columns in shares.items()]
            rows.append((name, step, "speedup", speed.estimate, speed.low, speed.high, speed.n))
    return pd.DataFrame(rows, columns=["method", "step", "measure", "estimate", "low", "high", "tasks"])


def worth(runs: Mapping[str, Run]) -> pd.DataFrame:
    """`curse` of every run with its card."""
    return curse(sources(runs)).assign(card=[card(run) for run in runs.values()])


WORTH_COLUMNS = {"source": CURSE_COLUMNS["source"], "card": Column("card")} | {
    name: CURSE_COLUMNS[name] for name in ("step", "equal", "base", "naive", "last", "held_gain", "held_drop", "chosen")
}


def diversity(found: Mapping[str, Source]) -> pd.DataFrame:
    """`metrics.diversity_by_step` of every run with its name as ``method``."""
    parts = [
        metrics.diversity_by_step(metrics.group_diversity(source.samples, source.protocol)).assign(method=name)
        for name, source in found.items()
    ]
    return pd.concat(parts, ignore_index=True)


def ends(found: Mapping[str, Source]) -> pd.DataFrame:
    """Where each task of each run ends: columns of ``END_COLUMNS``, k, fewest_step; one row per (run, task).

    ``first``, ``last``: correct rollouts of ``k``; ``most``, ``fewest``: distinct correct candidates at the step with
    most and with fewest, the latter among steps of at least ``USUAL`` correct (NaN if none is); ``fewest_step``: which;
    ``speedup``: median of correct ones at the last step, ``fast``: share of its rollouts that are fast.
    """
    rows = []
    for name, source in found.items():
        for task, part in _view(source).groupby("task_id", sort=True):
            right = part[part["correct"].astype(bool)]
            steps = sorted(part["step"].unique())
            size = part.groupby("step").size()
            counts = right.groupby("step").size().reindex(steps, fill_value=0)
            distinct = right.groupby("step")["fingerprint"].nunique().reindex(steps, fill_value=0)
            usual = distinct[counts >= USUAL * size]
            end, last = right[right["step"] == steps[-1]], part[part["step"] == steps[-1]]
            rows.append(
                {
                    "source": name,
                    "task": str(task),
                    "k": int(size.iloc[-1]),
                    "first": int(counts.iloc[0]),
                    "last": int(counts.iloc[-1]),
                    "most": int(distinct.max()),
                    "fewest": int(usual.min()) if len(usual) else math.nan,
                    "fewest_step": int(usual.idxmin()) if len(usual) else math.nan,
                    "end": int(distinct.iloc[-1]),
                    "speedup": float(end["speedup"].median()) if len(end) else math.nan,
                    "fast": float(last["fast"].mean()),
                }
            )
    return pd.DataFrame(rows)


END_COLUMNS = {
    "source": Column("trajectory"),
    "task": Column("task"),
    "first": Column("step 0", "d", group="correct"),
    "last": Column("last", "d", group="correct"),
    "most": Column("most", "d", group="distinct correct"),
    "fewest": Column("fewest", ".0f", group="distinct correct"),
    "end": Column("last", "d", group="distinct correct"),
    "speedup": Column("speedup", "{:.2f}×", group="last step"),
    "fast": Column("fast", ".0%", group="last step"),
}


def gains(found: Mapping[str, Source], step: int | None = None) -> pd.DataFrame:
    """Change from step 0 to ``step`` (default: the last) per run: source, step, correct and fast_1 (Intervals)."""
    rows = []
    for name, source in found.items():
        table = metrics.trajectory(source.samples, source.protocol, resamples=1)
        at = int(source.samples["step"].max()) if step is None else step
        rows.append((name, at, change(table, at, measure="correctness"), change(table, at)))
    return pd.DataFrame(rows, columns=["source", "step", "correct", "fast_1"])
