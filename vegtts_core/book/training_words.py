"""The sentences of chapter 3.2 that depend on the data: what a change or a drowned task allows to say.

Pure functions of tables made by ``training`` and ``training_signal``, so that a chapter run on
other data says what those data say. "Cannot tell" is an answer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book import published, setting
from vegtts_core.book.measurement import of
from vegtts_core.book.prose import listed, number
from vegtts_core.book.selecting_words import Finding, finding, points
from vegtts_core.book.training import ALL, OuterLoop, papers_checkpoints, papers_rollouts, pick
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, wilson

SIGNIFICANT = 0.05


def facts(loop: OuterLoop) -> dict[str, str]:
    """Facts about the runs that the chapter's sentences mention, by name."""
    run = loop.rlvr
    parameters = run.manifest["parameters"]
    update, sizes = parameters["update"], run.samples.groupby("step").size()
    slots = run.samples[["scaffold", "task"]].drop_duplicates()
    base = setting.run_facts(run)
    trained = str(run.manifest["policy"]["device"])
    return {
        **{name: base[name] for name in ("policy", "rollouts", "machine", "temperature", "k")},
        "trained-on": "a CPU" if trained == "cpu" else trained.removeprefix("cuda (").rstrip(")"),
        "seed": str(parameters["seed"]),
        "steps": str(parameters["steps"]),
        "tasks": str(slots["task"].nunique()),
        "slots": str(len(slots)),
        "scaffolds": listed(sorted(slots["scaffold"].unique())),
        "per-step": str(int(sizes.iloc[0])),
        "rate": f"{update['learning_rate']:.2g}".replace("e-0", "e-"),
        "reward": str(parameters["rewards"]["measure"]),
        "scope": "each group" if parameters["advantages"]["scope"] == "group" else "the whole batch",
        "tokens": f"{run.compute['student_tokens'] / 1e6:.2f} million",
        "minutes": number(run.compute["wall_seconds"] / 60, ".0f"),
        "warm-none": "" if loop.warm is not None else "This run had none.",
        "smaller": _smaller(run),
    }


def _smaller(run: Run) -> str:
    """What the run has less of than the paper's, in one sentence."""
    parameters, table = run.manifest["parameters"], published.table("A")["value"]
    steps = int(papers_checkpoints()["step"].max())
    less = []
    if parameters["steps"] < steps:
        less.append(f"{of(parameters['steps'], 'step')} instead of {steps}")
    tasks = run.samples["task"].nunique()
    if tasks < int(table["rlvr.training_tasks"]):
        less.append(f"{of(tasks, 'task')} instead of {table['rlvr.training_tasks']}")
    if run.samples.groupby("step").size().min() < papers_rollouts():
        less.append(f"{run.samples.groupby('step').size().min()} rollouts per step instead of {papers_rollouts()}")
    if not less:
        return "It has as many steps, tasks and rollouts as the paper's, of a far smaller policy."
    return f"It is far smaller than the paper's, apart from the policy: {listed(less)}."


def paper_facts() -> dict[str, str]:
    """What appendix B's percentages are, and what they can tell apart."""
    table, found = published.table("A")["value"], papers_checkpoints()
    first, before, last = found.iloc[0], found.iloc[-2], found.iloc[-1]
    n = papers_rollouts()
    right, judged = evaluated()
    elsewhere = wilson(right, judged)
    return {
        "paper-tasks": str(table["rlvr.training_tasks"]),
        "paper-batch": str(table["rlvr.batch_size"]),
        "paper-group": str(table["rlvr.group_size"]),
        "paper-n": str(n),
        "paper-grid": number((n + 1) / 1001, ".1%"),
        "paper-steps": str(int(last["step"])),
        "paper-epoch": str(int(table["rlvr.training_tasks"]) // int(table["rlvr.batch_size"])),
        "paper-share": number(last["correct"].estimate, ".1%"),
        "paper-counts": ", ".join(str(right) for right in found["right"]),
        "paper-bounds": f"{last['correct'].low:.0%} to {last['correct'].high:.0%}",
        "paper-speedup": number(last["speedup"], "{:.2f}×"),
        "paper-p-first": number(exact(first["right"], last["right"], n), ".2f"),
        "paper-p-before": number(exact(before["right"], last["right"], n), ".2f"),
        "paper-evaluated": f"{right} of {judged}",
        "paper-evaluated-share": number(elsewhere.estimate, ".0%"),
        "paper-evaluated-bounds": f"{elsewhere.low:.0%} to {elsewhere.high:.0%}",
    }


def exact(first: int, second: int, n: int) -> float:
    """Two-sided p of Fisher's exact test for two counts of ``n``, rollouts taken as independent."""
    return float(stats.fisher_exact([[first, n - first], [second, n - second]]).pvalue)  # type: ignore[attr-defined]


def evaluated() -> tuple[int, int]:
    """Correct and all Best-of-N rollouts of the paper's base policy on its evaluation tasks (section 5.2)."""
    judged = (
        published.value("headline/seeds-best-of-n/value"),
        published.table("A").at["best_of_n.total_rollouts", "value"],
    )
    return round(float(published.value("5.2-length/raw/n"))), round(float(judged[0]) * float(judged[1]))


# -- progression -------------------------------------------------------------------------------------------------------


def last_here(progress: pd.DataFrame) -> str:
    """The last step's rollouts as appendix B would print them."""
    row = progress[progress["scaffold"] == ALL].sort_values("step").iloc[-1]
    share, speed = number(row["correct"], ".0%"), number(row["mean_speedup"], "{:.2f}×")
    return f"Step {row['step']}: {row['right']} of {row['rollouts']} correct, {share}, mean speedup {speed}."


def change_here(changes: pd.DataFrame) -> str:
    """Each slot against itself: correctness and speedup, all scaffolds."""
    row = pick(changes, ALL)
    if not row["slots"]:
        return "No task was visited in two steps."
    speed = number(row["speedup"], ".2f")
    pairs = f"{row['slots']} pairs of task and scaffold, last visit against first"
    return f"{pairs}: correctness {points(row['correct'])}, speedup × {speed}."


def change_verdict(changes: pd.DataFrame) -> str:
    """What training did to the same tasks, per scaffold."""
    parts = []
    for row in changes[changes["scaffold"] != ALL].to_dict("records"):
        right, speed = finding(row["correct"]), finding(_log(row["speedup"]))
        parts.append(f"`{row['scaffold']}`: {_RIGHT[right]}, {_SPEED[speed]}")
    text = "; ".join(parts)
    return f"On the same tasks, {text}." if parts else "Not decided: no task was visited twice."


def _log(ratio: Interval) -> Interval:
    return Interval(*(float(np.log(v)) for v in (ratio.estimate, ratio.low, ratio.high)), ratio.n)


_RIGHT = {
    Finding.MORE: "correct more often than at first",
    Finding.LESS: "correct less often than at first",
    Finding.EQUAL: "correct exactly as often",
    Finding.OPEN: "no change in correctness that the interval could tell from none",
    Finding.UNKNOWN: "too few tasks for an interval of correctness",
}

_SPEED = {
    Finding.MORE: "faster when correct",
    Finding.LESS: "slower when correct",
    Finding.EQUAL: "exactly as fast",
    Finding.OPEN: "no change in speed that could be told from none",
    Finding.UNKNOWN: "too few tasks for an interval of speed",
}


def order_verdict() -> str:
    """Whether appendix B's counts put its checkpoints in an order."""
    found, n = papers_checkpoints(), papers_rollouts()
    p = exact(found.iloc[0]["right"], found.iloc[-1]["right"], n)
    text = "do not tell even the first checkpoint from the last" if p > SIGNIFICANT else "tell the first from the last"
    p_text = f"p = {number(p, '.2f')} with rollouts as independent"
    return f"Counts of {n} {text} ({p_text}), and the one in use is the highest of four draws."


# -- advantages --------------------------------------------------------------------------------------------------------


def drowned_text(row: pd.Series) -> str:
    """``12 of 80 (15% [8%, 24%])``."""
    if not row["contrasts"]:
        return "none: no group had rewards that differ"
    return f"{row['drowned']} of {row['contrasts']} ({number(row['drowned_share'], '.0%')})"


def drowned_here(summary: pd.DataFrame) -> str:
    """Groups whose best rollout is pushed down, under both rewards."""
    rows = summary[summary["scope"] == "batch"]
    parts = [f"{row['measure']}: {drowned_text(row)}" for _, row in rows.iterrows()]
    return "Groups whose fastest rollout the batch would have pushed down. " + "; ".join(parts).capitalize() + "."


def drowned_verdict(summary: pd.DataFrame) -> str:
    """Which of the two rewards survives the batch's mean."""
    rows = summary[summary["scope"] == "batch"].set_index("measure")
    raw, normalised = rows.loc["raw"], rows.loc["normalised"]
    if not raw["contrasts"]:
        return "Not tested here: no group had a better and a worse rollout."
    if not raw["drowned"] and not normalised["drowned"]:
        return "On these rollouts no task would have drowned. " + _besides(normalised)
    if raw["drowned"] > normalised["drowned"]:
        text = "Tasks drown in the batch's mean of raw speedups; a baseline per task saves "
        text += "all of them." if not normalised["drowned"] else "some of them."
    else:
        text = "Tasks drown in the batch's mean, with or without a baseline per task."
    return f"{text} {_besides(normalised)}"


def _besides(row: pd.Series) -> str:
    parts = []
    if row["carried"]:
        parts.append(f"{of(row['carried'], 'group')} would have been pushed up whole, the slowest rollout too")
    if not row["moved"].startswith("0 "):
        parts.append(f"{row['moved']} groups without a contrast would have been pushed all the same")
    return f"Besides, {', and '.join(parts)}." if parts else ""


def rewards_recorded(found: pd.DataFrame, steps: pd.DataFrame) -> str:
    """Whether rewards computed again have the means that the run noted; ``found`` from ``training_signal.signals``."""
    if "reward_mean" not in steps:
        return ""
    again = found.groupby("step")["reward.own"].mean()
    gaps = (steps.set_index("step")["reward_mean"].reindex(again.index) - again).abs()
    off = gaps[gaps > 1e-9]
    if off.empty:
        return "Rewards computed again have the mean that the run noted, in every step."
    return (
        f"In {len(off)} of {len(gaps)} steps the run noted another mean reward, by up to {number(off.max(), '.2g')}: "
        "its "
        "code took a step into the baselines more than once, since corrected. Within a group the baseline divides out."
    )


def signal_facts(groups: pd.DataFrame, step: int) -> dict[str, str]:
    """The step that illustrates, and how many groups' advantages may be the clock's (``10 of 89``)."""
    return {"example": str(step), "blurred": f"{int(groups['blurred'].sum())} of {int(groups['contrast'].sum())}"}


# -- diversity ---------------------------------------------------------------------------------------------------------


def diversity_here(changes: pd.DataFrame) -> str:
    """Distinct candidates and entropy, last visit against first, per scaffold."""
    parts = [
        f"`{row['scaffold']}`: {number(row['distinct'], '+.1f')} distinct candidates, "
        f"{number(row['distinct_correct'], '+.1f')} distinct correct ones, {number(row['entropy'], '+.2f')} nats"
        for row in changes[changes["scaffold"] != ALL].to_dict("records")
    ]
    return "; ".join(parts) + "." if parts else "No task was visited in two steps."


def diversity_verdict(changes: pd.DataFrame) -> str:
    """Whether the outer loop sharpened the policy, and whether what it lost was of use."""
    found = {row["scaffold"]: row for row in changes[changes["scaffold"] != ALL].to_dict("records")}

    def where(name: str, what: Finding) -> list[str]:
        return [f"`{scaffold}`" for scaffold, row in found.items() if finding(row[name]) is what]

    parts = []
    for name, noun in (("distinct", "candidates"), ("distinct_correct", "correct candidates")):
        for what, word in ((Finding.LESS, "fewer"), (Finding.MORE, "more")):
            if where(name, what):
                parts.append(f"{word} distinct {noun} in {listed(where(name, what))}")
    if not parts:
        return "Not decided: no change in diversity that the intervals could tell from none."
    return f"On the same tasks the trained policy writes {listed(parts)}."
