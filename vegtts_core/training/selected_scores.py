"""Log-probabilities of chosen tokens from hidden states: the head runs on a piece of the tokens at a time.

The logits of a large vocabulary are the largest tensors of an update. What does not fit is computed again for the
gradient. It knows hidden states and a head; it knows no models, prompts or completions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

#: Logits (tokens x vocabulary) that are made at a time.
MAX_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}
#: Up to this many are kept for the gradient (256 MiB on a CPU, 4 GiB on a GPU); beyond, they are computed again.
KEPT_LOGITS = {"cpu": 1 << 26, "cuda": 1 << 30}
#: Log-probabilities and entropies of one group, (K, longest), or of its completions' tokens one after the other.
Scores = tuple[torch.Tensor, torch.Tensor | None]


def selected_scores(
    head: Any, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool
) -> Scores:
    """Scores of ``targets`` (n,) from hidden states (n, width), in pieces whose logits fit."""
    size = int(head.weight.shape[0])
    again = torch.is_grad_enabled() and len(targets) * size > limit(KEPT_LOGITS, hidden.device)
    piece = max(1, limit(MAX_LOGITS, hidden.device) // size)

    def score(hidden: torch.Tensor, targets: torch.Tensor) -> Any:
        return Selected.apply(head(hidden), targets, temperature, entropy)

    found = [
        checkpoint(score, *part, use_reentrant=False, preserve_rng_state=False) if again else score(*part)
        for part in zip(hidden.split(piece), targets.split(piece), strict=True)
    ]
    logprobs, entropies = zip(*found, strict=True)
    return torch.cat(logprobs), torch.cat(entropies) if entropy else None


class Selected(torch.autograd.Function):
    """log p of one token per row of logits (n, V), and the rows' entropies (None unless asked for), in nats."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool) -> Any:
        """In float32 at least; the normalised logits are all that is kept."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        scaled = logits.to(dtype) if temperature == 1 else logits.to(dtype) / temperature
        logs = scaled.log_softmax(-1)
        del scaled
        selected = logs.gather(-1, targets[:, None])[:, 0]
        entropies = torch.linalg.vecdot(logs.exp(), logs).neg_() if entropy else None
        ctx.set_materialize_grads(False)  # entropies that are only reported cost no gradient
        ctx.save_for_backward(logs, targets, entropies)
        ctx.temperature, ctx.dtype = temperature, logits.dtype
        return selected, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        """d log p_t / d l_j = [j = t] - p_j; d H / d l_j = -p_j (log p_j + H)."""
        logs, targets, entropies = ctx.saved_tensors
        selected, entropic = (None if each is None else each[:, None] / ctx.temperature for each in gradients)
        if selected is None and entropic is None:
            return None, None, None, None
        gradient = logs.exp()
        if entropic is not None:
            factor = (logs + entropies[:, None]).mul_(-entropic)
            gradient.mul_(factor if selected is None else factor.sub_(selected))
        elif selected is not None:
            gradient.mul_(-selected)
        if selected is not None:
            gradient.scatter_add_(1, targets[:, None], selected)
        return gradient.to(ctx.dtype), None, None, None


def limit(limits: dict[str, int], device: torch.device) -> int:
    """What ``limits`` says for this kind of device."""
    return limits.get(device.type, limits["cpu"])
