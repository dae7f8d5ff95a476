"""What every policy that runs here makes of a call: checked arguments, one row per completion, reports of progress.

It knows token ids, seeds and limits; it does not know what runs the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.policy.decode import Row
from vegtts_core.policy.randomness import uniforms
from vegtts_core.policy.render import CompletionText, Endings
from vegtts_core.policy.types import Progress, SamplingParameters
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


def check_context(prompt: Prompt, length: int, new: int, context: int | None) -> None:
    """Raises UserError where ``length`` tokens of the prompt leave no room for ``new`` ones (None: no limit known)."""
    if context is not None and length + new > context:
        raise UserError(
            f"Prompt {prompt.id!r} has {length} tokens, and with {new} new ones exceeds the {context} that "
            "the model can attend to: shorten the prompt or lower max_new_tokens."
        )


def open_rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    ids: Sequence[list[int]],
    k: int,
    max_new_tokens: int,
    seed: int,
) -> list[list[Row]]:
    """``k`` rows for each prompt, with the random numbers that ``randomness`` promises for ``seed``."""
    rows: list[list[Row]] = []
    seen: dict[tuple[int, ...], int] = {}
    for prompt, tokens in zip(prompts, ids, strict=True):
        occurrence = seen.get(tuple(tokens), 0)
        seen[tuple(tokens)] = occurrence + 1
        numbers = uniforms(seed, tokens, occurrence, range(k), max_new_tokens)
        endings = Endings(tokenizer, prompt.stop)
        rows.append([Row(0, line, CompletionText(tokenizer, tokens, prompt.stop, endings)) for line in numbers])
    return rows


def eos_ids(stated: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a completion: those that the generation configuration states (or None), and the tokenizer's own."""
    ids = stated if isinstance(stated, list) else [stated]
    own: Any = tokenizer.eos_token_id
    return frozenset(int(index) for index in (*ids, own) if index is not None)


class Report:
    """Counts tokens and running sequences over all batches of one call."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._tokens = 0
        self._waiting = total

    def begin(self, rows: int) -> None:
        """``rows`` of those that waited are running now."""
        self._waiting -= rows

    def step(self, tokens: int, running: int) -> None:
        """``tokens`` more were written, and ``running`` of the rows that began are not finished."""
        self._tokens += tokens
        if self._progress is not None:
            self._progress(self._tokens, running + self._waiting)
