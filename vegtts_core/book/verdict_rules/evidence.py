"""What the rules over one Best-of-N run look at: one protocol's view of its samples, and what follows from it.

A selection rule can differ from another only in groups that hold a fast correct sample and another correct one
(*contested*), so claims about selection are decided, and their power is computed, over the tasks that have such groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from vegtts_core.book.verdicts import Finding
from vegtts_core.contested import contested_difference, contested_outcomes
from vegtts_core.selection import Strategy
from vegtts_core.statistics import Effect, of_interval, quartile_contrast, surprisal_quartiles

RESAMPLES = 300
"""Of bootstraps that resample samples, in place of the chapters' thousand or more."""

NOTHING_FAST = "Nothing that this policy wrote is fast under the sound protocol."
NO_CONTEST_TASKS = "Fewer than two tasks hold fast correct samples and others."
NO_CONTEST = "No group holds a fast correct sample and another one, so no rule can differ from another."


@dataclass(frozen=True)
class Evidence:
    """What the rules look at: one protocol's view (``metrics.under``), and what follows from it."""

    view: pd.DataFrame

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """``contested.contested_outcomes``."""
        return contested_outcomes(self.view)

    @property
    def contested_tasks(self) -> int:
        """Tasks in which rules can differ."""
        return int(self.outcomes.loc[self.outcomes["contested"], "task"].nunique())

    @cached_property
    def nothing_fast(self) -> bool:
        """Whether no sample is fast."""
        return not bool((self.view["fast_limit"] > 1).any())

    @cached_property
    def quarters(self) -> pd.DataFrame:
        """Pooled quartiles, the paper's way."""
        return surprisal_quartiles(self.view, resamples=2)

    def difference(self, first: Strategy, second: Strategy) -> Effect:
        """Success of ``first`` minus ``second`` over contested groups."""
        return contested_difference(self.outcomes, first, second)

    def contrast(self, weights: list[float]) -> Effect:
        """A contrast of the quartiles' shares of fast samples."""
        return of_interval(quartile_contrast(self.view, weights, resamples=RESAMPLES))


Rule = Callable[[Evidence], Finding]
