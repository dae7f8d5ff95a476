"""The data of chapter 5.3: trajectories of the paper and of runs in one shape, with intervals, and their peaks.

A *source* is one trajectory: the rollouts of one run, or the paper's printed shares turned back into counts of
rollouts, so that both go through the same functions. What a peak is worth is in ``trajectories_curse``, search against
adaptation and reward density in ``trajectories_control``, charts in ``trajectories_charts``, sentences in
``trajectories_words``; diversity in ``trajectories_diversity``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.runs import training_runs
from vegtts_core.book.tables import Column, Table, side_by_side
from vegtts_core.metrics import Trajectory
from vegtts_core.runs import Run
from vegtts_core.runs.schema import SAMPLES
from vegtts_core.statistics import Interval, mean_interval

NAN = float("nan")

PAPER = "paper"
"""The paper's batch trajectory (seed 42)."""


@dataclass(frozen=True)
class Source:
    """One trajectory: ``samples`` (``schema.SAMPLES``) of one seed, judged under ``protocol``."""

    name: str
    samples: pd.DataFrame
    protocol: str

    def trajectory(self) -> Trajectory:
        """Its tables, without bootstrap intervals: one seed has few tasks."""
        return metrics.trajectory(self.samples, self.protocol, resamples=1)


def family(source: str, params: str | Path, section: str, seed: int | None = None) -> dict[str, Run]:
    """``training_runs`` of a family whose recorded runs have one seed: ``seed`` is for live ones."""
    return training_runs(source, params, section, seed if source == "live" else None)


def of_runs(runs: Mapping[str, Run]) -> dict[str, Source]:
    """One source per run, named by its seed."""
    found = {}
    for run in runs.values():
        parameters = run.manifest["parameters"]
        name = f"seed {parameters['seed']}"
        found[name] = Source(name, run.samples, parameters["protocol"])
    return found


def by_task(runs: Mapping[str, Run]) -> dict[str, Source]:
    """One source per isolated run, named by its task, in the order of task numbers."""
    found = {}
    for run in sorted(runs.values(), key=lambda r: int(r.samples["task_id"].iloc[0])):
        name = f"task {int(run.samples['task_id'].iloc[0])}"
        found[name] = Source(name, run.samples, run.manifest["parameters"]["protocol"])
    return found


def by_rate(runs: Mapping[str, Run]) -> dict[str, Source]:
    """One source per run, named by its learning rate, the largest first."""
    found = {}
    for run in sorted(runs.values(), key=lambda r: -r.manifest["parameters"]["update"]["learning_rate"]):
        name = f"rate {number(run.manifest['parameters']['update']['learning_rate'], '.0e')}"
        found[name] = Source(name, run.samples, run.manifest["parameters"]["protocol"])
    return found


# -- the paper's trajectories ------------------------------------------------------------------------------------


def paper_k() -> int:
    """Rollouts per task and step behind section 5.3."""
    return int(published.table("A").at["ttt.k", "value"])


def from_shares(shares: pd.DataFrame, k: int) -> pd.DataFrame:
    """A samples table in which round(share x k) rollouts of each step (index) and task number (columns) are fast.

    Every rollout is correct, fast ones with speedup 2 and the others with 0.5: only shares may be read from it. Missing
    shares leave the step out.
    """
    rows = []
    for step, values in shares.dropna().iterrows():
        for task, share in values.items():
            fast = round(float(share) * k)
            for sample in range(k):
                speedup = 2.0 if sample < fast else 0.5
                rows.append((f"level1/{task}", int(str(task)), int(str(step)), sample, speedup))
    frame = pd.DataFrame(rows, columns=["task", "task_id", "step", "sample", "published_speedup"])
    frame["seed"], frame["published_correct"] = 42, True
    return frame.reindex(columns=SAMPLES.names)


def paper() -> Source:
    """The paper's batch trajectory as a source."""
    table = published.table("5.3-trajectory")
    shares = table[[name for name in table.columns if name.startswith("task_")]]
    return Source(PAPER, from_shares(shares.rename(columns=lambda c: c.removeprefix("task_")), paper_k()), "published")


def paper_isolated() -> dict[str, Source]:
    """The paper's isolated runs as sources, named as ``by_task`` names ours."""
    table = published.table("5.3-isolated")
    steps = [name for name in table.columns if name.startswith("step_")]
    found = {}
    for task, row in table.iterrows():
        shares = pd.DataFrame({str(task): row[steps].astype(float).to_numpy()}, index=range(len(steps)))
        found[f"task {task}"] = Source(f"task {task}", from_shares(shares, paper_k()), "published")
    return found


# -- intervals ---------------------------------------------------------------------------------------------------


def same_tasks(part: pd.DataFrame) -> Interval:
    """Mean share over tasks with an interval for *these* tasks: other rollouts of the same checkpoints.

    ``part``: rows of ``Trajectory.tasks`` with ``sample_fast_p``, ``low``, ``high`` (Wilson's). The tasks' intervals
    are combined by Newcombe's square-and-add rule, which stays right where a task is at 0 or 1. Rollouts are taken as
    independent; copies of one candidate share a verdict, so luck of the clock is not in it.
    """
    share, n = part["sample_fast_p"].to_numpy(dtype=float), len(part)
    below = np.sqrt(((share - part["low"].to_numpy(dtype=float)) ** 2).sum()) / n
    above = np.sqrt(((part["high"].to_numpy(dtype=float) - share) ** 2).sum()) / n
    return Interval(float(share.mean()), float(share.mean() - below), float(share.mean() + above), n)


def lines(sources: Mapping[str, Source]) -> pd.DataFrame:
    """fast_1 by step of every source: columns series, step, rollouts, fast_1, low, high (`same_tasks`)."""
    rows = []
    for name, source in sources.items():
        for step, part in source.trajectory().tasks.groupby("step", sort=True):
            found = same_tasks(part)
            rows.append((name, step, int(part["rollouts"].sum()), found.estimate, found.low, found.high))
    return pd.DataFrame(rows, columns=["series", "step", "rollouts", "fast_1", "low", "high"])


def task_lines(series: Iterable[tuple[str, Source]]) -> pd.DataFrame:
    """The same task by task, Wilson's intervals: columns task, task_id, series, step, fast_1, low, high.

    ``series``: names with sources; isolated runs of several tasks may share a name.
    """
    parts, order = [], {}
    for name, source in series:
        order.setdefault(name, len(order))
        numbers = source.samples.drop_duplicates("task").set_index("task")["task_id"]
        rows = source.trajectory().tasks.rename(columns={"sample_fast_p": "fast_1"})
        parts.append(rows.assign(series=name, task_id=rows["task"].map(numbers)))
    frame = pd.concat(parts, ignore_index=True)
    frame["task"] = "task " + frame["task_id"].astype(int).astype(str)
    frame["place"] = frame["series"].map(order)
    return frame.sort_values(["task_id", "place", "step"], kind="stable")[
        ["task", "task_id", "series", "step", "fast_1", "low", "high"]
    ]


# -- steps -------------------------------------------------------------------------------------------------------


def steps(samples: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Every step over all seeds, one row per step, with bootstrap intervals over tasks and seeds.

    ``rollouts`` (so far, all seeds), ``fast_1``, ``change`` (from step 0, paired by task and seed; None there),
    ``correct_change`` (the same of correct rollouts), ``correctness``,
    ``speedup`` (geometric mean over correct rollouts), ``solved`` (share of tasks with a fast rollout), ``seeds``.
    """
    found = metrics.trajectory(samples, protocol)
    rows = []
    for row in found.steps.to_dict("records"):
        tasks = int(row["tasks"])
        rows.append(
            {
                "step": int(row["step"]),
                "rollouts": int(row["rollouts"]),
                "fast_1": Interval(row["sample_fast_p"], row["low"], row["high"], tasks),
                "change": change(found, int(row["step"])) if row["step"] else None,
                "correct_change": change(found, int(row["step"]), measure="correctness"),
                "correctness": Interval(row["correctness"], row["correct_low"], row["correct_high"], tasks),
                "speedup": Interval(row["geometric_speedup"], row["geometric_low"], row["geometric_high"], tasks),
                "solved": row["task_fast_p"],
                "seeds": int(row["seeds"]),
            }
        )
    return pd.DataFrame(rows)


def change(found: Trajectory, step: int, base: int = 0, measure: str = "sample_fast_p") -> Interval:
    """``measure`` (a column of ``Trajectory.tasks``) at ``step`` minus at ``base``, paired by (task, seed).

    Bounds from the bootstrap over tasks and seeds.
    """
    shares = found.tasks.pivot_table(index=["task", "seed"], columns="step", values=measure)
    if step not in shares or base not in shares:
        return Interval(NAN, NAN, NAN, 0)
    difference = (shares[step] - shares[base]).dropna()
    return mean_interval(difference.to_numpy(), difference.index.get_level_values("task").to_numpy())


STEP_COLUMNS = {
    "step": Column("step", "d"),
    "rollouts": Column("rollouts so far", ",d"),
    "fast_1": Column("fast_1 [95%]", ".0%"),
    "change": Column("change from step 0 [95%]", "+.1%"),
    "correctness": Column("correct [95%]", ".0%"),
    "speedup": Column("speedup [95%]", ".2f"),
    "solved": Column("tasks solved", ".0%"),
}


def beside_paper(source: Source, name: str) -> Table:
    """The paper's seed-42 table and one of our sources, step by step, each with its interval for these tasks."""
    columns = {
        "rollouts": Column("rollouts", "d"),
        "share": Column("fast_1 [95%]", ".1%"),
        "count": Column("fast rollouts"),
    }
    left, right = (_side(s) for s in (paper(), source))
    best = int(np.argmax([row.estimate for row in left["share"]]))
    return side_by_side(
        left,
        right,
        "step",
        name,
        f"The paper's seed-42 trajectory and {source.name} here. 95% intervals for these tasks and other rollouts of "
        "the same checkpoints (Wilson's per task, combined); the paper prints none. *Fast rollouts*: of those of "
        "the step.",
        Column("step", "d"),
        columns,
        emphasis=(best,),
    )


def _side(source: Source) -> pd.DataFrame:
    tasks = source.trajectory().tasks
    rows = []
    for step, part in tasks.groupby("step", sort=True):
        fast = round(float((part["sample_fast_p"] * part["samples"]).sum()))
        share = same_tasks(part)
        rows.append((int(str(step)), int(part["rollouts"].sum()), share, f"{fast} of {int(part['samples'].sum())}"))
    return pd.DataFrame(rows, columns=["step", "rollouts", "share", "count"])


def count_gap(source: Source, first: int, second: int) -> int:
    """Fast rollouts at step ``first`` minus those at ``second``."""
    tasks = source.trajectory().tasks
    counts = (tasks["sample_fast_p"] * tasks["samples"]).groupby(tasks["step"]).sum().round().astype(int)
    return int(counts[first] - counts[second])


# -- peaks, task by task -----------------------------------------------------------------------------------------


def peaks(theirs: Source, ours: Mapping[str, Source]) -> pd.DataFrame:
    """Where each task is best: columns task, paper_step, paper_share, and per source of ours ``<name>`` (step, share).

    Ties go to the earliest step and are marked with the number of steps that share the score.
    """
    sides = {PAPER: theirs, **ours}
    found = {}
    for name, source in sides.items():
        best = metrics.best_steps(source.trajectory())
        numbers = source.samples.drop_duplicates("task").set_index("task")["task_id"]
        found[name] = {
            int(numbers[row["task"]]): f"{row['step']} ({number(row['sample_fast_p'], '.0%')}"
            + (f", {row['ties']} ties)" if row["ties"] > 1 else ")")
            for row in best.to_dict("records")
        }
    tasks = sorted({task for side in found.values() for task in side})
    return pd.DataFrame([{"task": f"task {t}", **{n: side.get(t) for n, side in found.items()}} for t in tasks])


def peak_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Columns of `peaks`' table."""
    names = {name: Column(name if name == PAPER else f"{name}, here") for name in frame.columns if name != "task"}
    return {"task": Column("task"), **names}
