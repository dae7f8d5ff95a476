"""Teacher-forced log-probabilities: given completions of given prompts, many per pass, each prompt computed once.

It knows token ids only. Equal completions of a prompt are computed once; passes are bounded by the logits they make.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vegtts_core.policy.engine import Engine, Prefix
from vegtts_core.policy.randomness import token_logprobs
from vegtts_core.policy.types import CompletionScore

#: Logits (rows x tokens x vocabulary) of one pass: 256 MiB in float32 on a CPU; GPUs want larger passes.
MAX_LOGITS = {"cpu": 1 << 26, "cuda": 1 << 28}


def score_prompt(
    engine: Engine, prompt: list[int], completions: Sequence[Sequence[int]], temperature: float
) -> list[CompletionScore]:
    """One score per completion, in order; nats, float32; an empty completion has an empty score."""
    unique = sorted({tuple(ids) for ids in completions if len(ids)}, key=len)
    if not unique:
        return [CompletionScore((), ()) for _ in completions]
    prefix = engine.prefill([prompt])
    limit = MAX_LOGITS.get(engine.device.type, MAX_LOGITS["cpu"]) // prefix.logits.shape[-1]
    scores: dict[tuple[int, ...], CompletionScore] = {(): CompletionScore((), ())}
    while unique:
        # The longest first, so that the largest pass comes when nothing else is held.
        rows = max(1, limit // len(unique[-1]))
        batch, unique = unique[-rows:], unique[:-rows]
        scores.update(zip(batch, _score_batch(engine, prefix, batch, temperature), strict=True))
    return [scores[tuple(ids)] for ids in completions]


def _score_batch(
    engine: Engine, prefix: Prefix, batch: list[tuple[int, ...]], temperature: float
) -> list[CompletionScore]:
    """Scores of completions that continue the only prompt of ``prefix``, padded on the right to the longest.

    Padding follows each completion, so causal attention keeps it out of every logit that is used.
    """
    longest = max(len(ids) for ids in batch)
    padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in batch], device=engine.device)
    plain = torch.empty(padded.shape, device=engine.device)
    tempered = torch.empty_like(plain)
    first = prefix.logits[:1].expand(len(batch), -1)
    plain[:, 0], tempered[:, 0] = token_logprobs(first, padded[:, 0], temperature)
    if longest > 1:
        logits = engine.open(prefix, [0] * len(batch)).step(padded[:, :-1])
        for row in range(len(batch)):  # row by row: float32 copies of all logits at once would double the pass
            plain[row, 1:], tempered[row, 1:] = token_logprobs(logits[row], padded[row, 1:], temperature)
    return [
        CompletionScore(tuple(raw[: len(ids)]), tuple(cooled[: len(ids)]))
        for ids, raw, cooled in zip(batch, plain.tolist(), tempered.tolist(), strict=True)
    ]
