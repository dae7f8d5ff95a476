"""Diversity collapse: whether a run's rollouts become less diverse; only chapter 1 claims it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core.book import adapting
from vegtts_core.book import trajectories_diversity as div
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.runs import Run


def diversity(runs: Mapping[str, Run]) -> Finding:
    """Whether rollouts become less diverse, for chapter 1."""
    return collapse(div.diversity(adapting.pooled(runs), adapting.protocol_of(runs))[1])


def collapse(changes: pd.DataFrame) -> Finding:
    """``changes``: ``trajectories_diversity.diversity``'s second table. Measures that disagree decide nothing."""
    less, more = int(changes["less"].sum()), int(changes["more"].sum())
    text = f"of {len(changes)} measures of diversity {less} fall beyond their interval and {more} rise"
    if less and not more:
        return Finding(text, Outcome.REPLICATED)
    return Finding(text, Outcome.NOT_REPLICATED if more and not less else Outcome.UNDECIDED)
