"""Numbers that the prose of chapter 5.2 mentions, by name: the paper's, and those of the run at hand.

Sentences that depend on what was found are in ``selecting_words``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.selecting import PAPER_PAIRS, PAPER_TASKS
from vegtts_core.book.selecting_words import chance_equal
from vegtts_core.metrics import GROUP
from vegtts_core.selection import Signal, eligible


def paper_best_of(m: int) -> tuple[float, float]:
    """(reading, bound) for the paper's best of m random correct samples, as a success rate per task.

    The reading is table 5.1 at K = m, linear in log K (whether that table draws from all samples or from the correct
    ones is not clear). The bound is 1 - (1 - random-correct)^m, the most that the mean of random-correct allows
    (Jensen's inequality).
    """
    curve = published.table("5.1")["pass_at_k"]
    reading = np.interp(np.log(m), np.log([float(k) for k in curve.index]), curve.to_numpy(dtype=float))
    return float(reading), 1 - (1 - float(published.value("5.3/random-correct/fast_1"))) ** m


def signals_agree(view: pd.DataFrame) -> float:
    """Median over groups of Spearman's rho between untempered and tempered log-probability of correct samples."""
    rhos = []
    for _, group in view[eligible(view) & eligible(view, Signal.SAMPLING)].groupby(GROUP):
        columns = [group[s.value].rank() for s in (Signal.UNTEMPERED, Signal.SAMPLING)]
        if all(c.nunique() > 1 for c in columns):
            rhos.append(float(np.corrcoef(*columns)[0, 1]))
    return float(np.median(rhos)) if rhos else float("nan")


def paper_facts() -> dict[str, str]:
    """The paper's numbers that the chapter mentions, by name; correlations as rho(surprisal, speedup)."""

    def of(path: str, fmt: str, sign: int = 1) -> str:
        return number(sign * float(published.value(path)), fmt)

    share = float(published.value("5.3/surprisal-guided/fast_1"))
    spread = float(published.value("5.3/confidence-guided/std"))
    gap = share - float(published.value("5.3/confidence-guided/fast_1"))
    selected = published.table("D.2")["speedup"]
    return {
        "gap": number(100 * gap, ".0f"),
        "pairs": str(PAPER_PAIRS),
        "surprisal-share": of("5.3/surprisal-guided/fast_1", ".0%"),
        "confidence-share": of("5.3/confidence-guided/fast_1", ".0%"),
        "random-share": of("5.3/random-correct/fast_1", ".1%"),
        "top3-share": of("5.3/surprisal-guided-top3/fast_1", ".0%"),
        "oracle-speedup": of("5.3/best-correct/mean_speedup", "{:.1f}×"),
        "top3-speedup": of("5.3/surprisal-guided-top3/mean_speedup", "{:.1f}×"),
        "largest-speedup": number(float(selected.max()), "{:.1f}×"),
        "largest-share": number(float(selected.max() / selected.sum()), ".0%"),
        "surprisal-std": of("5.3/surprisal-guided/std", ".1%"),
        "confidence-std": number(spread, ".1%"),
        "seed-gap": number(spread * np.sqrt(2) * PAPER_TASKS, ".0f"),
        "equal-chance": number(chance_equal(share, PAPER_TASKS), ".0%"),
        "wilcoxon-w": of("5.2-strength/wilcoxon/statistic", ".0f"),
        "wilcoxon-n": of("5.2-strength/wilcoxon/n", ".0f"),
        "discordant": of("5.2-strength/sign-one-sided/n", ".0f"),
        "paper-n": of("5.2-length/raw/n", ".0f"),
        "rho-raw": of("5.2-length/raw/rho", ".3f", -1),
        "rho-raw-p": of("5.2-length/raw/p_value", ".2f"),
        "rho-partial": of("5.2-length/partial/rho", ".3f", -1),
        "rho-probe": of("5.3b-probe/all-step-0/rho", ".3f"),
        "q1": of("5.2-quartiles/Q1/fast_1", ".0%"),
        "q2": of("5.2-quartiles/Q2/fast_1", ".0%"),
        "q4": of("5.2-quartiles/Q4/fast_1", ".0%"),
        "tokens-first": of("5.2-quartiles/Q1/mean_tokens", ".0f"),
        "tokens-last": of("5.2-quartiles/Q4/mean_tokens", ".0f"),
        "half-first": of("5.2-halves/high-surprisal/fast_1", ".1%"),
        "half-last": of("5.2-halves/low-surprisal/fast_1", ".1%"),
    }


def facts(views: Mapping[str, pd.DataFrame], copies: pd.DataFrame) -> dict[str, str]:
    """Numbers that the chapter's prose mentions, by name. ``copies``: ``selecting.copies_side_by_side``."""
    reading, bound = paper_best_of(3)
    groups = int(copies["groups"].sum())
    found = paper_facts() | {
        "reading-3": number(reading, ".0%"),
        "bound-3": number(bound, ".0%"),
        "bound-all": number(bound**PAPER_PAIRS, ".0%"),
        "groups": str(groups),
        "candidates": str(views["sound"][eligible(views["sound"])].groupby("task")["fingerprint"].nunique().sum()),
        "signals-rho": number(signals_agree(views["sound"]), ".2f"),
    }
    for protocol in views:
        correct, distinct = copies[f"{protocol}.correct"].mean(), copies[f"{protocol}.distinct"].mean()
        found |= {
            f"correct-{protocol}": number(float(correct), ".1f"),
            f"distinct-{protocol}": number(float(distinct), ".1f"),
            f"contested-{protocol}": str(int(copies[f"{protocol}.contested"].sum())),
            f"one-top3-{protocol}": str(int(copies[f"{protocol}.one_top3"].sum())),
        }
    return found
