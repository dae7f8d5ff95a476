"""The paper's selection rules on the study's Best-of-N runs beside the chapter's own, sound protocol (section 5.2).

It arranges what ``selection`` and ``selecting_tests`` compute, one view per run, and words what intervals allow.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core.book.prose import number
from vegtts_core.book.selecting import copies
from vegtts_core.book.selecting_tests import correlations, over_tasks, rounded
from vegtts_core.book.selecting_words import Finding, finding, points
from vegtts_core.book.tables import Column
from vegtts_core.contested import contested_difference, contested_outcomes
from vegtts_core.selection import (
    CONFIDENCE_GUIDED,
    RANDOM_CORRECT,
    SURPRISAL_GUIDED,
    Strategy,
    aggregate_strategies,
)
from vegtts_core.statistics import Effect, Interval

Views = Mapping[str, pd.DataFrame]

AGAINST = {"confidence": CONFIDENCE_GUIDED, "random": RANDOM_CORRECT}


def outcomes(found: Views) -> dict[str, pd.DataFrame]:
    """``contested_outcomes`` of every run's view."""
    return {name: contested_outcomes(view) for name, view in found.items()}


def rules(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per run and rule: fast_1 (with the wider of bootstrap and Wilson), arithmetic and geometric speedup."""
    rows = []
    for name, result in results.items():
        for place, row in enumerate(aggregate_strategies(result).to_dict("records")):
            low, high = min(row["low"], row["wilson_low"]), max(row["high"], row["wilson_high"])
            if row["low"] != row["low"]:
                low, high = row["wilson_low"], row["wilson_high"]
            geometric = Interval(row["geometric_speedup"], row["geometric_low"], row["geometric_high"], row["tasks"])
            share = f"{number(row['success'], '.0%')} [{100 * low:.0f}–{100 * high:.0f}%]"
            rows.append((name if place == 0 else "", row["strategy"], share, row["mean_speedup"], geometric))
    return pd.DataFrame(rows, columns=["run", "strategy", "fast", "mean", "geometric"])


RULE_COLUMNS = {
    "run": Column("run"),
    "strategy": Column("strategy"),
    "fast": Column("fast_1 [95%]"),
    "mean": Column("arithmetic", "{:.2f}×", group="speedup"),
    "geometric": Column("geometric [95%]", ".2f", group="speedup"),
}


def gaps(results: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], Effect]:
    """Success of surprisal minus each of ``AGAINST`` over contested groups, paired, by run and rule.

    As the table of claims has it (`contested_difference`); no tasks where no group is contested.
    """
    return {
        (name, key): contested_difference(result, SURPRISAL_GUIDED, other)
        for name, result in results.items()
        for key, other in AGAINST.items()
    }


def differences(found: Views, results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per run: contested groups of all, and per rule the difference in points and the sign test over tasks."""
    between = gaps(results)
    rows = []
    for name, result in results.items():
        counted = copies(found[name])
        row = {"run": name, "contested": f"{counted['contested'].sum()} of {counted['groups'].sum()}"}
        for key, other in AGAINST.items():
            row[key] = points(between[name, key].widest).replace(" points", "")
            row[f"{key}_sign"] = _sign(result, other)
        rows.append(row)
    return pd.DataFrame(rows)


def _sign(result: pd.DataFrame, other: Strategy) -> str:
    test = over_tasks(result, SURPRISAL_GUIDED, other)[1]
    return "no task differs" if test.n == 0 else f"{test.statistic:.0f} of {test.n}, p = {number(test.p_value, '.2g')}"


DIFFERENCE_COLUMNS = {"run": Column("run"), "contested": Column("contested groups")} | {
    name: column
    for key in AGAINST
    for name, column in (
        (key, Column("points [95%]", group=f"surprisal minus {key}")),
        (f"{key}_sign", Column("tasks for surprisal", group=f"surprisal minus {key}")),
    )
}


def related(found: Views, resamples: int = 1000) -> pd.DataFrame:
    """One row per run: ρ(surprisal, speedup) of distinct correct candidates: pooled, length fixed, within tasks."""
    rows = []
    for name, view in found.items():
        once = correlations(view, distinct=True, resamples=resamples)
        pooled, partial, _, within = (
            rounded(Interval(r["rho"], r["low"], r["high"], r["tasks"])) for r in once.to_dict("records")
        )
        last = once.iloc[3]
        row = {"run": name, "n": int(once["n"].iloc[0]), "pooled": pooled, "partial": partial, "within": within}
        rows.append(row | {"tasks": int(last["tasks"]), "p": float(last["p_within_task"])})
    return pd.DataFrame(rows)


RELATED_COLUMNS = {
    "run": Column("run"),
    "n": Column("candidates", "d"),
    "pooled": Column("pooled", ".2f", group="ρ(surprisal, speedup) [95%]"),
    "partial": Column("length held fixed", ".2f", group="ρ(surprisal, speedup) [95%]"),
    "within": Column("within tasks", ".2f", group="ρ(surprisal, speedup) [95%]"),
    "tasks": Column("tasks", "d", group="within tasks"),
    "p": Column("p", ".2g", group="within tasks"),
}


def here(results: Mapping[str, pd.DataFrame]) -> str:
    """Surprisal minus confidence per run with contested groups, with its interval."""
    found = {name: effect for (name, key), effect in gaps(results).items() if key == "confidence" and effect.n}
    if not found:
        return "Surprisal minus confidence: no run has a contested group."
    told = "; ".join(
        f"{name}: {points(effect.widest)} ({effect.n} task{'s' * (effect.n != 1)})" for name, effect in found.items()
    )
    return f"Surprisal minus confidence over contested groups. {told}."


def verdict(results: Mapping[str, pd.DataFrame]) -> str:
    """What the intervals of ``gaps`` decide, and for how many of how many runs."""
    between, texts = gaps(results), []
    for key in AGAINST:
        found = {name: between[name, key] for name in results if between[name, key].n > 1}
        if not found:
            texts.append(f"Surprisal against {key}: no run has two tasks in which they could differ.")
            continue
        clear = {name: finding(effect.among(len(found)).widest) for name, effect in found.items()}
        clear = {name: value for name, value in clear.items() if value in (Finding.MORE, Finding.LESS)}
        named = "; ".join(f"{name}: {value} often" for name, value in clear.items())
        said = f"{len(clear)} exclude{'s' * (len(clear) == 1)} 0 ({named})" if clear else "undecided, none excludes 0"
        several = f", at a level that allows for {len(found)}" if len(found) > 1 else ""
        runs = f"{len(found)} interval{'s' * (len(found) != 1)} from two or more contested tasks"
        texts.append(f"Surprisal against {key}: of {runs}, {said}{several}.")
    return " ".join(texts)
