"""What rejection sampling keeps: distinct correct candidates, and how much each weighs in a fit.

It knows rows and token ids; it knows no models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vegtts_core.policy.types import StopReason
from vegtts_core.training.groups import Group


def kept_candidates(rows: Iterable[dict[str, Any]], most: int) -> dict[str, list[tuple[list[int], float]]]:
    """By slot: token ids and speedup of every distinct correct candidate in judged ``rows``, the ``most`` fastest."""
    kept: dict[str, dict[str, tuple[list[int], float]]] = {}
    for row in rows:
        if row["reward"] > 0 and row["stop_reason"] != StopReason.LENGTH:
            own = kept.setdefault(f"{row['scaffold']}:{row['task']}", {})
            before = own.get(row["fingerprint"])
            if before is None or len(row["token_ids"]) < len(before[0]):  # the plainest way of writing it
                own[row["fingerprint"]] = (list(row["token_ids"]), row["reward"])
    return {key: sorted(found.values(), key=lambda each: -each[1])[:most] for key, found in kept.items()}


def weighted_group(prompt: list[int], found: list[tuple[list[int], float]], power: float) -> Group:
    """Weights, speedup ** ``power``, sum to 1, so that a task with many candidates does not drown the others."""
    weights = np.array([speedup for _, speedup in found]) ** power
    tokens = sum(len(ids) for ids, _ in found) / len(found)
    return Group(prompt, [ids for ids, _ in found], weights / weights.sum() * tokens)
