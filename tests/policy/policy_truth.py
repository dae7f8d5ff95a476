"""Prompts of unequal length, and log-probabilities by one plain forward pass: what a policy is held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vegtts_core.policy import TransformersPolicy
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.types import Completion, CompletionScore
from vegtts_core.scaffolds.types import Message, Prompt, Role

PROMPTS = [
    Prompt(
        "long",
        (
            Message(Role.SYSTEM, "You write PyTorch."),
            Message(Role.USER, "Complete the body of forward so that it computes relu(x) + 1, in one line."),
            Message(Role.ASSISTANT, "```python\ndef forward(self, x):\n    "),
        ),
        stop=("```", "\n"),
    ),
    Prompt("short", (Message(Role.USER, "Say yes or no."),), stop=(".",)),
    Prompt("other", (Message(Role.USER, "Count from one to ten, please: one, two,"),)),
]


@torch.no_grad()
def teacher_forced(
    model: torch.nn.Module, prompt_ids: Sequence[int], completion: Sequence[int], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(untempered, tempered) log-probabilities by one plain forward pass over prompt and completion."""
    device = next(model.parameters()).device
    tokens = torch.tensor([[*prompt_ids, *completion]], device=device)
    logits = model(input_ids=tokens, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].float()
    chosen = torch.tensor(completion, device=device)[:, None]
    return tuple(  # type: ignore[return-value]
        (logits / t).log_softmax(-1).gather(-1, chosen)[:, 0].cpu() for t in (1.0, temperature)
    )


def assert_true_logprobs(
    policy: TransformersPolicy,
    model: torch.nn.Module,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion | CompletionScore]],
    ids: Sequence[Sequence[Sequence[int]]],
    temperature: float,
    atol: float = 1e-4,
) -> None:
    """Every log-probability in ``groups`` is that of the plain model, to ``atol`` (nats)."""
    for prompt, group, tokens in zip(prompts, groups, ids, strict=True):
        for scored, completion in zip(group, tokens, strict=True):
            plain, tempered = teacher_forced(model, prompt_token_ids(policy.tokenizer, prompt), completion, temperature)
            torch.testing.assert_close(torch.tensor(scored.logprobs), plain, atol=atol, rtol=0)
            # Tempering divides logits, and with them their rounding error, by the temperature.
            torch.testing.assert_close(
                torch.tensor(scored.sampling_logprobs), tempered, atol=atol / min(1.0, temperature), rtol=0
            )


def token_ids(groups: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]
