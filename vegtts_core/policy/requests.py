"""What every policy makes of a call: checked arguments."""

from __future__ import annotations

from collections.abc import Sequence

from vegtts_core.errors import UserError
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.scaffolds.types import Prompt


def check_sampling(k: int, sampling: SamplingParameters) -> None:
    """Raises UserError for parameters of `Policy.sample` that make no sense."""
    if k < 1 or sampling.max_new_tokens < 1 or not 0 <= sampling.temperature < float("inf"):
        raise UserError(
            f"k = {k}, max_new_tokens = {sampling.max_new_tokens}, temperature = {sampling.temperature} cannot be "
            "sampled: use k and max_new_tokens of at least 1 and a temperature of at least 0."
        )


def check_scoring(
    prompts: Sequence[Prompt], completions: Sequence[Sequence[Sequence[int]]], temperature: float
) -> None:
    """Raises UserError for arguments of `Policy.score` that make no sense."""
    if len(prompts) != len(completions):
        raise UserError(
            f"{len(prompts)} prompts came with {len(completions)} lists of completions: give one per prompt."
        )
    if not 0 <= temperature < float("inf"):
        raise UserError(f"Temperature {temperature} cannot be scored at: use a number of at least 0.")
