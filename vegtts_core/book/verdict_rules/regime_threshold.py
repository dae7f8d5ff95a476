"""The 30% rule, by which the paper says beforehand on which tasks adaptation pays (section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vegtts_core.book.adapting_words import plural
from vegtts_core.book.prose import number
from vegtts_core.book.regimes import Rule, paper_rule
from vegtts_core.book.verdict_rules.deciding import by_majority, known_power
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.statistics import count_power, wilson


def regimes(rules: Sequence[Rule], n: str = "") -> Finding:
    """The 30% rule task by task, a task's runs averaged; it must be right for most tasks beyond their interval.

    Of tasks where nothing is fast either way, or everything, no rule is right or wrong.
    """
    theirs = paper_rule()
    own = f"On the paper's own table it is right for {theirs.right} of {len(theirs.told)} tasks."
    if not rules:
        return Finding("no independent search", Outcome.UNDECIDED, own, n, 0.0)
    rows = pd.concat([rule.told for rule in rules])
    if rows.empty:
        return Finding("nothing is fast, or everything", Outcome.UNDECIDED, own, n, 0.0)
    right = (rows["above"] == rows["benefits"]).astype(float).groupby(rows["task"]).mean()
    text = f"right for {number(wilson(float(right.sum()), len(right)), '.0%')} of {plural(len(right), 'task')}"
    if rows["above"].nunique() < 2:
        side = "above" if rows["above"].all() else "below"
        why = f"Every task lies {side} 30%, so the threshold separates nothing. {own}"
        return Finding(text, Outcome.UNDECIDED, why, n, 0.0)
    outcome = by_majority(float(right.sum()), len(right))
    power = known_power(count_power(1.0, len(right), lambda k: by_majority(k, len(right)) is Outcome.REPLICATED))
    return Finding(text, outcome, own, n, power)
