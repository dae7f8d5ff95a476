"""The sentences of chapter 5.2 that depend on the data: what a difference, a correlation or a quartile allows to say.

Pure functions of numbers, so that a chapter run on other data says what those data say. "Cannot tell" is an answer. It
computes no statistics beyond what a sentence needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from math import isnan

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book.prose import number
from vegtts_core.selection import Comparison
from vegtts_core.statistics import Interval

ENOUGH_TASKS = 6
"""Fewest tasks with which a two-sided sign test over tasks can give p < 0.05."""


class Finding(StrEnum):
    """What an interval says of a difference."""

    MORE = "more"
    """All of it lies above 0."""
    LESS = "less"
    """All of it lies below 0."""
    EQUAL = "equal"
    """The two did not differ anywhere."""
    OPEN = "open"
    """It includes 0."""
    UNKNOWN = "unknown"
    """There is no interval, or no estimate."""


def finding(difference: Interval) -> Finding:
    """The finding of an interval for a difference."""
    values = (difference.estimate, difference.low, difference.high)
    if any(isnan(v) for v in values):
        return Finding.UNKNOWN
    if all(abs(v) < 1e-12 for v in values):
        return Finding.EQUAL
    if difference.low > 1e-12:
        return Finding.MORE
    return Finding.LESS if difference.high < -1e-12 else Finding.OPEN


def signed(value: float, fmt: str = "+.0f") -> str:
    """A number with its sign; what rounds to 0 has none."""
    text = number(value, fmt)
    return text.lstrip("+−") if not any(digit in text for digit in "123456789") else text


def points(difference: Interval) -> str:
    """A difference of shares in percentage points: ``+30 points [−5, +60]``."""
    if isnan(difference.estimate):
        return number(difference.estimate)
    scaled = [100 * v for v in (difference.estimate, difference.low, difference.high)]
    if isnan(scaled[1]):
        return f"{signed(scaled[0])} points (no interval)"
    if scaled[2] - scaled[1] < 1e-9:
        # The bootstrap of equal numbers has no width; printing it as bounds would look like certainty.
        return f"{signed(scaled[0])} points in every task"
    return f"{signed(scaled[0])} points [{signed(scaled[1])}, {signed(scaled[2])}]"


def per_protocol(texts: Mapping[str, str]) -> str:
    """``Published protocol: a. Sound protocol: b.``"""
    return " ".join(f"{name.capitalize()} protocol: {text}." for name, text in texts.items())


def few_tasks(tasks: int) -> str:
    """A caution where the tasks are too few for any test over tasks; else empty."""
    if tasks >= ENOUGH_TASKS or tasks < 1:
        return ""
    noun = "task" if tasks == 1 else "tasks"
    least = min(1.0, 2 * 0.5**tasks)
    return f" With {tasks} {noun}, a two-sided sign test over tasks cannot give less than p = {least:.3g}."


def lead(first: str, second: str, differences: Mapping[str, Interval], contested: Mapping[str, int]) -> str:
    """What follows for "``first`` is fast more often than ``second``", sound protocol last in both mappings.

    ``contested``: groups with both a fast and another correct sample, the only ones in which the two could differ.
    """
    name, difference = list(differences.items())[-1]
    found = {key: finding(value) for key, value in differences.items()}
    if contested[name] == 0:
        text = (
            f"Not tested here: under the {name} protocol no group holds both a fast and another correct sample, so "
            "every rule that picks a correct one succeeds alike."
        )
    elif found[name] is Finding.UNKNOWN:
        text = "Not decided: one task or none allows no interval over tasks."
    elif found[name] is Finding.EQUAL:
        text = f"Under the {name} protocol {first} and {second} succeeded equally in every group."
    elif found[name] is Finding.OPEN:
        text = f"Not decided: under the {name} protocol the interval of {first} minus {second} includes 0."
    else:
        word = "more" if found[name] is Finding.MORE else "less"
        text = f"Under the {name} protocol {first} is fast {word} often than {second}."
    if len(set(found.values())) > 1 and set(found.values()) & {Finding.MORE, Finding.LESS}:
        others = "; ".join(f"{key}: {_SHORT[value]}" for key, value in found.items())
        text += f" The protocols do not agree ({others})."
    decidable = contested[name] > 0 and found[name] in (Finding.OPEN, Finding.MORE, Finding.LESS)
    return text + (few_tasks(difference.n) if decidable else "")


_SHORT = {
    Finding.MORE: "more often",
    Finding.LESS: "less often",
    Finding.EQUAL: "no difference",
    Finding.OPEN: "cannot tell",
    Finding.UNKNOWN: "no interval",
}


def strength_verdict(comparison: Comparison, tasks: int) -> str:
    """What the tests on the run's own pairs could and did find, under the sound protocol."""
    sign, ranks = comparison.sign, comparison.wilcoxon
    if ranks.n == 0 and sign.n == 0:
        return "Here the two rules chose equally good samples in every group: nothing differs, nothing can be tested."
    parts = []
    for name, test in (("the sign test on success", sign), ("Wilcoxon's test on speedups", ranks)):
        if test.n == 0:
            parts.append(f"{name} has no differing pair")
        elif test.smallest_p > 0.05:
            parts.append(f"{name} could not have found anything ({test.n} differing pairs)")
        else:
            word = "rejects" if test.p_value < 0.05 else "does not reject"
            parts.append(f"{name} {word} equality at 0.05 ({test.n} differing pairs)")
    text = "; ".join(parts)
    caution = "Both count seeds of one task as independent, which they are not."
    return f"{text[0].upper()}{text[1:]}. {caution}{few_tasks(tasks)}"


def steadiness(stds: Mapping[str, float], seeds: int) -> str:
    """Standard deviations over seeds of some strategies' success, ``surprisal-guided 0.0%, ...``."""
    if seeds < 2:
        return "one seed: no standard deviation"
    return ", ".join(f"{name} {number(value, '.1%')}" for name, value in stds.items())


def steadiness_verdict(seeds: int) -> str:
    """What standard deviations over so many seeds are worth."""
    if seeds < 2:
        return "One seed has no spread: nothing can be said of steadiness here."
    numbers = f"Here each is computed from {seeds} numbers, one per seed"
    if seeds < ENOUGH_TASKS:
        return f"{numbers}: it tells which numbers came up, not how steady a rule is."
    return f"{numbers}, over the same tasks: it holds no uncertainty about tasks."


def chance_equal(share: float, tasks: int) -> float:
    """Probability that two seeds succeed on equally many of ``tasks``, each with chance ``share``."""
    return float((stats.binom.pmf(np.arange(tasks + 1), tasks, share) ** 2).sum())


def correlation_text(table: pd.DataFrame) -> str:
    """``selecting_tests.correlations`` in a line: pooled, with length held fixed, within tasks."""
    pooled, partial, _, within = (number(round(float(rho), 2) + 0.0, ".2f") for rho in table["rho"])
    return f"pooled ρ = {pooled}, with length held fixed {partial}, within tasks {within}"


def correlation_verdict(pooled: pd.Series, within: pd.Series, distinct: pd.Series) -> str:
    """What surprisal and speedup have to do with each other, pooled and within tasks.

    Rows of ``selecting_tests.correlations``; ``distinct`` is within tasks with copies counted once.
    """
    if isnan(within["rho"]):
        return "In no task do both surprisal and speedup vary among the correct samples: there is nothing to correlate."
    found = [_direction(row) for row in (within, distinct)]
    text = f"Within tasks and with copies counted as samples, {found[0]}"
    if isnan(distinct["rho"]):
        text += "; with copies counted once too few candidates are left to say."
    else:
        same = "the same holds" if found[0] == found[1] else found[1]
        text += f"; with copies counted once (n = {int(distinct['n'])} candidates), {same}."
    if pooled["rho"] * within["rho"] < 0:
        text += " Pooled, ρ has the other sign: it compares tasks, not the samples of one."
    return text


def _direction(row: pd.Series) -> str:
    if isnan(row["p_within_task"]) or row["p_within_task"] >= 0.05:
        return "surprisal and speedup are not related beyond chance"
    text = f"more surprising samples are {'faster' if row['rho'] > 0 else 'slower'}"
    if isnan(row["low"]):
        return f"{text} (one task)"
    return text if row["low"] * row["high"] > 0 else f"{text} on these tasks, while the interval over tasks includes 0"


def sign_verdict(here: Mapping[str, tuple[Interval, Interval]]) -> str:
    """Whether counting failures as speedup 0 changes the sign; per protocol (over correct samples, over all)."""
    correct, everything = list(here.values())[-1]
    if isnan(correct.estimate) or isnan(everything.estimate):
        return "Here one of the two cannot be computed: something is constant."
    change = "changes the sign" if correct.estimate * everything.estimate < 0 else "does not change the sign"
    shift = "lowers" if everything.estimate < correct.estimate else "raises"
    return f"Here, counting failures as speedup 0 {shift} ρ and {change} (sound protocol)."


def quartile_verdict(table: pd.DataFrame) -> str:
    """Which quartile is fast most and least often, and whether the outer two can be told apart."""
    fast = table["fast"].to_numpy(dtype=float)
    if np.isnan(fast).any():
        return "There are too few correct samples for quartiles."
    if np.ptp(fast) < 1e-12:
        return f"All four quartiles are fast equally often ({number(float(fast[0]), '.0%')})."
    names = np.array([str(q).split()[0] for q in table["quartile"]])
    most, least = (" and ".join(names[np.abs(fast - end) < 5e-4]) for end in (fast.max(), fast.min()))
    first, last = table.iloc[0], table.iloc[3]
    text = (
        f"Fast most often: {most} ({number(float(fast.max()), '.0%')}); "
        f"least often: {least} ({number(float(fast.min()), '.0%')}). "
    )
    if isnan(first["low"]) or isnan(last["low"]):
        return f"{text}One task allows no interval."
    apart = first["low"] > last["high"] or last["low"] > first["high"]
    return f"{text}The intervals of Q1 and Q4 {'do not overlap' if apart else 'overlap'}."


def winner_text(row: Mapping[str, object]) -> str:
    """One row of ``winners`` as text: ``1.12× when chosen, 1.02× when read again``."""
    if not row["groups"]:
        return "no group has two candidates to choose from"
    return f"{number(row['chosen'], '{:.3f}×')} on the clock that chose, {number(row['again'], '{:.3f}×')} read again"


def winner_verdict(shrinkage: Interval) -> str:
    """What the ratio of read-again to chosen speedup says of the published choice."""
    if isnan(shrinkage.estimate):
        return "No group has two candidates that both protocols accept: nothing was selected by a clock here."
    if isnan(shrinkage.low):
        return (
            f"Read again, the winners measure {number(shrinkage.estimate, '{:.3f}×')} of what chose them; no interval."
        )
    if shrinkage.high - shrinkage.low < 1e-9 and abs(shrinkage.estimate - 1) < 1e-9:
        return "Read again, the winners measure the same: no error of the clock can be seen in the choice."
    value = f"{number(shrinkage, '.3f')} of what chose them ({shrinkage.n} tasks)"
    if shrinkage.high < 1:
        return f"Read again, the winners measure {value}: the choice was flattered by its own clock."
    if shrinkage.low > 1:
        return f"Read again, the winners measure {value}: the second clock reads higher, a bias and no curse."
    return f"Read again, the winners measure {value}: a curse cannot be told from none."
