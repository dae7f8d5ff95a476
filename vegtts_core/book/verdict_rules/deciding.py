"""What several rules decide by besides the sign of an effect (``verdicts.by_sign``): majorities, and missing power."""

from __future__ import annotations

import math

from vegtts_core.book.verdicts import Outcome
from vegtts_core.statistics import wilson


def known_power(value: float) -> float:
    """A power that was computed, or 0: no test at all finds nothing."""
    return 0.0 if math.isnan(value) else value


def by_majority(successes: float, n: float) -> Outcome:
    """The outcome for a claim that more than half do: whether they do beyond Wilson's interval."""
    share = wilson(successes, n)
    if share.low > 0.5:
        return Outcome.REPLICATED
    return Outcome.NOT_REPLICATED if share.high < 0.5 else Outcome.UNDECIDED
