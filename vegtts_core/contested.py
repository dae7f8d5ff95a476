"""Where selection rules can differ (section 5.2): groups that hold a fast correct sample and another correct one.

In all other groups every rule that picks a correct sample succeeds alike. What a rule gets is read from the second
evaluation, on fresh data, where the run has one, and so is what it can get.
"""

from __future__ import annotations

import pandas as pd

from vegtts_core.metrics.shares import GROUP
from vegtts_core.selection import Strategy, eligible, evaluate_strategies
from vegtts_core.statistics import Effect, mean_effect


def is_contested(group: pd.DataFrame, p: float = 1.0) -> bool:
    """Whether rules can differ in this group of a protocol's view (``metrics.under``); fast is faster than ``p``."""
    fast = group.loc[eligible(group), "fresh_limit"] > p
    return bool(fast.any() and not fast.all())


def contested_outcomes(view: pd.DataFrame) -> pd.DataFrame:
    """``selection.evaluate_strategies`` of a view, with ``contested`` (bool): whether rules can differ in the group."""
    flags = {key: is_contested(group) for key, group in view.groupby(GROUP)}
    found = evaluate_strategies(view)
    return found.assign(contested=[flags[key] for key in found[GROUP].itertuples(index=False, name=None)])


def contested_difference(outcomes: pd.DataFrame, first: Strategy, second: Strategy) -> Effect:
    """Success of ``first`` minus ``second`` over the contested groups of `contested_outcomes`; no tasks if none is."""
    rows = outcomes[outcomes["contested"].astype(bool)]
    table = rows.pivot(index=GROUP, columns="strategy", values="success")
    if table.empty:
        return mean_effect([], [])
    return mean_effect(table[first.name] - table[second.name], table.index.get_level_values("task"))
