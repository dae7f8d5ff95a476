"""Which prompts are sampled together and how many rows advance at a time. It knows lengths and limits, no model.

The sampler follows it, and so does a plan of what sampling will cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: Rows that advance together. A CPU gains nothing beyond; fixed numbers, so that batches do not depend on the moment.
MAX_ROWS = {"cpu": 128, "cuda": 1024}
#: Bytes that keys and values may take on a CPU if every row writes ``max_new_tokens``; on a GPU, share of its memory.
CPU_CACHE_BYTES = 4 << 30
CUDA_CACHE_SHARE = 0.4


def batches(
    lengths: Sequence[int], k: int, new: int, rows: int, tokens: int, shared: bool
) -> Iterator[tuple[list[int], int]]:
    """(prompts of a batch, rows at a time): prompts of similar length together, whole prompts where they fit.

    ``lengths``: tokens of each prompt; ``k``: completions per prompt, of at most ``new`` tokens; ``rows`` and
    ``tokens``: what advances, and what is kept, at a time; ``shared``: whether completions share their prompt's cache.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    if not shared:
        for index in order:
            yield [index], max(1, min(rows, tokens // (lengths[index] + new)))
        return
    batch: list[int] = []
    for index in order:
        count = len(batch) + 1
        if batch and (count * k > rows or count * (lengths[index] + k * new) > tokens):
            yield batch, len(batch) * k
            batch = []
        batch.append(index)
    if len(batch) > 1:
        yield batch, len(batch) * k
    elif batch:
        yield batch, max(1, min(k, rows, (tokens - lengths[batch[0]]) // new))
