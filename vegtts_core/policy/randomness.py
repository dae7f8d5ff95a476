"""Tokens drawn from logits, and the random numbers they are drawn with.

What is guaranteed: the random number of token t of a completion is a function of (seed, the prompt's token ids, how
often that prompt occurred before in the same call, the completion's number, t) and of nothing else. So the same
arguments give the same completions on one device; the first 16 of 64 completions are the 16 of K = 16, and a prompt's
completions do not depend on the other prompts of the call. Both of the latter hold up to rounding: matrix products of
other sizes round differently, and a random number that falls within 1e-6 of a boundary then picks the neighbour.
It knows nothing of models or text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

#: Width of the blocks in which the cumulative distribution is searched: sums of blocks first, then within one.
BLOCK = 256
#: Logits that are worked on at a time: temporaries stay below four times 256 MiB.
MAX_ELEMENTS = 1 << 26


def uniforms(seed: int, prompt_ids: Sequence[int], occurrence: int, samples: Sequence[int], steps: int) -> np.ndarray:
    """Random numbers strictly within (0, 1), float64 of shape (len(samples), steps); see the module for their key."""
    digest = hashlib.sha256(np.asarray(prompt_ids, dtype=np.int64).tobytes()).digest()
    prompt_words = np.frombuffer(digest, dtype="<u4").tolist()
    numbers = np.empty((len(samples), steps))
    for row, sample in enumerate(samples):
        words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, *prompt_words, occurrence, sample]
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
        numbers[row] = (generator.integers(0, 1 << 32, size=steps, dtype=np.uint32) + 0.5) / 2.0**32
    return numbers


def token_logprobs(logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """log p (nats, float32) of ``tokens`` (N,) under ``logits`` (N, V): untempered, and at ``temperature``.

    At temperature 0 the distribution is a point mass: 0 for the most likely token, -inf for any other.
    """
    raw = logits.float()
    column = tokens[:, None]
    plain = raw.log_softmax(-1).gather(-1, column)[:, 0]
    if temperature == 1:
        return plain, plain
    if temperature == 0:
        # Not torch.where, which copies its scalars to a GPU and waits for them.
        return plain, torch.zeros_like(plain).masked_fill_(raw.argmax(-1) != tokens, -torch.inf)
    return plain, _cooled(raw, temperature).log_softmax(-1).gather(-1, column)[:, 0]


def _cooled(raw: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits divided by the temperature, the largest made 0 first: no overflow at temperatures near 0."""
    return (raw - raw.amax(-1, keepdim=True)).div_(temperature)


def draw(
    logits: torch.Tensor, temperature: float, numbers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One token per row of ``logits`` (N, V) by inversion of its tempered distribution at ``numbers`` (N,), float64.

    Returns token ids (N,), their untempered and their tempered log-probabilities (N,), float32, nats. Temperature 0
    takes the most likely token.
    """
    rows = max(1, MAX_ELEMENTS // logits.shape[-1])
    parts = [
        _draw(part, temperature, piece) for part, piece in zip(logits.split(rows), numbers.split(rows), strict=True)
    ]
    tokens, plain, tempered = (torch.cat(column) for column in zip(*parts, strict=True))
    return tokens, plain, tempered


def _draw(
    logits: torch.Tensor, temperature: float, numbers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    raw = logits.float()
    # softmax, not exp: a CPU's exp is tens of times slower where it underflows, as it does on most of a vocabulary.
    tokens = raw.argmax(-1) if temperature == 0 else _invert(_cooled(raw, temperature).softmax(-1), numbers)
    return tokens, *token_logprobs(raw, tokens, temperature)


def _invert(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Index i of each row with cumulative(i - 1) <= number * total < cumulative(i): never one of weight 0."""
    count, vocabulary = weights.shape
    blocks = torch.nn.functional.pad(weights, (0, -vocabulary % BLOCK)).view(count, -1, BLOCK)
    sums = blocks.sum(-1).double()
    cumulative = sums.cumsum(-1)
    target = numbers[:, None] * cumulative[:, -1:]
    # Both clamps only matter for logits that are not finite: the caller refuses those, without a device assertion here.
    block = torch.searchsorted(cumulative, target, right=True).clamp_(max=sums.shape[-1] - 1)
    size = sums.gather(-1, block)
    # What is left of the number inside its block, as a share of the block: the two sums may round differently.
    share = ((target - cumulative.gather(-1, block) + size) / size).clamp_(0.0, 1.0 - 2.0**-33)
    within = blocks[torch.arange(count, device=weights.device), block[:, 0]].double().cumsum(-1)
    index = torch.searchsorted(within, share * within[:, -1:], right=True)
    return (block * BLOCK + index)[:, 0].clamp_(max=vocabulary - 1)
