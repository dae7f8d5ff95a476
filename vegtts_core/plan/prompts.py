"""Lengths of prompts in tokens: counted by the policy's own tokenizer where it is on this machine, else estimated.

It knows tokenizers and prompts; it loads no weights and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.plan.model_facts import local_folder
from vegtts_core.policy.embedded import EMBEDDED
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.scaffolds import Prompt

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


class PromptCounter:
    """Counts a policy's prompt tokens. ``exact`` is False where another tokenizer stands in, and ``note`` says so."""

    def __init__(self, policy: str) -> None:
        """Raises UserError where not even the embedded policy's tokenizer can be had."""
        own = _tokenizer(local_folder(policy))
        self.exact = own is not None
        self.note = (
            ""
            if self.exact
            else f"The tokenizer of {policy} is not on this machine: prompt tokens are an estimate, counted with the "
            "embedded policy's."
        )
        standing_in = own if own is not None else _tokenizer(local_folder(EMBEDDED))
        if standing_in is None:
            raise UserError("The embedded policy's tokenizer is missing: run `make setup`.")
        self._tokenizer = standing_in
        self._known: dict[str, int] = {}

    def __call__(self, prompt: Prompt) -> int:
        """Tokens of the rendered prompt."""
        if prompt.id not in self._known:
            self._known[prompt.id] = len(prompt_token_ids(self._tokenizer, prompt))
        return self._known[prompt.id]

    def texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of texts as they stand, without special tokens."""
        return [len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]  # type: ignore


@cache
def prompt_counter(policy: str) -> PromptCounter:
    """The counter of ``policy``, made once."""
    return PromptCounter(policy)


@cache
def _tokenizer(folder: Path | None) -> PreTrainedTokenizerBase | None:
    if folder is None or not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError):
        return None
