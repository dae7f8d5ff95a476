"""The policy behind a server: the protocol of `vegtts_core.policy.types`, as far as a server can keep it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
from anyio.from_thread import start_blocking_portal
from transformers import PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.requests import check_sampling, check_scoring
from vegtts_core.policy.served.client import Server
from vegtts_core.policy.served.journal import Journal
from vegtts_core.policy.served.parameters import ServedParameters
from vegtts_core.policy.served.payloads import check_prompts
from vegtts_core.policy.served.session import Job, Pair, Session
from vegtts_core.policy.types import (
    Completion,
    CompletionScore,
    PolicyIdentity,
    Progress,
    SamplingParameters,
    Usage,
)
from vegtts_core.scaffolds.types import Prompt

Result = TypeVar("Result")


class ServedPolicy:
    """A model on an OpenAI-compatible server, as far as a server can be a `vegtts_core.policy.types.Policy`.

    ``Completion.logprobs`` are the server's; ``sampling_logprobs`` follow from them and the listed alternatives, NaN
    where those do not pin them down (`tempering`). ``token_ids`` are empty where the server does not tell them. Whether
    the end-of-sequence token is among the tokens is the server's choice. The weights' sha256 is unknown.
    ``model`` may be empty if the server has one alone. ``journal``: a file that keeps what was paid for.
    """

    def __init__(
        self,
        model: str,
        parameters: ServedParameters,
        tokenizer: PreTrainedTokenizerBase | None = None,
        journal: Path | None = None,
    ) -> None:
        self.parameters = parameters
        self.tokenizer = tokenizer
        self._session = Session(model, parameters, tokenizer, Journal(journal))
        self._lengths: dict[Prompt, int] = {}

    @property
    def identity(self) -> PolicyIdentity:
        """The model's name on the server and what the server says of itself."""
        model = self._run(self._session.meet).model
        return PolicyIdentity(
            name=f"served:{model}",
            weights_sha256=f"unknown ({model} is served)",
            adapter_sha256=None,
            dtype="unknown",
            device="server",
            versions={"httpx": httpx.__version__, **self._session.versions},
        )

    def spent(self) -> Usage:
        """What the requests since the last call of this cost (those of a killed process that were gone on with too)."""
        keys, self._session.spent = self._session.spent, set()
        return self._session.journal.take_usage(keys)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of tokens of each rendered prompt: the tokenizer's, or as the server counted them.

        A prompt that was not sampled before costs a request of one token. Raises UserError if the server does not
        count.
        """
        check_prompts(prompts)
        if self.tokenizer is not None:
            return [len(prompt_token_ids(self.tokenizer, prompt)) for prompt in prompts]
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._lengths]
        if unknown:
            one = SamplingParameters(temperature=0.0, max_new_tokens=1)
            self._learn_lengths(self._run(lambda server: self._session.sample(server, unknown, 1, one, 0, None)))
        missing = [prompt.id for prompt in prompts if prompt not in self._lengths]
        if missing:
            raise UserError(
                f"The server does not say how many tokens prompt {missing[0]!r} has (usage is missing): give served "
                "a tokenizer with api completions, or use a server that reports usage."
            )
        return [self._lengths[prompt] for prompt in prompts]

    def sample(
        self,
        prompts: Sequence[Prompt],
        k: int,
        sampling: SamplingParameters,
        seed: int,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """``k`` completions for each prompt; those that the journal has are not asked for again.

        Raises UserError for parameters that make no sense, and for a server that refuses, falls silent or gives no
        log-probabilities; whatever came until then is in the journal.
        """
        check_sampling(k, sampling)
        check_prompts(prompts)
        jobs = self._run(lambda server: self._session.sample(server, prompts, k, sampling, seed, progress))
        self._learn_lengths(jobs)
        return [[job.done[sample] for sample in range(k)] for job in jobs]

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Sequence[int]]],
        temperature: float = 1.0,
    ) -> list[list[CompletionScore]]:
        """Teacher-forced log-probabilities of ``completions[i][j]`` (token ids) after ``prompts[i]``.

        Needs api completions, a tokenizer, and a server that gives an echoed prompt's log-probabilities (vLLM does).
        Raises UserError otherwise, for a negative temperature and for lists of unequal length.
        """
        if self.parameters.api != "completions" or self.tokenizer is None:
            raise UserError(
                "A served policy scores given completions through api completions with the model's tokenizer: set "
                "served.api and served.tokenizer."
            )
        check_scoring(prompts, completions, temperature)
        ids = [tuple(prompt_token_ids(self.tokenizer, prompt)) for prompt in prompts]
        pairs: dict[Pair, CompletionScore] = {
            (prompt, tuple(completion)): CompletionScore((), ())
            for prompt, group in zip(ids, completions, strict=True)
            for completion in group
        }
        self._run(lambda server: self._session.score(server, pairs, temperature))
        return [
            [pairs[prompt, tuple(completion)] for completion in group]
            for prompt, group in zip(ids, completions, strict=True)
        ]

    def close(self) -> None:
        """Nothing: every call opens and closes its own connections."""

    def _run(self, function: Callable[[Server], Awaitable[Result]]) -> Result:
        """``function`` in a loop of its own: a notebook's thread has one that is running."""

        async def connected() -> Result:
            async with Server(self.parameters) as server:
                return await function(server)

        try:
            with start_blocking_portal() as portal:
                return portal.call(connected)
        except BaseExceptionGroup as group:
            raise _first(group) from None

    def _learn_lengths(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            length = self._session.journal.prompt_tokens(job.key)
            if length is not None:
                self._lengths[job.prompt] = length


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The mistake that a user can put right, if there is one, among those of concurrent requests."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in leaves if isinstance(error, UserError)), leaves[0])
