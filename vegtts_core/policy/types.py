"""The vocabulary of policies: prompts in, completions with token log-probabilities out.

A policy knows token ids and prompts; it knows nothing of tasks, correctness or time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol, runtime_checkable

from vegtts_core.scaffolds.types import Prompt


class StopReason(StrEnum):
    """Why a completion ended."""

    EOS = "eos"
    """The model wrote its end-of-sequence token (counted among the tokens)."""
    STOP_STRING = "stop_string"
    """One of the prompt's stop strings appeared (its tokens are counted, its text is cut off)."""
    LENGTH = "length"
    """``max_new_tokens`` were written."""


@dataclass(frozen=True)
class SamplingParameters:
    """How tokens are drawn: plain temperature sampling; temperature 0 is greedy."""

    temperature: float = 0.25
    max_new_tokens: int = 1024


@dataclass(frozen=True)
class Completion:
    """What the policy wrote.

    ``logprobs[t]`` is log p(token t | prompt, earlier tokens) in nats under the untempered model;
    ``sampling_logprobs[t]`` the same under the distribution that the token was drawn from (the tempered one).
    Both have one entry per token. A policy in this process knows all of it; a server may not tell ``token_ids`` (then
    empty) or a log-probability (then NaN).
    """

    token_ids: tuple[int, ...]
    text: str
    stop_reason: StopReason
    logprobs: tuple[float, ...]
    sampling_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class CompletionScore:
    """Log-probabilities (nats) of given completion tokens, untempered and at a sampling temperature."""

    logprobs: tuple[float, ...]
    sampling_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class PolicyIdentity:
    """What wrote the completions: for the run's manifest."""

    name: str
    weights_sha256: str
    adapter_sha256: str | None
    dtype: str
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Usage:
    """What a server counted. ``unreported_requests``: cut off before it said what they cost, so not in the tokens."""

    requests: int = 0
    unreported_requests: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(Usage)))


Progress = Callable[[int, int], None]
"""(tokens written so far, sequences still running)"""


class Policy(Protocol):
    """A language model that writes and scores completions."""

    @property
    def identity(self) -> PolicyIdentity:
        """Name, hashes and versions."""
        ...

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of tokens of each rendered prompt."""
        ...

    def sample(
        self,
        prompts: Sequence[Prompt],
        k: int,
        sampling: SamplingParameters,
        seed: int,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """``k`` completions for each prompt; the same arguments give the same result on one device."""
        ...

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Sequence[int]]],
        temperature: float = 1.0,
    ) -> list[list[CompletionScore]]:
        """Teacher-forced log-probabilities of ``completions[i][j]`` (token ids) after ``prompts[i]``."""
        ...

    def close(self) -> None:
        """Give back processes and memory that are the policy's own; it cannot be used afterwards."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A policy whose work somebody else counts, and may charge for."""

    def spent(self) -> Usage:
        """What was spent since the last call of this."""
        ...
