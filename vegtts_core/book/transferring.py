"""The data of chapter 5.5: adapted checkpoints on tasks that they were not adapted to, beside base and Best-of-N.

It arranges what ``metrics.transfer`` and ``metrics.optimism`` compute. Regimes are in ``regimes``,
sentences in ``transferring_words``. Every share is fast_1 per sample.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import pandas as pd
from rich.console import Console
from scipy import stats

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.charts import Axis, grouped_intervals
from vegtts_core.book.prose import number
from vegtts_core.book.runs import TERMINAL, names_runs, training_runs
from vegtts_core.book.selecting_words import signed
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.parameters import read_yaml
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval, wilson
from vegtts_core.tasks.load import named_selections
from vegtts_core.training.transfer import transfer

NAN = float("nan")

OTHER_WAY = "adaptation_subset_2"
"""The family of recorded runs that were adapted on subset 2, whose checkpoints are judged on subset 1."""

PAPER_ROLLOUTS = {"fast_1": 160, "base": 160, "best_of_n": 320}
"""Rollouts behind each published share: 5 tasks at K = 32 per checkpoint (table 5.4 for the others)."""

CONDITIONS = {"base": "base", "best_of_n": "Best-of-N", "best": "adapted, best step", "last": "adapted, last step"}


@dataclass(frozen=True)
class Direction:
    """One adaptation run, and its checkpoints judged on other tasks. ``name`` as in ``s1-s2``, the paper's."""

    name: str
    adaptation: Run
    judged: Run

    @property
    def protocol(self) -> str:
        """Whose speedups count."""
        return str(self.judged.manifest["parameters"]["protocol"])

    @property
    def seed(self) -> int:
        """Under which base and checkpoints were sampled."""
        return int(self.judged.manifest["parameters"]["seed"])

    @property
    def steps(self) -> dict[str, int]:
        """The checkpoints by condition: the best and, where it is another, the last; none where both are the base."""
        made = sorted({int(step) for step in self.judged.manifest["parameters"]["checkpoints"]} - {0})
        best = best_step(self.adaptation, self.protocol)
        found = {"best": best} if best in made else {}
        return found | ({"last": made[-1]} if made and made[-1] != best else {})

    def samples(self, condition: str) -> pd.DataFrame:
        """The rollouts of a condition on the other tasks; empty where it was not judged."""
        table = self.judged.samples
        if condition == "best_of_n":
            return table[(table["step"] == 0) & (table["seed"] != self.seed)]
        step = 0 if condition == "base" else self.steps.get(condition, -1)
        return table[(table["step"] == step) & (table["seed"] == self.seed)]


def best_step(run: Run, protocol: str) -> int:
    """Best-of-Adaptation's step on the tasks that the run was adapted on."""
    return int(metrics.best_of_adaptation(metrics.trajectory(run.samples, protocol, resamples=1))["step"].iloc[0])


def directions(source: str, params: str | Path, seed: int | None = None) -> list[Direction]:
    """The transfers that ``params`` names, with the adaptation runs behind them.

    ``recorded``: as they lie in ``data/runs``. ``live``: the adaptation run is made if it is missing, then its
    checkpoints are judged on ``transfer.tasks`` of the parameters (subset 2). Raises UserError.
    """
    runs = training_runs(source, params, "adaptation", seed)
    if source == "recorded":
        if names_runs(source, params, OTHER_WAY):
            runs |= training_runs(source, params, OTHER_WAY, seed)
        judged = training_runs(source, params, "transfer", seed)
        return [
            Direction(direction_name(runs[run.manifest["parameters"]["run"]], run), runs[name], run)
            for run in judged.values()
            if (name := run.manifest["parameters"]["run"]) in runs
        ]
    given = read_yaml(params).get("transfer") or {}
    adaptation = next(iter(runs.values()))
    terminal = True if os.environ.get(TERMINAL) else None
    console = Console(file=sys.stderr, force_jupyter=False, force_terminal=terminal)
    run = transfer(
        adaptation, given.get("tasks", "subset_2"), control_k=given.get("control_k"), k=given.get("k"), console=console
    )
    return [Direction(direction_name(adaptation, run), adaptation, run)]


def direction_name(adaptation: Run, judged: Run) -> str:
    """``s1-s2`` where tasks are those of the paper's subsets or some of them."""
    names = []
    for run in (adaptation, judged):
        ids = set(run.samples["task_id"])
        subset = next((n for n in ("subset_1", "subset_2") if ids <= set(named_selections()[n])), None)
        names.append(f"s{subset[-1]}" if subset else "other")
    return "-".join(names)


def shown_name(name: str) -> str:
    """``subset 1 → subset 2``."""
    return " → ".join(f"subset {part[1:]}" if part[0] == "s" else "other tasks" for part in name.split("-"))


def measured(found: Direction) -> dict[str, metrics.Transfer]:
    """``measure_transfer`` of each adapted checkpoint, by condition."""
    control = found.samples("best_of_n")
    return {
        condition: metrics.measure_transfer(
            found.samples(condition), found.samples("base"), control if len(control) else None, found.protocol
        )
        for condition in found.steps
    }


def shares(found: Direction) -> pd.DataFrame:
    """fast_1 per sample by condition: condition, label, step, share (an Interval over tasks), samples, tasks."""
    rows = []
    for condition, label in CONDITIONS.items():
        samples = found.samples(condition)
        if not len(samples):
            continue
        view = metrics.under(samples, found.protocol)
        groups = view.assign(fast=view["fast_limit"] > 1).groupby(["task", "seed"], as_index=False)["fast"].mean()
        step = found.steps.get(condition, 0)
        name = f"{label} ({step})" if condition in found.steps else label
        share = mean_interval(groups["fast"], groups["task"])
        right = float(view["correct"].mean())
        rows.append((condition, name, step, share, right, len(view), share.n))
    return pd.DataFrame(rows, columns=["condition", "label", "step", "share", "correct", "samples", "tasks"])


def side_by_side(found: list[Direction]) -> pd.DataFrame:
    """Published and measured shares: direction, label, paper (with Wilson's bounds), here, correct, samples, tasks."""
    paper, by_name = published.table("5.5-transfer"), {each.name: each for each in found}
    columns = {"base": "base", "best_of_n": "best_of_n", "best": "fast_1"}
    rows: list[dict[str, object]] = []
    for name in [*paper.index, *(n for n in by_name if n not in paper.index)]:
        here = shares(by_name[name]).set_index("condition") if name in by_name else None
        for condition, label in CONDITIONS.items():
            ours = here.loc[condition] if here is not None and condition in here.index else None
            printed = paper_share(name, columns[condition]) if name in paper.index and condition in columns else None
            if ours is None and (printed is None or pd.isna(printed.estimate)):
                continue
            rows.append(
                {
                    "direction": shown_name(name),
                    "label": ours["label"] if ours is not None else label,
                    "paper": printed,
                    "here": ours["share"] if ours is not None else None,
                    "correct": float(ours["correct"]) if ours is not None else NAN,
                    "samples": str(int(ours["samples"])) if ours is not None else None,
                    "tasks": str(int(ours["tasks"])) if ours is not None else None,
                }
            )
    columns_of = ["direction", "label", "paper", "here", "correct", "samples", "tasks"]
    return pd.DataFrame(rows, columns=columns_of)


def paper_share(name: str, column: str) -> Interval:
    """A published share with Wilson's bounds, its rollouts taken as independent."""
    share = float(published.table("5.5-transfer").at[name, column])
    if pd.isna(share):
        return Interval(NAN, NAN, NAN, 0)
    n = PAPER_ROLLOUTS[column]
    return wilson(min(share * n, n), n)


SIDE_COLUMNS = {
    "direction": Column("direction"),
    "label": Column("policy (step)"),
    "paper": Column("fast_1 [Wilson]", ".1%", group=PUBLISHED),
    "here": Column("fast_1 [bootstrap]", ".1%", group=HERE),
    "correct": Column("correct", ".0%", group=HERE),
    "samples": Column("rollouts", group=HERE),
    "tasks": Column("tasks", group=HERE),
}


def differences(found: list[Direction]) -> pd.DataFrame:
    """Paired differences over tasks: direction, pair, difference (Interval), better, worse, p, least, moved.

    ``moved``: share of rollouts, drawn with the same random numbers, whose completion is not the base's.
    """
    rows = []
    for each in found:
        known: set[str] = set()
        for condition, table in measured(each).items():
            for row in table.differences.to_dict("records"):
                pair = " minus ".join(_label(each, condition, str(row[side])) for side in ("first", "second"))
                if pair in known:
                    continue
                known.add(pair)
                gap = Interval(row["difference"], row["low"], row["high"], row["tasks"])
                sides = [condition if row[side] == "adapted" else str(row[side]) for side in ("first", "second")]
                both = (row["first"], row["second"]) == ("adapted", "base")
                rows.append(
                    {
                        "direction": shown_name(each.name),
                        "condition": condition if row["first"] == "adapted" else "control",
                        "second": row["second"],
                        "pair": pair,
                        "difference": gap,
                        "correct": correctness_gap(each, *sides),
                        "tasks": f"{row['better']} up, {row['worse']} down of {row['tasks']}",
                        "p": row["p_value"],
                        "least": row["smallest_p"],
                        "moved": moved(each, condition) if both else NAN,
                    }
                )
    columns = ["direction", "condition", "second", "pair", "difference", "correct", "tasks", "p", "least", "moved"]
    return pd.DataFrame(rows, columns=columns)


def correctness_gap(found: Direction, first: str, second: str) -> Interval:
    """Difference of the shares of correct rollouts, paired by task, bootstrap over tasks."""
    means = []
    for condition in (first, second):
        view = metrics.under(found.samples(condition), found.protocol)
        means.append(view.groupby(["task", "seed"])["correct"].mean().groupby("task").mean())
    gap = means[0] - means[1]
    return mean_interval(gap, gap.index)


def _label(found: Direction, condition: str, side: str) -> str:
    if side == "adapted":
        return f"{CONDITIONS[condition]} ({found.steps[condition]})"
    return CONDITIONS[side]


def moved(found: Direction, condition: str) -> float:
    """Share of a checkpoint's rollouts that differ from the base's with the same random numbers."""
    keys = ["task", "seed", "sample"]
    a, b = (found.samples(name).set_index(keys)["completion"] for name in (condition, "base"))
    a, b = a.align(b, join="inner")
    return float((a != b).mean()) if len(a) else NAN


def in_points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return number(value) if pd.isna(value) else signed(100 * value)


DIFFERENCE_COLUMNS = {
    "direction": Column("direction"),
    "pair": Column("difference of"),
    "difference": Column("fast_1, points [95%]", in_points),
    "correct": Column("correct, points [95%]", in_points),
    "tasks": Column("tasks, fast_1"),
    "p": Column("p, sign", ".2f"),
    "least": Column("least p", ".2f"),
    "moved": Column("other completion", ".0%"),
}


def per_task(found: Direction) -> pd.DataFrame:
    """fast_1 per task and condition with Wilson's bounds: task, label, share, low, high."""
    rows = []
    labels = shares(found).set_index("condition")["label"]
    for condition, label in labels.items():
        view = metrics.under(found.samples(str(condition)), found.protocol)
        for task, part in view.assign(fast=view["fast_limit"] > 1).groupby("task_id", sort=True):
            each = wilson(float(part["fast"].sum()), len(part))
            rows.append((f"task {task}", label, each.estimate, each.low, each.high))
    return pd.DataFrame(rows, columns=["task", "label", "share", "low", "high"])


def figure_tasks(found: Direction) -> alt.LayerChart:
    """Per task of the other subset, one interval per policy."""
    axis = Axis("share", "fast_1 per sample", ".0%", domain=(-0.02, 1.02))
    return grouped_intervals(per_task(found), "task", "label", axis, "low", "high", None, "", row_height=16)


def own_gain(found: Direction) -> pd.Series:
    """``split_half_optimism`` of the run on its own tasks: what its best step gains there, as scored and held out."""
    return metrics.split_half_optimism(found.adaptation.samples, found.protocol).iloc[0]


def one_policy() -> tuple[Interval, Interval, float]:
    """The paper's base and Best-of-N on subset 2, and Fisher's p that one policy gave both, rollouts independent."""
    base, search = paper_share("s1-s2", "base"), paper_share("s1-s2", "best_of_n")
    counts = [[round(x.estimate * n), n - round(x.estimate * n)] for x, n in ((base, 160), (search, 320))]
    return base, search, float(stats.fisher_exact(counts)[1])  # type: ignore[index]
