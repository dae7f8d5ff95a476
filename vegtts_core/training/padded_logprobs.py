"""Log-probabilities of TRL's padded table of tokens, read as groups whose prompt is computed once (``logprobs``).

It knows token ids and masks; it knows no losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vegtts_core.training.logprobs import grouped_logprobs


def padded_logprobs(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    logits_to_keep: int,
    temperature: float,
    *,
    entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities of the last ``logits_to_keep`` tokens of each row, zero where padded; entropies, if asked for.

    Rows are padded as TRL pads them: prompts on the left, completions on the right.
    """
    texts: list[tuple[tuple[int, ...], list[list[int]]]] = []  # neighbours of one prompt are a group
    for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
        prompt = tuple(ids[:-logits_to_keep][mask[:-logits_to_keep].index(1) :])
        if not texts or texts[-1][0] != prompt:
            texts.append((prompt, []))
        texts[-1][1].append(ids[-logits_to_keep:][: sum(mask[-logits_to_keep:])])
    found = grouped_logprobs(
        model,
        [prompt for prompt, _ in texts],
        [completions for _, completions in texts],
        temperature,
        entropy=entropy,
    )

    def table(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([torch.nn.functional.pad(part, (0, logits_to_keep - part.shape[1])) for part in parts])

    entropies = table([part for _, part in found if part is not None]) if entropy else None
    return table([part for part, _ in found]), entropies
