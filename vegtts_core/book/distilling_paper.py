"""Table E.1 taken apart: the rollouts behind its shares, and what tests of them can say. It knows no runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book import published
from vegtts_core.book.tables import Column
from vegtts_core.statistics.paired import wilson

PAPER_STEP = 160
"""Rollouts behind each number of table E.1: all six are multiples of 1 / 160, one step's 5 tasks x 32."""
PAPER_SEEDS = ("42", "43", "44")

PAPER_COLUMNS = {
    "method": Column("method"),
    **{f"seed_{seed}": Column(f"seed {seed}", ".1%", group="published") for seed in PAPER_SEEDS},
    "mean": Column("mean", ".1%", group="published"),
    **{f"count_{seed}": Column(f"seed {seed}", ".0f", group=f"fast rollouts of {PAPER_STEP}") for seed in PAPER_SEEDS},
    "pooled": Column("all seeds", ".1%", group="Wilson, 95%"),
}


def paper_counts() -> pd.DataFrame:
    """Table E.1 with the fast rollouts behind each share, and both pooled over seeds; columns of ``PAPER_COLUMNS``."""
    rows = []
    for method, row in published.table("E.1").iterrows():
        counts = {f"count_{seed}": round(PAPER_STEP * float(row[f"seed_{seed}"])) for seed in PAPER_SEEDS}
        pooled = wilson(sum(counts.values()), PAPER_STEP * len(PAPER_SEEDS))
        shares = {name: float(row[name]) for name in [*(f"seed_{seed}" for seed in PAPER_SEEDS), "mean"]}
        rows.append({"method": str(method), **shares, **counts, "pooled": pooled})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class PaperGap:
    """Feedback against prompt-only in table E.1: ``gap`` (prompt-only less feedback, a share) and three p-values.

    ``rollouts``: both sides' rollouts as independent; ``sign``: the least that three seeds can give, two-sided;
    ``seeds``: a paired t-test over seeds; ``agree``: how often independent rollouts give three gaps as alike as these.
    """

    gap: float
    counts: tuple[int, int]
    n: int
    rollouts: float
    sign: float
    seeds: float
    agree: float


def paper_gap() -> PaperGap:
    """See ``PaperGap``."""
    table = paper_counts().set_index("method")
    names = [f"count_{seed}" for seed in PAPER_SEEDS]
    ours, theirs = (table.loc[name, names].to_numpy(dtype=float) for name in ("sdpo-prompt-only", "sdpo-feedback"))
    n = PAPER_STEP * len(names)
    share = (ours.sum() + theirs.sum()) / (2 * n)
    error = math.sqrt(2 * share * (1 - share) / n)
    gap = (ours.sum() - theirs.sum()) / n
    gaps = (ours - theirs) / PAPER_STEP
    p, q = ours / PAPER_STEP, theirs / PAPER_STEP
    noise = float(np.mean(p * (1 - p) + q * (1 - q))) / PAPER_STEP
    spread = float(gaps.var(ddof=1))
    return PaperGap(
        gap=float(gap),
        counts=(int(theirs.sum()), int(ours.sum())),
        n=n,
        rollouts=float(2 * stats.norm.sf(abs(gap) / error)),
        sign=2 * 0.5 ** len(names),
        seeds=float(stats.ttest_1samp(gaps, 0).pvalue),
        agree=float(stats.chi2.cdf((len(gaps) - 1) * spread / noise, len(gaps) - 1)),
    )
