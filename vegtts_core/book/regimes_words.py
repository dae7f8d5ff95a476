"""The sentences of chapter 5.4 that depend on the data: what a rule of regimes and a per-task winner allow to say."""

from __future__ import annotations

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.regimes import Rule, paper_rule
from vegtts_core.metrics.regimes import THRESHOLD
from vegtts_core.statistics import Interval


def facts() -> dict[str, str]:
    """The paper's numbers that the chapter mentions, by name."""
    budget, regimes = published.table("5.4-budget")["fast_1"], published.table("5.4-regimes")
    rule = paper_rule()
    best = str(budget.drop("best-of-n").idxmax()).removeprefix("boa-").replace("-", " ")
    return {
        "search": number(float(budget["best-of-n"]), ".1%"),
        "search-again": number(float(regimes.loc["2", "best_of_n"]), ".1%"),
        "step-0": number(float(budget["boa-step-0"]), ".1%"),
        "argmax": best,
        "argmax-share": number(float(budget.drop("best-of-n").max()), ".1%"),
        "tabulated": number(float(budget["boa-step-1"]), ".1%"),
        "right": str(rule.right),
        "tasks": str(len(rule.told)),
        "threshold": number(THRESHOLD, ".0%"),
        "above": str(int(rule.told["above"].sum())),
        "benefits": str(int(rule.told["benefits"].sum())),
    }


def regimes_text(rules: list[Rule]) -> str:
    """The rule on our runs."""
    if not rules:
        return "No run here has an independent Best-of-N of equal budget: other seeds' runs are needed."
    parts = [f"{rule.name}: right on {rule.right} of {len(rule.told)} tasks (step {rule.step})" for rule in rules]
    silent = sum(len(rule.tasks) - len(rule.told) for rule in rules)
    more = f" Not counted: {silent} where nothing is fast either way, or everything." if silent else ""
    return f"{'; '.join(parts)}.{more}"


def regimes_verdict(rules: list[Rule]) -> str:
    """Whether a rule with two answers does better than chance here."""
    if not rules:
        return "Not tested here."
    right, total = sum(rule.right for rule in rules), sum(len(rule.told) for rule in rules)
    if not total:
        return "Not tested here: in every task nothing is fast either way, or everything."
    agreement = rules[0].agreement if len(rules) == 1 else None
    bounds: Interval | None = agreement
    text = f"Right in {right} of {total} cases"
    if len(rules) > 1:
        text += f" ({len(rules)} runs of the same tasks, so not {total} independent ones)"
    if bounds is not None and bounds.low <= 0.5 <= bounds.high:
        text += ": a coin does as well as far as these data can tell"
    gains = sum(int(rule.told["benefits"].sum()) for rule in rules)
    text += f". Adaptation gained in {gains} of them."
    below = sum(int((~rule.told["above"]).sum()) for rule in rules)
    if below in (0, total):
        text += f" All tasks lie on one side of {number(THRESHOLD, '.0%')}, so the threshold separates nothing."
    return text


def left_out(found: pd.DataFrame, runs: int) -> str:
    """How many of so many runs have no independent Best-of-N of equal budget, and why; empty if all have one.

    ``found``: ``regimes.left_out``.
    """
    many = len(found) > 1
    if not len(found):
        return ""
    text = (
        f"{len(found)} of {runs} runs {'have' if many else 'has'} none with rollouts for one update, and "
        f"{'are' if many else 'is'} left out."
    )
    for own, rows in found[found["others"].map(len) > 0].groupby("card", sort=False):
        others = " and ".join(sorted({other for names in rows["others"] for other in names}))
        if len(rows) == len(found):
            who = "All were" if many else "It was"
        else:
            who = f"{len(rows)} of them {'were' if len(rows) > 1 else 'was'}"
        short = int((~rows["enough"]).sum())
        text += (
            f" {who} measured on {own}, while Best-of-N of the same policy was measured on {others}: what is faster "
            "than the reference on one card need not be on another, so those rollouts do not count"
            + (f" (for {short} of {len(rows)} they would not suffice either)." if short else ".")
        )
    return text


def winners_text(table: pd.DataFrame) -> str:
    """How many tasks have a winner beyond noise, and which: one clause per source."""
    parts = []
    for source, rows in table.groupby("source", sort=False):
        sure = rows[rows["sure"]]
        named = ", ".join(f"{row['task']} ({row['winner']})" for row in sure.to_dict("records"))
        parts.append(f"{source}: {len(sure)} of {len(rows)}" + (f", {named}" if named else ""))
    return "; ".join(parts) + "."


def winners_verdict(table: pd.DataFrame) -> str:
    """Whether either method wins everywhere, somewhere or nowhere beyond noise."""
    if not len(table):
        return "Not tested here."
    sure = set(table.loc[table["sure"], "winner"])
    if not sure:
        return "Beyond the noise of the rollouts no task has a winner."
    if len(sure) == 1:
        return f"Where a task has a winner beyond the noise of its rollouts, it is {sure.pop()}."
    return "Both win some tasks beyond the noise of the rollouts: which method is better depends on the task."
