"""The policy that runs on vLLM: the engine's batching, paged keys and values, prefix cache, adapters and devices.

Prompts are rendered and texts are cut here, exactly as `TransformersPolicy` does it; the engine sees token ids only.
Tokens are drawn inside the engine from our own random numbers (``worker`` says why and how), so the same seed gives
the completions that `TransformersPolicy` gives, up to rounding. Scoring is the same pass with the tokens given: it
costs what sampling them costs, and a prompt's completions share its keys and values. (vLLM's ``prompt_logprobs`` would
compute the prompt again for each, as it does not read the prefix cache, and knows no temperature.)
The engine lives in a process of its own until `close`. This module is importable without vLLM.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.policy.decode import NOT_FINITE, Row
from vegtts_core.policy.folders import adapter_folder
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.requests import Report, check_context, check_sampling, check_scoring, open_rows
from vegtts_core.policy.types import (
    Completion,
    CompletionScore,
    PolicyIdentity,
    Progress,
    SamplingParameters,
    StopReason,
)
from vegtts_core.policy.vllm.engine import WANTED, first_line, start_engine
from vegtts_core.policy.vllm.parameters import VllmParameters
from vegtts_core.scaffolds.types import Prompt


class VllmPolicy:
    """Samples and scores with vLLM. Made by ``load_policy(..., sampler="vllm")``.

    ``folder`` holds the weights, whose digest ``identity`` names; ``adapters`` says whether adapters may come
    (`use_adapter`). ``eos_ids`` end a completion (a benchmark empties them).
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        eos: frozenset[int],
        identity: PolicyIdentity,
        parameters: VllmParameters,
        adapters: bool,
    ) -> None:
        from vllm import __version__  # pyright: ignore  # this package has the same name

        self.tokenizer = tokenizer
        self.eos_ids = eos
        self._parameters, self._takes_adapters = parameters, adapters
        self._llm = start_engine(folder, identity.name, identity.dtype, identity.device, parameters, adapters)
        self._engine = self._llm.llm_engine
        self._context = int(self._engine.model_config.max_model_len)
        versions = {**identity.versions, "vllm": __version__}
        self._identity = replace(identity, versions=versions)
        self._numbers = itertools.count(1)
        self._lora: Any = None
        self._running: dict[str, _Job] = {}

    @property
    def identity(self) -> PolicyIdentity:
        """Name, hashes and versions; of the adapter that is in use now."""
        return self._identity

    def use_adapter(self, adapter: str | None) -> None:
        """Sample and score with ``adapter`` (``embedded``, a folder or a hub id), or with none.

        The engine goes on running and forgets the adapter before. Raises UserError for an adapter that is missing, of
        another model, or refused by vLLM; the policy then has none.
        """
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        if self._lora is not None:
            self._engine.remove_lora(self._lora.lora_int_id)
        self._lora, self._identity = None, replace(self._identity, adapter_sha256=None)
        if adapter is None:
            return
        if not self._takes_adapters:
            raise UserError("This vLLM engine was started without room for adapters: load the policy with one.")
        folder, digest = adapter_folder(adapter, self._identity.weights_sha256)
        number = next(self._numbers)
        # Name and number are new each time: the engine's caches are keyed by them.
        request = LoRARequest(f"adapter-{number}", number, str(folder))
        try:
            self._engine.add_lora(request)
        except Exception as error:  # whatever a worker raised arrives as a plain Exception
            raise UserError(
                f"vLLM cannot use the adapter {adapter} ({first_line(error)}): it must be plain LoRA, of a rank of at "
                f"most vllm.max_lora_rank = {self._parameters.max_lora_rank}."
            ) from error
        self._lora, self._identity = request, replace(self._identity, adapter_sha256=digest)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of tokens of each rendered prompt."""
        return [len(prompt_token_ids(self.tokenizer, prompt)) for prompt in prompts]

    def sample(
        self,
        prompts: Sequence[Prompt],
        k: int,
        sampling: SamplingParameters,
        seed: int,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """``k`` completions for each prompt (section 4.2); ``randomness`` says what a seed guarantees.

        Raises UserError for parameters that make no sense and for prompts that leave too little of the context.
        """
        check_sampling(k, sampling)
        ids = [prompt_token_ids(self.tokenizer, prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts, ids, strict=True):
            check_context(prompt, len(tokens), sampling.max_new_tokens, self._context)
        rows = open_rows(self.tokenizer, prompts, ids, k, sampling.max_new_tokens, seed)
        jobs = [
            _Job(
                tokens,
                sampling.max_new_tokens,
                {"numbers": row.numbers.tolist(), "temperature": sampling.temperature},
                row,
            )
            for tokens, group in zip(ids, rows, strict=True)
            for row in group
        ]
        for job, score in zip(jobs, self._run(jobs, progress), strict=True):
            assert job.row is not None
            job.row.logprobs.extend(score.logprobs)
            job.row.sampling_logprobs.extend(score.sampling_logprobs)
        return [[row.completion() for row in group] for group in rows]

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Sequence[int]]],
        temperature: float = 1.0,
    ) -> list[list[CompletionScore]]:
        """Teacher-forced log-probabilities of ``completions[i][j]`` (token ids) after ``prompts[i]``.

        Raises UserError for a negative temperature, lists of unequal length and texts beyond the model's context.
        """
        check_scoring(prompts, completions, temperature)
        jobs: dict[tuple[int, tuple[int, ...]], _Job] = {}  # equal completions of a prompt are computed once
        for index, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
            tokens = prompt_token_ids(self.tokenizer, prompt)
            check_context(prompt, len(tokens), max((len(ids) for ids in group), default=0), self._context)
            for ids in group:
                if len(ids):
                    wanted = {"forced": [int(token) for token in ids], "temperature": temperature}
                    jobs[index, tuple(ids)] = _Job(tokens, len(ids), wanted)
        scores = dict(zip(jobs, self._run(list(jobs.values()), None), strict=True))
        empty = CompletionScore((), ())
        return [
            [scores[index, tuple(ids)] if len(ids) else empty for ids in group]
            for index, group in enumerate(completions)
        ]

    def close(self) -> None:
        """Stop the engine and its processes."""
        self._engine.engine_core.shutdown()

    def _run(self, jobs: list[_Job], progress: Progress | None) -> list[CompletionScore]:
        """Send ``jobs`` through the engine; their rows are filled, and their log-probabilities returned in order."""
        from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

        if not jobs:
            return []
        try:
            kept = self._drive(jobs, Report(progress, len(jobs)))
        except EngineDeadError as error:
            raise UserError(
                "vLLM's engine died while it was working (its own log above says why): start again, with less in "
                "vllm.kv_cache_gib or vllm.max_num_seqs if it was memory."
            ) from error
        scores = []
        for job in jobs:
            plain, tempered = kept[job.key]
            # The engine hears of a stop string one step late: what it wrote beyond is not part of the completion.
            count = job.limit if job.row is None else len(job.row.tokens)
            if not all(math.isfinite(value) for value in plain[:count]):
                raise UserError(NOT_FINITE)
            scores.append(CompletionScore(tuple(plain[:count]), tuple(tempered[:count])))
        return scores

    def _drive(self, jobs: list[_Job], report: Report) -> dict[str, list[list[float]]]:
        """Run the engine until no job is left; (raw, tempered) log-probabilities by key."""
        from vllm import SamplingParams  # pyright: ignore
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        running = self._running
        self._engine.abort_request(list(running))  # what an interrupted call left behind
        running.clear()
        for job in jobs:
            job.key = str(next(self._numbers))
            running[job.key] = job
            asked = SamplingParams(
                temperature=0.0,  # the worker draws: what it leaves of the logits has one maximum
                max_tokens=job.limit,
                ignore_eos=True,
                stop_token_ids=sorted(self.eos_ids) if job.row is not None else None,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
                extra_args={WANTED: job.wanted | {"key": job.key}},
            )
            prompt = {"prompt_token_ids": job.prompt}
            self._engine.add_request(job.key, prompt, asked, lora_request=self._lora)
        report.begin(len(jobs))
        while running:
            tokens, done = 0, []
            for output in self._engine.step():
                job = running.get(output.request_id)
                if job is None:  # told to stop, and one step late
                    continue
                tokens += job.take(output.outputs[0].token_ids, self.eos_ids)
                if output.finished or job.stopped:
                    done.append(job)
            for job in done:
                del running[job.key]
            self._engine.abort_request([job.key for job in done if job.stopped])
            report.step(tokens, len(running))
        kept = self._llm.collective_rpc("take_logprobs")
        return next(part for part in kept if part)  # of several workers, those that hold the head draw, all the same


@dataclass
class _Job:
    """One request: prompt ids, most tokens, what the worker is to do, and for sampling the row to fill."""

    prompt: list[int]
    limit: int
    wanted: dict[str, Any]
    row: Row | None = None
    key: str = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended it, of which the engine knows nothing."""
        return self.row is not None and self.row.stop is StopReason.STOP_STRING

    def take(self, tokens: Sequence[int], eos: frozenset[int]) -> int:
        """Tokens from the engine; how many belong to the completion."""
        if self.row is None:
            return len(tokens)
        before = len(self.row.tokens)
        for token in tokens:
            if self.row.stop is None:
                self.row.take(int(token), eos)
        return len(self.row.tokens) - before
