"""The tables of chapter 3.2: what the rollouts of each step of GRPO achieved, beside appendix B.

A *slot* is a training task in one scaffold. A step draws some of the slots, so two steps differ in their tasks as well
as in their policy; ``changes`` compares slots with themselves. It arranges runs. The warm start is in
``training_warm``, figures in ``training_charts``, rewards and advantages in ``training_signal``, benchmarks in
``training_recorded``, sentences in ``training_words``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.runs import training_runs
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.parameters import read_yaml
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval, wilson

NAN = float("nan")

ALL = "all"
"""Stands for both scaffolds together."""


@dataclass(frozen=True)
class OuterLoop:
    """The runs of sections 3.1 and 3.3. ``warm`` is None where GRPO started from the untrained policy."""

    warm: Run | None
    rlvr: Run


def outer_loop(source: str, params: str | Path, seed: int | None = None) -> OuterLoop:
    """The warm start and the GRPO run that ``params`` names, recorded or made now. Raises UserError."""
    values = read_yaml(params)
    if source == "live":
        return _live(values, params, seed)
    warm = None
    if (values.get("recorded") or {}).get("warm_start"):
        warm = next(iter(training_runs(source, params, "warm_start", seed).values()))
    return OuterLoop(warm, next(iter(training_runs(source, params, "rlvr", seed).values())))


def _live(values: Mapping[str, object], params: str | Path, seed: int | None) -> OuterLoop:
    from vegtts_core.training.adaptation import adapt
    from vegtts_core.training.parameters import AdaptationParameters
    from vegtts_core.training.warm_start import warm_start
    from vegtts_core.training.warm_start_parameters import WarmStartParameters

    given: dict[str, object] = {"seed": seed}
    warm = None
    if "warm_start" in values:
        warm = warm_start(WarmStartParameters.read("warm_start", params, given))
        given["adapter"] = str(warm.folder / "adapter")
    return OuterLoop(warm, adapt(AdaptationParameters.read("rlvr", params, given)))


def by_slot(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples with ``task`` made the slot (``template:level1/19``): a group is a slot's rollouts at one step."""
    return samples.assign(task=samples["scaffold"] + ":" + samples["task"]).reset_index(drop=True)


def scaffolds(samples: pd.DataFrame) -> list[str]:
    """Those that occur, in the order of their names."""
    return sorted(samples["scaffold"].unique())


def share(hits: pd.Series, clusters: pd.Series) -> Interval:
    """A share of rollouts with the wider of two intervals: bootstrap over slots, and Wilson's.

    The first knows that rollouts of a slot are alike but closes up where slots agree; the second does not close up.
    """
    groups = hits.groupby(clusters).mean()
    boot = mean_interval(groups.to_numpy(), groups.index.to_numpy())
    score = wilson(float(hits.sum()), len(hits))
    low, high = np.fmin(boot.low, score.low), np.fmax(boot.high, score.high)
    return Interval(float(hits.mean()), float(low), float(high), len(groups))


# -- GRPO, step by step ------------------------------------------------------------------------------------------------


def progress(run: Run) -> pd.DataFrame:
    """What the rollouts of each step achieved, one row per (step, scaffold) and one per step for ``all``.

    Columns: step, scaffold, slots, rollouts, right (count), correct and speedup (Interval; speedup is the geometric
    mean over slots of the geometric mean over correct rollouts), mean_speedup (arithmetic over correct rollouts, as
    the paper's), distinct and entropy (Interval: distinct candidates among a group's K, and the entropy of the
    distribution over candidates in nats).
    """
    samples = by_slot(run.samples)
    protocol = run.manifest["parameters"]["protocol"]
    view = metrics.under(samples, protocol)
    view["scaffold"], view["log"] = samples["scaffold"], np.log(view["speedup"])
    groups = metrics.group_diversity(samples, protocol)
    groups["scaffold"] = groups["task"].str.split(":").str[0]
    rows = []
    for step, part in view.groupby("step", sort=True):
        for name in [*sorted(part["scaffold"].unique()), ALL]:
            mine = part if name == ALL else part[part["scaffold"] == name]
            logs = mine.groupby("task")["log"].mean()
            found = groups[(groups["step"] == step) & ((groups["scaffold"] == name) | (name == ALL))]
            rows.append(
                {
                    "step": int(step),  # type: ignore[call-overload]
                    "scaffold": name,
                    "slots": mine["task"].nunique(),
                    "rollouts": len(mine),
                    "right": int(mine["correct"].sum()),
                    "correct": share(mine["correct"], mine["task"]),
                    "speedup": _exponential(mean_interval(logs.to_numpy(), logs.index.to_numpy())),
                    "mean_speedup": float(mine["speedup"].mean()),
                    "distinct": mean_interval(found["distinct"], found["task"]),
                    "entropy": mean_interval(found["entropy"], found["task"]),
                }
            )
    return pd.DataFrame(rows)


def _exponential(logs: Interval) -> Interval:
    return Interval(*(float(np.exp(value)) for value in (logs.estimate, logs.low, logs.high)), logs.n)


def beside_appendix_b(found: pd.DataFrame) -> pd.DataFrame:
    """Appendix B's table beside the run's rollouts of the same steps, and of its first and last step.

    ``found`` from ``progress``. Columns step, ``paper.*`` (correct as an Interval, count, speedup), ``here.*``.
    """
    paper = papers_checkpoints().set_index("step")
    ours = found[found["scaffold"] == ALL].set_index("step")
    steps = sorted({*paper.index, int(ours.index.min()), int(ours.index.max())})
    rows = []
    for step in steps:
        row: dict[str, object] = {"step": step}
        if step in paper.index:
            row |= {f"paper.{name}": paper.at[step, name] for name in ("correct", "count", "speedup")}
        if step in ours.index:
            one = ours.loc[step]
            row |= {"here.correct": one["correct"], "here.count": f"{one['right']} of {one['rollouts']}"}
            row |= {"here.speedup": one["mean_speedup"], "here.geometric": one["speedup"]}
        rows.append(row)
    columns = ["step", "paper.correct", "paper.count", "paper.speedup"]
    columns += ["here.correct", "here.count", "here.speedup", "here.geometric"]
    return pd.DataFrame(rows, columns=columns).astype(object).where(lambda frame: frame.notna(), None)


BESIDE_COLUMNS = {
    "step": Column("step", "d"),
    "paper.count": Column("correct", group=PUBLISHED),
    "paper.correct": Column("share [Wilson]", ".1%", group=PUBLISHED),
    "paper.speedup": Column("speedup", "{:.2f}×", group=PUBLISHED),
    "here.count": Column("correct", group=HERE),
    "here.correct": Column("share [95%]", ".0%", group=HERE),
    "here.speedup": Column("speedup", "{:.2f}×", group=HERE),
    "here.geometric": Column("geometric [95%]", ".2f", group=HERE),
}


def papers_rollouts() -> int:
    """Rollouts of one published step: batch size times group size."""
    table = published.table("A")["value"]
    return int(table["rlvr.batch_size"]) * int(table["rlvr.group_size"])


def papers_checkpoints() -> pd.DataFrame:
    """Appendix B with what its percentages are: columns step, right, count (text), correct (Wilson), speedup.

    Each value is a count of one step's rollouts over their number, to the digit printed (ValueError if not).
    """
    n = papers_rollouts()
    rows = []
    for step, row in published.table("B").iterrows():
        right = round(row["correctness"] * n)
        if abs(right / n - row["correctness"]) > 5.1e-4:
            raise ValueError(f"Step {step} of appendix B is no count of {n}.")
        interval = wilson(right, n)
        rows.append((int(str(step)), right, f"{right} of {n}", interval, float(row["speedup"])))
    return pd.DataFrame(rows, columns=["step", "right", "count", "correct", "speedup"])


# -- the same slots, first and last visit ------------------------------------------------------------------------------


_DIVERSITY = ("distinct", "distinct_correct", "entropy")


def changes(run: Run) -> pd.DataFrame:
    """Each slot's last visit minus its first: one row per scaffold, and ``all``.

    Columns: scaffold, slots (visited in two steps at least), visits (median steps of both, text), correct (difference
    of shares), speedup (ratio of geometric means, slots with a correct rollout in both), distinct, distinct_correct,
    entropy (differences): Intervals, bootstrap over tasks. No slot is chosen for its outcome, so nothing regresses to
    a mean.
    """
    samples = by_slot(run.samples)
    protocol = run.manifest["parameters"]["protocol"]
    view = metrics.under(samples, protocol)
    view["log"] = np.log(view["speedup"])
    visits = view.groupby(["task", "step"], as_index=False).agg(correct=("correct", "mean"), log=("log", "mean"))
    diversity = metrics.group_diversity(samples, protocol)[["task", "step", *_DIVERSITY]]
    visits = visits.merge(diversity, on=["task", "step"]).sort_values(["task", "step"])
    both = visits.groupby("task").agg(["first", "last"])
    # "first" and "last" of a group skip missing values: take the visits themselves.
    for name in ("correct", "log", *_DIVERSITY):
        both[name, "first"] = visits.groupby("task")[name].nth(0).to_numpy()
        both[name, "last"] = visits.groupby("task")[name].nth(-1).to_numpy()
    both = both[both["step", "last"] > both["step", "first"]]
    kinds = [*sorted({key.split(":")[0] for key in both.index}), ALL]
    return pd.DataFrame([_change(both, kind) for kind in kinds])


def _change(both: pd.DataFrame, kind: str) -> dict[str, object]:
    mine = both[[kind in (ALL, key.split(":")[0]) for key in both.index]]
    tasks = np.array([key.split(":")[1] for key in mine.index])

    def difference(name: str) -> Interval:
        return mean_interval((mine[name, "last"] - mine[name, "first"]).to_numpy(), tasks)

    visits = " and ".join(number(float(mine["step", which].median()), ".0f") for which in ("first", "last"))
    row: dict[str, object] = {"scaffold": kind, "slots": len(mine), "visits": visits}
    row |= {name: difference(name) for name in ("correct", *_DIVERSITY)}
    return row | {"speedup": _exponential(difference("log"))}


def _points(value: float) -> str:
    return number(100 * value, "+.0f")


CHANGE_COLUMNS = {
    "scaffold": Column("scaffold"),
    "slots": Column("pairs", "d"),
    "visits": Column("at steps (medians)"),
    "correct": Column("correct, points [95%]", _points),
    "speedup": Column("speedup, ratio [95%]", ".2f"),
    "distinct": Column("distinct candidates [95%]", "+.1f"),
    "distinct_correct": Column("distinct correct [95%]", "+.1f"),
    "entropy": Column("entropy, nats [95%]", "+.2f"),
}


def pick(frame: pd.DataFrame, scaffold: str) -> pd.Series:
    """The row of ``frame`` for a scaffold."""
    return frame[frame["scaffold"] == scaffold].iloc[0]
