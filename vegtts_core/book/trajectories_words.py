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


LEVEL = 0.05
"""Below it a p-value of "all steps are equal" counts as a difference. Several trajectories make several chances."""


def pp(value: float, fmt: str = "+.1f") -> str:
    """A difference of shares in percentage points, signed: ``+5.0 points``."""
    return number(value) if isnan(value) else f"{signed(100 * value, fmt)} points"


def peaks_text(worth: pd.DataFrame) -> str:
    """Where each trajectory is best: ``seed 42: step 1 of 5 (12 of 80 rollouts fast, last step 9)``."""
    return "; ".join(
        f"{row['source']}: step {row['step']} of {row['last_step']} ({row['fast']} of {row['rollouts']} rollouts "
        f"fast, last step {row['last_fast']})"
        for row in worth.to_dict("records")
    )


def peaks_verdict(worth: pd.DataFrame, change: Interval, correct: Interval) -> str:
    """Whether the runs are best at step 1 or 2 more often than chance, and whether the whole trajectory rises or falls.

    ``worth``: `trajectories_curse.curse` of the runs; ``change``, ``correct``: fast_1 and correctness at the last step
    minus at step 0.
    """
    end = f"From step 0 to the last step the share of correct rollouts {changes(correct)}"
    moving = worth[~worth["flat"]]
    if moving.empty:
        return f"No two steps of a run differ in fast_1 here: there is no peak to speak of. {end}."
    within, apart = int(moving["step"].isin((1, 2)).sum()), int((moving["equal"] < LEVEL).sum())
    chance = number(chance_within(float(moving["last_step"].iloc[0])), ".0%")
    return (
        f"Of {plural(len(moving), 'run')} whose steps differ at all, {within} {'is' if within == 1 else 'are'} best "
        f"at step 1 or 2, where {chance} of equally good checkpoints would be; in {apart} the steps differ more than "
        f"equal checkpoints (p < {LEVEL}). {end}, fast_1 {changes(change)}."
    )


def changes(change: Interval) -> str:
    """``rises by +4 points [+1, +7]``, ``falls by …``, or that it cannot be told."""
    value = points(change)
    if isnan(change.low):
        return f"changes by {value}"
    if change.low > 0:
        return f"rises by {value}"
    if change.high < 0:
        return f"falls by {value}"
    return f"changes by {value}, which includes 0"


def curse_text(worth: pd.DataFrame) -> str:
    """Reported and held-out gain of the best step, mean over the trajectories whose steps differ."""
    moving = worth[~worth["flat"]]
    if moving.empty:
        return "All steps of every trajectory score alike."
    gain, held, drop = (pp(float(moving[name].mean())) for name in ("gain", "held_gain", "held_drop"))
    means = f" (means of {len(moving)} whose steps differ)" if len(worth) > 1 else ""
    return (
        f"Best step over step 0: {gain} as reported, {held} on rollouts that did not choose it; over the last step, on "
        f"those, {drop}{means}."
    )


def curse_verdict(worth: pd.DataFrame) -> str:
    """How much of the gain of the best step is the luck of its own rollouts."""
    moving = worth[~worth["flat"]]
    gain, held = float(moving["gain"].mean()), float(moving["held_gain"].mean())
    if moving.empty or gain <= 0:
        return "Here no run has a step that is better than step 0: there is no gain that could be luck."
    again = number(float(moving["chosen"].mean()), ".0%")
    share = number(held / gain, ".0%")
    left = f"{share} of the reported gain" if held > 0 else "nothing of the reported gain"
    return (
        f"Here {left} is left on rollouts that did not choose the step; redrawn rollouts of the same checkpoints "
        f"choose the same step {again} of the time."
    )


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
