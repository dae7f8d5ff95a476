"""What follows from the paper's own numbers for section 5.1, before anything is measured here.

Three checks need nothing but its tables: which rate of one draw it reports (39.8%, 53.3% and 59.2% all occur), what its
confidence interval is an interval of, and what its per-task rates during adaptation say per task, at equal K. Pure
functions of the published numbers; it knows nothing of runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.published import number as value
from vegtts_core.metrics import equivalent_k, pass_at_k
from vegtts_core.statistics import wilson
from vegtts_core.statistics.bootstrap import LEVEL

TASKS = 5
"""Tasks of a subset, and so the steps in which the paper's interval moves."""

SAMPLES = 640
"""Samples of Best-of-N on subset 1: 5 tasks, 2 seeds, K = 64."""

STEP_K = 32
"""Samples per task behind each row of the trajectory of section 5.3."""

#: What figure 3 is drawn with besides table 5.1: published rates of TTT, per sample.
LEVELS = {
    name: float(published.value(path))
    for name, path in (("ttt-best", "headline/ttt-best-seed-42/value"), ("ttt", "headline/ttt-best-3-seeds/value"))
}


def scaling() -> pd.DataFrame:
    """Table 5.1: columns k (int), pass_at_k, std, low, high."""
    table = published.table("5.1").reset_index()
    return table.assign(k=table["k"].astype(int))


def correct_share() -> float:
    """Share of Best-of-N's samples that were correct: section 5.2 counts 550 correct ones of 640."""
    return value("5.2-length/raw/n") / SAMPLES


def one_draw() -> pd.DataFrame:
    """What one sample is worth, wherever the paper says it: columns where, stated, of_all, of_correct (shares).

    Each stated rate is converted into the other by ``correct_share``. That treats samples as pooled; tasks with unequal
    correct shares blur it by a few points. Table 5.1's K = 1 appears under both readings, since the text calls it both
    *pass@1* and *random correct*.
    """
    correct = correct_share()
    curve = value("5.1/1/pass_at_k")
    quartiles = float(published.table("5.2-quartiles")["fast_1"].mean())
    rows = [
        ("section 4.4, Best-of-N", "all", value("headline/subset-1-best-of-n-per-sample/value")),
        ("section 5.3, step 0 (seed 42)", "all", value("5.3-trajectory/0/fast_1")),
        ("table 5.1, K = 1, as pass@1", "all", curve),
        ("table 5.1, K = 1, as *random correct*", "correct", curve),
        ("table 5.3, random-correct", "correct", value("5.3/random-correct/fast_1")),
        ("section 5.2, mean of the quartiles", "correct", quartiles),
    ]
    return pd.DataFrame(
        {
            "where": [where for where, _, _ in rows],
            "stated": [f"of {unit} samples" for _, unit, _ in rows],
            "of_all": [rate if unit == "all" else rate * correct for _, unit, rate in rows],
            "of_correct": [rate if unit == "correct" else rate / correct for _, unit, rate in rows],
        }
    )


def interval_of_one_draw(rate: float, tasks: int = TASKS, level: float = LEVEL) -> tuple[float, float]:
    """Percentiles of the share of ``tasks`` solved in one draw, if each is solved with probability ``rate``.

    They are multiples of 1 / ``tasks``: binomial quantiles. (Tasks of unequal rates give somewhat narrower ones.)
    """
    tail = (1 - level) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], tasks, rate) / tasks
    return float(low), float(high)


def intervals() -> pd.DataFrame:
    """Table 5.1's interval beside ``interval_of_one_draw`` of its rate: columns k, low, high, draw_low, draw_high."""
    table = scaling()
    draws = np.array([interval_of_one_draw(float(rate)) for rate in table["pass_at_k"]])
    return table[["k", "low", "high"]].assign(draw_low=draws[:, 0], draw_high=draws[:, 1])


def intervals_that_agree() -> int:
    """In how many rows of ``intervals`` both bounds agree."""
    table = intervals()
    same = np.isclose(table["low"], table["draw_low"]) & np.isclose(table["high"], table["draw_high"])
    return int(same.sum())


def step_counts(step: int) -> dict[int, int]:
    """Fast samples of 32 for each task at a step of the trajectory (seed 42), by task id."""
    row = published.table("5.3-trajectory").loc[str(step)]
    tasks = [name for name in row.index if name.startswith("task_")]
    return {int(name.removeprefix("task_")): round(float(row[name]) * STEP_K) for name in tasks}


def step_curve(step: int) -> pd.DataFrame:
    """Share of tasks with a fast sample among K, from ``step_counts``: columns k (1..32), pass_at_k."""
    counts = np.array(list(step_counts(step).values()))
    ks = np.arange(1, STEP_K + 1)
    return pd.DataFrame({"k": ks, "pass_at_k": pass_at_k(STEP_K, counts[:, None], ks[None, :]).mean(axis=0)})


def own_curves() -> pd.DataFrame:
    """Curves from the paper's own numbers, at powers of two: columns series, k, pass_at_k, low, high (NaN).

    Table 5.1; and what the trajectory's per-task rates give for the policy before adaptation and after step 1, the
    step whose budget equals Best-of-N's.
    """
    powers = [2**i for i in range(6)]
    parts = [scaling()[["k", "pass_at_k"]].assign(series="table 5.1")]
    for step, name in ((0, "before adaptation"), (1, "TTT, step 1")):
        curve = step_curve(step)
        parts.append(curve[curve["k"].isin(powers)].assign(series=name))
    return pd.concat(parts, ignore_index=True).assign(low=np.nan, high=np.nan)


def task_rates() -> dict[int, float]:
    """Per-sample fast_1 of the unadapted policy by task id, where the paper gives it.

    Subset 1: step 0 of the trajectory (seed 42, 32 samples); subset 2: Best-of-N (section 5.4).
    """
    first = {task: count / STEP_K for task, count in step_counts(0).items()}
    second = published.table("5.4-tasks")["best_of_n"]
    return first | {int(task): float(rate) for task, rate in second.items()}


def std_ratio_test() -> tuple[float, float]:
    """(ratio of TTT's standard deviation over seeds to Best-of-N's, one-sided p of the F test for it).

    Standard deviations of 3 and of 2 seeds: 2 and 1 degrees of freedom.
    """
    ratio = value("headline/ttt-boa-std/value") / value("headline/best-of-n-std/value")
    freedom = [int(value(f"headline/seeds-{name}/value")) - 1 for name in ("ttt", "best-of-n")]
    return ratio, float(stats.f.sf(ratio**2, *freedom))


def std_bounds(seeds: int, level: float = LEVEL) -> tuple[float, float]:
    """What a standard deviation of ``seeds`` normal values may have to be multiplied with, at either end."""
    tail = (1 - level) / 2
    low, high = np.sqrt((seeds - 1) / stats.chi2.ppf([1 - tail, tail], seeds - 1))
    return float(low), float(high)


def before_saturates(share: float = 0.95) -> int:
    """The fewest samples at which the unadapted policy's ``step_curve`` reaches ``share`` of its end."""
    curve = step_curve(0)
    return int(curve.loc[curve["pass_at_k"] >= share * curve["pass_at_k"].iloc[-1], "k"].iloc[0])


def adapted_is_worth(k: int = 16) -> float:
    """How many samples of the unadapted policy solve as many tasks as ``k`` of the one after step 1 (seed 42)."""
    after = step_curve(1).set_index("k")["pass_at_k"]
    return equivalent_k(step_curve(0), float(after[k])).k


def solved_by_step() -> dict[int, int]:
    """How many tasks had a fast sample among the 32 of each step of the trajectory (seed 42)."""
    steps = [int(step) for step in published.table("5.3-trajectory").index]
    return {step: sum(count > 0 for count in step_counts(step).values()) for step in steps}


def chance_bounds(step: int, k: int, level: float = LEVEL, draws: int = 20_000) -> tuple[float, float]:
    """What the counts of one step leave open of pass@``k`` of its policy on these tasks: Jeffreys posterior bounds.

    Each task's rate has the posterior Beta(c + 1/2, n - c + 1/2) of c fast samples of n = 32.
    """
    counts = np.array(list(step_counts(step).values()))
    rates = np.random.default_rng(0).beta(counts + 0.5, STEP_K - counts + 0.5, size=(draws, len(counts)))
    tail = (1 - level) / 2
    low, high = np.quantile((1 - (1 - rates) ** k).mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def adapted_bounds(level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval of TTT's mean over 3 seeds, from its published standard deviation; within [0, 1]."""
    seeds = value("headline/seeds-ttt/value")
    half = stats.t.ppf((1 + level) / 2, seeds - 1) * value("headline/ttt-boa-std/value") / np.sqrt(seeds)
    mean = value("headline/ttt-best-3-seeds/value")
    return max(0.0, mean - half), min(1.0, mean + half)


def facts() -> dict[str, str]:
    """The paper's numbers, and what follows from them, that chapter 5.1 mentions in its sentences, by name."""
    ratio, p_value = std_ratio_test()
    seeds = int(value("headline/seeds-best-of-n/value"))
    table, draws = scaling(), one_draw().set_index("where")
    before = step_curve(0).set_index("k")["pass_at_k"]
    return {
        "paper-first": number(value("5.1/1/pass_at_k"), ".1%"),
        "paper-16": number(value("5.1/16/pass_at_k"), ".1%"),
        "paper-last": number(value("5.1/64/pass_at_k"), ".0%"),
        "paper-per-sample": number(value("headline/subset-1-best-of-n-per-sample/value"), ".1%"),
        "paper-random-correct": number(value("5.3/random-correct/fast_1"), ".1%"),
        "paper-quartiles": number(float(draws.at["section 5.2, mean of the quartiles", "of_correct"]), ".1%"),
        "paper-step-0": number(value("5.3-trajectory/0/fast_1"), ".1%"),
        "paper-correct": f"{value('5.2-length/raw/n'):.0f} of {SAMPLES}",
        "paper-std": number(value("5.1/1/std"), ".1%"),
        "paper-bounds": f"[{number(value('5.1/1/low'), '.0%')}, {number(value('5.1/1/high'), '.0%')}]",
        "ttt": number(value("headline/ttt-best-3-seeds/value"), ".1%"),
        "ttt-step-8": number(value("headline/ttt-best-step-8/value"), ".1%"),
        "ttt-best": number(value("headline/ttt-best-seed-42/value"), ".1%"),
        "ttt-equal-budget": number(value("5.3-trajectory/1/fast_1"), ".1%"),
        "ttt-std": number(value("headline/ttt-boa-std/value"), ".1%"),
        "std-ratio": number(ratio, ".1f"),
        "std-p": number(p_value, ".2f"),
        "std-factors": "{:.2f} to {:.0f}".format(*std_bounds(seeds)),
        "agree": f"{intervals_that_agree()} of {len(table)}",
        "solved-low": number(wilson(TASKS, TASKS).low, ".0%"),
        "before-16": number(float(before[16]), ".1%"),
        "before-16-bounds": "{:.0%} to {:.0%}".format(*chance_bounds(0, 16)),
        "ttt-bounds": "{:.0%} to {:.0%}".format(*adapted_bounds()),
        "every-step": _every_step(),
        "ttt-difference": _points("headline/ttt-best-3-seeds/value"),
        "ttt-difference-equal": _points("5.3-trajectory/1/fast_1"),
        "before-saturates": str(before_saturates()),
        "adapted-worth": number(adapted_is_worth(), ".0f"),
    }


def _points(path: str) -> str:
    """A rate per sample minus that of Best-of-N's samples, in percentage points."""
    return number(100 * (value(path) - value("headline/subset-1-best-of-n-per-sample/value")), "+.1f")


def _every_step() -> str:
    solved = solved_by_step()
    least = min(solved.values())
    what = "every task" if least == TASKS else f"at least {least} of {TASKS} tasks"
    return f"{what} has a fast sample among the {STEP_K} of each step from {min(solved)} to {max(solved)} (seed 42)"
