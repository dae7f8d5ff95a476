"""How the sampler will split one call, from `vegtts_core.policy.waves` and what is known of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vegtts_core.plan.counts import Group, Work
from vegtts_core.policy.waves import CPU_CACHE_BYTES, CUDA_CACHE_SHARE, MAX_ROWS, batches

#: Bytes of GPU memory that a GPU is assumed to have, an H100's: they bound how many large caches are held at a time.
GPU_BYTES = 80 << 30
ITEM = {"float32": 4, "bfloat16": 2}


def call_batches(work: Work, call: Sequence[Group]) -> list[tuple[list[int], int]]:
    """(places of ``call`` in a batch, rows at a time) of one call of the sampler, as it will be made."""
    facts = work.facts
    shared = facts is None or facts.shares_prompts
    budget = CPU_CACHE_BYTES if work.device == "cpu" else int(GPU_BYTES * CUDA_CACHE_SHARE)
    tokens = budget // facts.cache_bytes(ITEM[work.dtype]) if facts else 1 << 40
    rows = MAX_ROWS[work.device]
    found: list[tuple[list[int], int]] = []
    by_k: dict[int, list[int]] = {}
    for place, group in enumerate(call):
        by_k.setdefault(group.k, []).append(place)
    for k, places in by_k.items():
        lengths = [call[place].ask.tokens for place in places]
        for batch, wave in batches(lengths, k, work.max_new_tokens, rows, tokens, shared):
            found.append(([places[index] for index in batch], wave))
    return found


def waves(total: int, wave: int) -> int:
    """How often a batch's rows are sampled ``wave`` at a time."""
    return math.ceil(total / wave)
