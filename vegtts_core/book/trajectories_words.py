"""The sentences of chapter 5.3 that depend on the data: what a trajectory, its peak or its diversity allows to say.

Pure functions of the tables of ``trajectories``, ``trajectories_curse`` and ``trajectories_control``. "Cannot tell" is
an answer. They compute no statistics beyond what a sentence needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from vegtts_core.book import adapting, published
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import points, signed
from vegtts_core.book.trajectories import PAPER, Source, count_gap, paper, same_tasks
from vegtts_core.book.trajectories_curse import chance_within, early
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval


def facts(runs: Mapping[str, Run]) -> dict[str, str]:
    """Numbers and sentences that the chapter's prose holds, by name."""
    table = published.table("5.3-trajectory")
    source = paper()
    tasks = source.trajectory().tasks
    whole = {int(str(step)): same_tasks(part) for step, part in tasks.groupby("step")}
    within, moving, p = early()
    alone = published.table("5.3-isolated")
    best = int(table["fast_1"].to_numpy().argmax())
    return adapting.run_facts(runs) | {
        "peak-step": str(best),
        "peak": number(float(table["fast_1"].iloc[best]), ".1%"),
        "after": number(float(table["fast_1"].iloc[best + 1]), ".1%"),
        "end": number(float(table["fast_1"].iloc[-1]), ".1%"),
        "end-step": str(len(table) - 1),
        "gap-rollouts": str(count_gap(source, best, len(table) - 1)),
        "per-step": str(int(tasks.loc[tasks["step"] == 0, "samples"].sum())),
        "peak-interval": number(whole[best], ".1%"),
        "start-interval": number(whole[0], ".1%"),
        "chance": number(chance_within(len(table) - 1), ".0%"),
        "chance-steps": str(len(table)),
        "claimed": f"{int((alone['boa_step'] <= 2).sum())} of {len(alone)}",
        "early": str(within),
        "moving": str(moving),
        "early-p": number(p, ".2f"),
        "step-8": number(float(published.value("5.2/ttt-boa-step-8/fast_1")), ".1%"),
        "three": number(float(published.value("headline/ttt-best-3-seeds/value")), ".1%"),
        "std": number(float(published.value("headline/ttt-boa-std/value")), ".1%"),
        "oracle": number(float(published.value("headline/ttt-per-task-oracle/value")), ".1%"),
        "rate-peak": number(float(published.value("6.4-rates/1e-6/fast_1")), ".1%"),
        "rate-base": number(float(published.value("6.4-rates/3e-7/fast_1")), ".1%"),
        "step-0": number(float(published.value("5.3-trajectory/0/fast_1")), ".1%"),
        "per-sample": number(float(published.value("4.4/1/best_of_n_fast_1")), ".1%"),
        "task-14-last": number(float(published.value("5.3-trajectory/5/task_14")), ".1%"),
    }


def pp(value: float, fmt: str = "+.1f") -> str:
    """A difference of shares in percentage points, signed: ``+5.0 points``."""
    return number(value) if isnan(value) else f"{signed(100 * value, fmt)} points"


def peaks_text(worth: pd.DataFrame) -> str:
    """Where each trajectory is best: ``seed 42: step 1 (16.9%, last step 14.0%)``."""
    rows = worth.to_dict("records")
    return "; ".join(
        f"{row['source']}: step {row['step']} of {row['last_step']} ({number(row['naive'], '.1%')}, last step "
        f"{number(row['last'], '.1%')})"
        for row in rows
    )


def peaks_verdict(worth: pd.DataFrame, change: Interval) -> str:
    """Whether the runs are best at step 1 or 2 more often than chance, and whether the whole trajectory rises or falls.

    ``worth``: `trajectories_curse.curse` of the runs; ``change``: fast_1 at the last step minus at step 0.
    """
    if worth["naive"].max() <= 0:
        return "No rollout of any step is fast here: there is no peak to speak of."
    within = int(worth["step"].isin((1, 2)).sum())
    chance = chance_within(float(worth["last_step"].iloc[0]))
    text = (
        f"{within} of {plural(len(worth), 'run')} are best at step 1 or 2; of equally good checkpoints "
        f"{number(chance, '.0%')} would be. From step 0 to the last step fast_1 "
    )
    return f"{text}{_change(change)}."


def _change(change: Interval) -> str:
    value = points(change)
    if isnan(change.low):
        return f"changes by {value}"
    if change.low > 0:
        return f"rises by {value}"
    if change.high < 0:
        return f"falls by {value}"
    return f"changes by {value}, which includes 0"


def curse_text(worth: pd.DataFrame) -> str:
    """Reported and held-out gain of the best step, mean over trajectories."""
    return (
        f"Best step over step 0: {pp(float(worth['gain'].mean()))} as reported, "
        f"{pp(float(worth['held_gain'].mean()))} on "
        f"rollouts that did not choose it; over the last step, on those, {pp(float(worth['held_drop'].mean()))}"
        + (f" (means of {len(worth)})." if len(worth) > 1 else ".")
    )


def curse_verdict(worth: pd.DataFrame) -> str:
    """How much of the gain of the best step is the luck of its own rollouts."""
    gain, held = float(worth["gain"].mean()), float(worth["held_gain"].mean())
    again = number(float(worth["chosen"].mean()), ".0%")
    if gain <= 0:
        return "Here step 0 is the best step of every run: there is no gain that could be luck."
    if held <= 0:
        lead = "Here nothing of the reported gain is left on rollouts that did not choose the step"
    else:
        lead = (
            f"Here {number(held / gain, '.0%')} of the reported gain is left on rollouts that did not choose the step"
        )
    return f"{lead}; redrawn rollouts of the same checkpoints choose the same step {again} of the time."


def oracle_text(row: Mapping[str, Any]) -> str:
    """One row of `trajectories_curse.oracles` as text."""
    shares = [number(row[name], ".1%") for name in ("oracle", "one", "half_oracle", "half_one")]
    return (
        f"{shares[0]} with a step per task, {shares[1]} with one for all ({pp(row['gap'])}); on the other half "
        f"{shares[2]} and {shares[3]} ({pp(row['half_gap'])})"
    )


def oracle_verdict(table: pd.DataFrame) -> str:
    """Whether a step per task is better than one for all on held-out rollouts, here."""
    ours = table[table["source"] != PAPER]
    better = int((ours["half_gap"] > 0).sum())
    return (
        f"Held out, a step per task is better in {better} of {plural(len(ours), 'run')} here, by "
        f"{pp(float(ours['half_gap'].mean()))} on average. A maximum over steps for every task is the most optimistic "
        "number of all; it is a bound, not a method."
    )


def isolated_text(table: pd.DataFrame) -> str:
    """Where our isolated runs are best."""
    ours = table[(table["side"] == "here")]
    if ours.empty:
        return "no isolated run"
    return "; ".join(
        f"{row['task']}: step {row['best']} of {row['last_step']} ({number(row['naive'], '.0%')})"
        for row in ours.to_dict("records")
    )


def isolated_verdict(table: pd.DataFrame) -> str:
    """How many isolated runs move at all, and what their best steps keep on the other half."""
    ours = table[table["side"] == "here"]
    steps = [name for name in table.columns if name.startswith("step_")]
    moving = ours[ours[steps].nunique(axis=1) > 1]
    if moving.empty:
        return "Here no isolated run has two steps that differ: nothing peaks and nothing falls."
    within = int((moving["best"] <= 2).sum())
    return (
        f"Of {plural(len(moving), 'task')} here whose steps differ at all, {within} are best within two steps. On the "
        f"other half, best minus last step is {pp(float(moving['held_drop'].mean()))} on average: "
        + ("something is lost after the peak." if moving["held_drop"].mean() > 0 else "nothing is lost after the peak.")
    )


def rates_text(worth: pd.DataFrame) -> str:
    """What each of our learning rates gives."""
    return "; ".join(
        f"{row['source'].removeprefix('rate ')}: best at step {row['step']}, {number(row['naive'], '.1%')} "
        f"({pp(row['held_gain'])} over step 0 on the other half)"
        for row in worth.to_dict("records")
    )


def rates_verdict(worth: pd.DataFrame) -> str:
    """Whether over-sharpening (a fall after the peak, held out) is seen at every rate."""
    falls = worth[worth["held_drop"] > 0]
    if len(worth) < 2:
        return "One rate is no sweep."
    names = ", ".join(str(name).removeprefix("rate ") for name in falls["source"])
    found = f"at {names}" if len(falls) else "at none"
    return (
        f"A fall after the peak that rollouts which did not choose it confirm (any size) is seen {found} of "
        f"{len(worth)} rates; one run each, so seeds and rates cannot be told apart."
    )


def diversity_text(changes: pd.DataFrame) -> str:
    """The change of each measure, with its interval."""
    return "; ".join(f"{row['measure']} {number(row['change'], '+.2f')}" for row in changes.to_dict("records"))


def diversity_verdict(changes: pd.DataFrame) -> str:
    """Which measures say that diversity fell."""
    less = [str(name) for name in changes.loc[changes["less"], "measure"]]
    more = [str(name) for name in changes.loc[changes["more"], "measure"]]
    if not less and not more:
        return f"None of {len(changes)} measures changes beyond its interval: no collapse can be seen, nor excluded."
    parts = []
    if less:
        parts.append(f"less diverse by {len(less)} of {len(changes)} measures ({', '.join(less)})")
    if more:
        parts.append(f"more diverse by {len(more)} ({', '.join(more)})")
    return f"From the first step to the last, rollouts become {', and '.join(parts)}; the others' intervals include 0."


def control_text(table: pd.DataFrame, rollouts: int) -> str:
    """Both methods both ways at ``rollouts`` per task, from `trajectories_control.control`."""
    rows = table[(table["rollouts"] == str(rollouts)) & table["method"].str.startswith("here")].to_dict("records")
    if not rows:
        return "no two steps to compare"
    parts = []
    for row in rows:
        solved = f"{row['task']} of tasks solved" if isinstance(row["task"], str) else "tasks solved unknown"
        parts.append(f"{row['method'].removeprefix('here: ')}: {row['sample']} of rollouts fast, {solved}")
    return f"At {rollouts} rollouts per task. {'; '.join(parts)}."


def control_verdict(gap: Interval, rate: Interval) -> str:
    """At equal rollouts: tasks solved by adaptation minus search; ``rate``: change of fast_1 from step 0 to step 1."""
    if isnan(gap.estimate):
        head = "With too few seeds for a search of two steps' size, tasks solved cannot be compared at equal rollouts."
    elif isnan(gap.low):
        head = f"At two steps' rollouts adaptation solves {points(gap)} of tasks more than search."
    elif gap.low > 0:
        head = f"At two steps' rollouts adaptation solves more tasks than search by the same policy ({points(gap)})."
    elif gap.high < 0:
        head = f"At two steps' rollouts search solves more tasks than adaptation by the same policy ({points(gap)})."
    else:
        head = f"At two steps' rollouts neither is seen to solve more tasks ({points(gap)})."
    return f"{head} Per rollout, from step 0 to step 1, fast_1 {_change(rate)}."


def density_verdict(table: pd.DataFrame, varied: bool) -> str:
    """What the runs can say of the Reward Compression Principle."""
    if not varied:
        return "No family of runs here varies the density of the reward, so the principle is not tested."
    cut = int((table["step"] == table["last_step"]).sum())
    return (
        f"{plural(len(table), 'run')} of {table['run'].nunique()} kinds; in {cut} the best step is the last one, which "
        "says only that the run was too short."
    )


def stops_text(table: pd.DataFrame, patience: int) -> str:
    """Early stopping over several families, in one sentence."""
    same = int((table[f"lost_{patience}"] == 0).sum())
    return (
        f"P = {patience}: as good as the argmax in {same} of {len(table)}, "
        f"{number(100 * float(table[f'lost_{patience}'].mean()), '.1f')} points lost and "
        f"{number(float(table[f'saved_{patience}'].mean()), '.1f')} steps saved on average."
    )


def base_gap(source: Source) -> str:
    """The two published values of the unadapted policy, as a difference with its size in standard errors."""
    n = int(source.trajectory().tasks.query("step == 0")["samples"].sum())
    one, two = (float(published.value(path)) for path in ("5.3-trajectory/0/fast_1", "6.4-rates/3e-7/fast_1"))
    share = (one + two) / 2
    error = (2 * share * (1 - share) / n) ** 0.5
    return f"{pp(one - two).lstrip('+')} apart, {number((one - two) / error, '.1f')} standard errors or more"


def rate_gap(source: Source) -> str:
    """The sweep's peak over step 0 in rollouts of a step and in standard errors at most."""
    n = int(source.trajectory().tasks.query("step == 0")["samples"].sum())
    one, two = (float(published.value(path)) for path in ("6.4-rates/1e-6/fast_1", "5.3-trajectory/0/fast_1"))
    share = (one + two) / 2
    error = (2 * share * (1 - share) / n) ** 0.5
    rollouts = f"{round(one * n) - round(two * n)} of {n} rollouts"
    return f"{rollouts}, at least {number((one - two) / error, '.1f')} standard errors"
