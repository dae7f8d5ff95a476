"""Diversity by step, and its change: "collapse" is a claim about diversity (sections 5.1, 5.3), so it is measured."""

from __future__ import annotations

import pandas as pd

from vegtts_core import metrics
from vegtts_core.book.tables import Column
from vegtts_core.statistics import Interval, mean_interval

#: What is drawn of ``metrics.diversity.MEASURES``, with its name and the way in which less diversity moves it.
DIVERSITY = {
    "distinct": ("distinct candidates", ".1f", -1),
    "distinct_correct": ("distinct correct candidates", ".1f", -1),
    "entropy_miller_madow": ("entropy over candidates, nats", ".2f", -1),
    "edit_distance": ("edit distance of pairs", ".2f", -1),
    "self_bleu_4": ("self-BLEU-4", ".2f", 1),
    "surprisal": ("surprisal, nats per token", ".2f", -1),
}


def diversity(samples: pd.DataFrame, protocol: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(by step, change): ``metrics.diversity_by_step`` with names, and per measure the first and last step compared.

    ``change`` has columns measure, first, last (Intervals), change (paired by task and seed), low, high, less (whether
    its interval excludes 0 in the direction of less diversity), more.
    """
    table = metrics.group_diversity(samples, protocol)
    by_step = metrics.diversity_by_step(table)
    by_step = by_step[by_step["measure"].isin(list(DIVERSITY))].copy()
    ends = (int(table["step"].min()), int(table["step"].max()))
    rows = []
    for measure, (label, _, less) in DIVERSITY.items():
        values = table.pivot_table(index=["task", "seed"], columns="step", values=measure, dropna=False)
        difference = (values[ends[1]] - values[ends[0]]).dropna()
        clusters = difference.index.get_level_values("task").to_numpy()
        found = mean_interval(difference.to_numpy(), clusters)
        own = by_step[by_step["measure"] == measure].set_index("step")
        first, last = (Interval(*own.loc[s, ["estimate", "low", "high"]], int(own.loc[s, "tasks"])) for s in ends)
        down, up = found.high < 0, found.low > 0
        rows.append((label, first, last, found, down if less < 0 else up, up if less < 0 else down))
    by_step["measure"] = by_step["measure"].map({name: label for name, (label, *_) in DIVERSITY.items()})
    return by_step, pd.DataFrame(rows, columns=["measure", "first", "last", "change", "less", "more"])


DIVERSITY_COLUMNS = {
    "measure": Column("measure"),
    "first": Column("first step [95%]", ".2f"),
    "last": Column("last step [95%]", ".2f"),
    "change": Column("change [95%]", "+.2f"),
}
