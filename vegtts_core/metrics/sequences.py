"""Distances among a few short sequences of tokens: mean edit distance and self-BLEU.

Most rollouts at low temperature are copies of a few completions, so both work on the distinct ones and count copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]


def edit_distances(one: Tokens, others: Sequence[Tokens]) -> NDArray[np.int64]:
    """Levenshtein distance (insertions, deletions, substitutions, 1 each) of ``one`` to each of ``others``.

    Returns shape (len(others),). O(n m) each, one numpy operation per token of ``one`` for all others together.
    """
    lengths = np.array([len(other) for other in others], dtype=np.int64)
    width = int(lengths.max()) if len(others) else 0
    padded = np.full((len(others), width), -1, dtype=np.int64)
    for row, other in zip(padded, others, strict=True):
        row[: len(other)] = other
    places = np.arange(width + 1)
    best = np.broadcast_to(places, (len(others), width + 1)).copy()
    for i, token in enumerate(one, start=1):
        above = np.empty_like(best)
        above[:, 0] = i
        above[:, 1:] = np.minimum(best[:, 1:] + 1, best[:, :-1] + (padded != token))
        # Insertions run along the row: best[j] = min over k <= j of above[k] + (j - k).
        best = np.minimum.accumulate(above - places, axis=1) + places
    return best[np.arange(len(others)), lengths]


def mean_edit_distance(texts: Sequence[Tokens]) -> float:
    """Mean over pairs of ``texts`` of edit distance / length of the longer one, in [0, 1]; NaN for fewer than two."""
    if len(texts) < 2:
        return float("nan")
    kinds = Counter(texts)
    distinct, copies = list(kinds), np.array(list(kinds.values()), dtype=float)
    total = 0.0
    for i, one in enumerate(distinct[:-1]):
        others = distinct[i + 1 :]
        longer = np.array([max(len(one), len(other)) for other in others])
        total += copies[i] * float(copies[i + 1 :] @ (edit_distances(one, others) / longer))
    return total / (len(texts) * (len(texts) - 1) / 2)


def _grams(text: Tokens, n: int) -> Counter[Tokens]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def self_bleu(texts: Sequence[Tokens], order: int = 4) -> float:
    """Mean over ``texts`` of the BLEU of one against all others as references (Zhu et al. 2018, Texygen).

    Sentence BLEU with uniform weights over n = 1..``order``, matches clipped at the most that one reference holds, the
    brevity penalty of the reference closest in length (the shorter of two), and add-one smoothing of matches and
    totals for n > 1 (Lin and Och 2004), without which short completions score 0. In [0, 1]; NaN for fewer than two.
    """
    if len(texts) < 2:
        return float("nan")
    kinds = Counter(texts)
    distinct = list(kinds)
    grams = {text: [_grams(text, n) for n in range(1, order + 1)] for text in distinct}
    total = 0.0
    for text, copies in kinds.items():
        # A copy among the references matches everything, at the same length.
        total += copies if copies > 1 and text else 0.0
        if copies == 1:
            total += _bleu(grams[text], len(text), [(grams[other], len(other)) for other in distinct if other != text])
    return total / len(texts)


def _bleu(own: list[Counter[Tokens]], length: int, references: list[tuple[list[Counter[Tokens]], int]]) -> float:
    precisions = []
    for n, grams in enumerate(own):
        matches = sum(min(count, max(r[n][gram] for r, _ in references)) for gram, count in grams.items())
        smooth = 0 if n == 0 else 1
        if matches + smooth == 0:
            return 0.0
        precisions.append((matches + smooth) / (grams.total() + smooth))
    closest = min((abs(size - length), size) for _, size in references)[1]
    penalty = min(1.0, exp(1 - closest / length))
    return penalty * exp(sum(log(value) for value in precisions) / len(precisions))
