"""The warm start of chapter 3.2: whose completions it was fitted to, and how many tasks they covered (section 3.1).

It arranges the samples table of a warm start. Worked answers have no log-probabilities: nobody sampled them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book.measurement import of
from vegtts_core.book.prose import listed, number
from vegtts_core.book.study import card
from vegtts_core.book.tables import Column
from vegtts_core.book.training import by_slot, share
from vegtts_core.runs import Run
from vegtts_core.statistics import mean_interval, wilson

POLICY = "the policy"
NOTHING = "no warm start"

_WRITTEN = {True: POLICY, False: "us (worked answers)"}


def stages_of(run: Run | None) -> pd.DataFrame:
    """One row per (stage, scaffold, who wrote the completions) of a warm start.

    Columns: stage, scaffold, written, tasks, completions, correct (Interval), covered (Interval: share of tasks with a
    correct completion), tasks_covered (text), distinct (distinct correct candidates per task, mean over all tasks).
    Without a warm start, one row of nothing.
    """
    if run is None:
        return pd.DataFrame([dict.fromkeys(["stage", "written", "tasks", *WARM_COLUMNS]) | {"scaffold": NOTHING}])
    samples = by_slot(run.samples)
    view = metrics.under(samples, run.manifest["parameters"]["protocol"])
    view["scaffold"], view["written"] = samples["scaffold"], samples["mean_logprob"].notna().map(_WRITTEN)
    rows = []
    for (stage, scaffold, written), part in view.groupby(["step", "scaffold", "written"], sort=True):
        tasks = part["task"].nunique()
        right = part[part["correct"]]
        covered = right["task"].nunique()
        rows.append(
            {
                "stage": int(stage),
                "scaffold": scaffold,
                "written": written,
                "tasks": tasks,
                "completions": len(part),
                "correct": share(part["correct"], part["task"]),
                "covered": wilson(covered, tasks),
                "tasks_covered": f"{covered} of {tasks}",
                "distinct": float(right.groupby("task")["fingerprint"].nunique().sum() / tasks),
            }
        )
    return pd.DataFrame(rows)


WARM_COLUMNS = {
    "stage": Column("stage", "d"),
    "scaffold": Column("scaffold"),
    "written": Column("written by"),
    "completions": Column("completions", ",d"),
    "correct": Column("correct [95%]", ".0%"),
    "tasks_covered": Column("tasks with a correct one"),
    "covered": Column("share [95%]", ".0%"),
    "distinct": Column("distinct correct, per task", ".1f"),
}


def coverage(run: Run | None) -> pd.DataFrame:
    """Share of tasks with a correct one among n samples of the policy: columns series, n, share, low, high.

    Exact expectation over which n of a task's samples are drawn (pass@n), mean over tasks, bootstrap over them.
    """
    columns = ["series", "n", "share", "low", "high"]
    if run is None:
        return pd.DataFrame(columns=columns)
    samples = by_slot(run.samples)
    samples = samples[samples["mean_logprob"].notna()].reset_index(drop=True)
    view = metrics.under(samples, run.manifest["parameters"]["protocol"])
    view["scaffold"] = samples["scaffold"]
    rows = []
    for (stage, scaffold), part in view.groupby(["step", "scaffold"], sort=True):
        counts = part.groupby("task")["correct"].agg(["size", "sum"])
        most = int(counts["size"].min())
        for n in [2**power for power in range(most.bit_length()) if 2**power <= most]:
            found = [float(metrics.pass_at_k(int(a), int(c), n)) for a, c in counts.to_numpy()]
            interval = mean_interval(found, counts.index.to_numpy())
            rows.append((f"{scaffold}, stage {stage}", n, interval.estimate, interval.low, interval.high))
    return pd.DataFrame(rows, columns=columns)


def warm_here(stages: pd.DataFrame) -> str:
    """The policy's own completions, per scaffold: the first stage in which it wrote any."""
    parts = []
    for scaffold, rows in stages[stages["written"] == POLICY].groupby("scaffold"):
        row = rows.sort_values("stage").iloc[0]
        where = "untrained" if row["stage"] == 0 else f"after {of(int(row['stage']), 'fit')}"
        text = f"{row['tasks_covered']} tasks ({number(row['covered'], '.0%')})"
        parts.append(
            f"`{scaffold}`, {where}: a correct one on {text}, {number(row['correct'].estimate, '.0%')} of samples"
        )
    return ". ".join(parts) + "." if parts else "The policy itself wrote nothing in this warm start."


def warm_verdict(stages: pd.DataFrame) -> str:
    """Whose answers the fit began with, and where sampling alone would have had nothing to keep."""
    if set(stages["scaffold"]) == {NOTHING}:
        return "GRPO started from the untrained policy here as well."
    ours = sorted(stages.loc[stages["written"] != POLICY, "scaffold"].unique())
    rows = stages[stages["written"] == POLICY]
    left = [
        f"{of(row['tasks'] - round(row['covered'].estimate * row['tasks']), 'task')} in `{row['scaffold']}`"
        for row in rows.sort_values("stage").groupby("scaffold").tail(1).to_dict("records")
        if row["covered"].estimate < 1
    ]
    text = ""
    if ours:
        names = listed(f"`{name}`" for name in ours)
        text = f"In {names} the first answers are ours: there this is no rejection sampling, but imitation. "
    if not left:
        return text + "The policy's own samples leave no task without a correct one." if len(rows) else text.strip()
    return (
        text
        + f"The policy's last samples hold no correct one for {listed(left)}; from such groups GRPO learns nothing."
    )


def study_stages(runs: Mapping[str, Run]) -> pd.DataFrame:
    """`stages_of` of the study's warm starts with ``run``, ``card`` and ``seconds`` of the stage (sampling to fit)."""
    parts = []
    for name, run in runs.items():
        seconds = run.steps.set_index("step")["wall_seconds"]
        found = stages_of(run)
        parts.append(found.assign(run=name, card=card(run), seconds=found["stage"].map(seconds)))
    return pd.concat(parts, ignore_index=True)


STUDY_COLUMNS = {
    "card": Column("card"),
    **{
        name: WARM_COLUMNS[name] for name in ("stage", "written", "completions", "correct", "tasks_covered", "distinct")
    },
    "seconds": Column("seconds", ".0f"),
}


def study_verdict(stages: pd.DataFrame) -> str:
    """Whether a run has samples of the policy before any fit, and so a before and after."""
    own = stages[stages["written"] == POLICY]
    if own.empty:
        return "The policy was not sampled here: nothing is known of it."
    first = int(own["stage"].min())
    if first == 0:
        later = own[own["stage"] > 0]
        return "Before and after are both the policy's own." if len(later) else "Only the untrained policy was sampled."
    row = own[own["stage"] == first].iloc[0]
    return (
        f"The policy was first sampled after {of(first, 'fit')} to worked answers of ours: there is no share from "
        f"before, and nothing here shows what the policy could do alone. {number(row['correct'], '.0%')} of its "
        f"samples are correct then, on {row['tasks_covered']} training tasks that it was fitted to: no test."
    )
