"""How different the rollouts of a group are from each other, step by step (sections 5.1, 5.3: "diversity collapse").

The paper infers the collapse from falling scores; here it is measured. A group is the rollouts of one (task, seed,
step). Entropies are in nats. This module looks at token ids and fingerprints, never at what a candidate computes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vegtts_core.metrics.sequences import mean_edit_distance, self_bleu
from vegtts_core.metrics.shares import GROUP, under
from vegtts_core.statistics.bootstrap import LEVEL, RESAMPLES, Population, mean_interval

#: What ``group_diversity`` measures of a group, in its order of columns.
MEASURES = (
    "distinct",
    "distinct_correct",
    "distinct_share",
    "entropy",
    "entropy_miller_madow",
    "edit_distance",
    "self_bleu_4",
    "surprisal",
)


def entropy(counts: ArrayLike) -> float:
    """Shannon entropy of the observed shares, nats. ``counts``: shape (m,), at least 0; NaN if they sum to 0.

    Biased downward: n draws cannot show more than log n.
    """
    positive = np.asarray(counts, dtype=float)
    positive = positive[positive > 0]
    if not len(positive):
        return float("nan")
    shares = positive / positive.sum()
    return float(max(0.0, -(shares * np.log(shares)).sum()))


def miller_madow(counts: ArrayLike) -> float:
    """``entropy`` plus (observed kinds - 1) / (2 n), Miller's (1955) first-order correction of its bias, nats.

    Little helps where most kinds were seen once; compare groups of equal n only.
    """
    positive = np.asarray(counts, dtype=float)
    positive = positive[positive > 0]
    return entropy(positive) + (len(positive) - 1) / (2 * positive.sum()) if len(positive) else float("nan")


def group_diversity(samples: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One row per (task, seed, step) of a samples table (``schema.SAMPLES``).

    ``samples`` (K); ``parsed``: rollouts that became a candidate; ``distinct``: different candidates among them;
    ``distinct_correct``: different ones that are correct under ``protocol``; ``distinct_share``: distinct / parsed;
    ``entropy`` and ``entropy_miller_madow`` of the distribution over candidates, nats; ``edit_distance``: mean over
    pairs of rollouts of Levenshtein distance over token ids / the longer one's length, 0 (all equal) to 1;
    ``self_bleu_4``: mean BLEU-4 of a rollout against the others, 1 where all are copies; ``surprisal``: mean nats per
    token under the policy that wrote them. Text measures cover refused rollouts as well. NaN where nothing was parsed,
    or fewer than 2 rollouts have tokens. Raises ValueError for another protocol or a missing column.
    """
    view = under(samples, protocol)
    if "token_ids" not in samples.columns:
        raise ValueError("The samples table lacks the column token_ids: read it from a run store.")
    view["token_ids"] = samples["token_ids"].reset_index(drop=True).astype(object)
    rows = []
    for key, group in view.groupby(GROUP, sort=True):
        copies = group["fingerprint"].value_counts().to_numpy()
        texts = [tuple(int(token) for token in ids) for ids in group["token_ids"] if ids is not None]
        rows.append(
            {
                **dict(zip(GROUP, key, strict=True)),  # type: ignore[call-overload]
                "samples": len(group),
                "parsed": int(copies.sum()),
                "distinct": len(copies),
                "distinct_correct": group.loc[group["correct"], "fingerprint"].nunique(),
                "distinct_share": len(copies) / copies.sum() if len(copies) else np.nan,
                "entropy": entropy(copies),
                "entropy_miller_madow": miller_madow(copies),
                "edit_distance": mean_edit_distance(texts),
                "self_bleu_4": self_bleu(texts),
                "surprisal": float(group["surprisal"].mean()),
            }
        )
    return pd.DataFrame(rows, columns=[*GROUP, "samples", "parsed", *MEASURES])


def diversity_by_step(
    table: pd.DataFrame,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> pd.DataFrame:
    """``group_diversity``'s table per step: one row per (step, measure), mean over tasks with bootstrap bounds.

    Columns ``step``, ``measure`` (one of ``MEASURES``), ``estimate``, ``low``, ``high``, ``tasks``, ``seeds``; groups
    in which a measure is NaN are left out of it.
    """
    rows = []
    for step, part in table.groupby("step", sort=True):
        for measure in MEASURES:
            found = mean_interval(part[measure], part["task"], population, resamples, level, seed)
            seeds = part.loc[part[measure].notna(), "seed"].nunique()
            rows.append((step, measure, found.estimate, found.low, found.high, found.n, seeds))
    return pd.DataFrame(rows, columns=["step", "measure", "estimate", "low", "high", "tasks", "seeds"])
