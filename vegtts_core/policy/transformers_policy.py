"""The policy that runs a causal language model of transformers in this process.

Prompts are rendered, grouped into batches that fit, sampled (``decode``) or scored (``scoring``) by whichever engine
the model allows. It does not know where the model came from: ``load`` brings it, and a trainer may hand over its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vegtts_core.policy.decode import run_rows
from vegtts_core.policy.engine import AttentionPath, Engine
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.requests import Report, check_context, check_sampling, check_scoring, eos_ids, open_rows
from vegtts_core.policy.scoring import score_prompt
from vegtts_core.policy.trial import engine_for
from vegtts_core.policy.types import Completion, CompletionScore, PolicyIdentity, Progress, SamplingParameters
from vegtts_core.policy.waves import CPU_CACHE_BYTES, CUDA_CACHE_SHARE, MAX_ROWS, batches
from vegtts_core.scaffolds.types import Prompt


class _HasBase(Protocol):
    def get_base_model(self) -> PreTrainedModel: ...


class TransformersPolicy:
    """Samples and scores with a transformers model, in its own dtype and on its own device.

    ``model`` may be a peft model with LoRA-like adapters. Log-probabilities are taken in float32 from the model's
    logits. The model is left as it was found (training mode included), except that its attention implementation may
    be set to one that serves other calls as sdpa does. ``base`` is the model without its peft wrapper; ``eos_ids`` end
    a completion (a benchmark empties them to make every completion as long as it may be). ``path`` asks for the
    repeated cache where the shared prefix would do, to hold one against the other. On a GPU a decode step is recorded
    as a CUDA graph and replayed, unless ``cuda_graphs`` is false: the completions are the same up to rounding.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        identity: PolicyIdentity,
        path: AttentionPath | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        base = cast(_HasBase, model).get_base_model() if hasattr(model, "get_base_model") else model
        self.base = cast(PreTrainedModel, base)
        with self._inference():
            self._engine: Engine = engine_for(self.base, path, cuda_graphs)
        versions = {**identity.versions, "attention_path": self.attention_path.value}
        self._identity = replace(identity, versions=versions)
        self.eos_ids = eos_ids(getattr(self.base.generation_config, "eos_token_id", None), tokenizer)
        config: Any = self.base.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._bytes_per_token = 2 * config.num_hidden_layers * heads * size * self.base.dtype.itemsize

    @property
    def identity(self) -> PolicyIdentity:
        """Name, hashes and versions; ``versions["attention_path"]`` says how prompts are shared."""
        return self._identity

    @property
    def attention_path(self) -> AttentionPath:
        """Whether completions share their prompt's keys and values or get a copy."""
        return self._engine.path

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
        report = Report(progress, k * len(prompts))
        with self._inference(), self._rest():
            for batch, wave in self._batches([len(tokens) for tokens in ids], k, sampling.max_new_tokens):
                prefix = self._engine.prefill([ids[index] for index in batch])
                for place, index in enumerate(batch):
                    for row in rows[index]:
                        row.prompt = place
                waiting = [row for index in batch for row in rows[index]]
                for start in range(0, len(waiting), wave):
                    part = waiting[start : start + wave]
                    report.begin(len(part))
                    run_rows(self._engine, prefix, part, sampling.temperature, self.eos_ids, report.step)
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
        result = []
        with self._inference():
            for prompt, group in zip(prompts, completions, strict=True):
                tokens = prompt_token_ids(self.tokenizer, prompt)
                check_context(prompt, len(tokens), max((len(ids) for ids in group), default=0), self._context)
                result.append(score_prompt(self._engine, tokens, group, temperature))
        return result

    def close(self) -> None:
        """Nothing: the model is its owner's."""

    def _batches(self, lengths: list[int], k: int, new: int) -> Iterator[tuple[list[int], int]]:
        """(prompts of a batch, rows at a time): prompts of similar length together, whole prompts where they fit."""
        device = self._engine.device
        if device.type == "cuda":
            budget = int(torch.cuda.get_device_properties(device).total_memory * CUDA_CACHE_SHARE)
        else:
            budget = CPU_CACHE_BYTES
        tokens = budget // self._bytes_per_token
        most = MAX_ROWS.get(device.type, MAX_ROWS["cpu"])
        return batches(lengths, k, new, most, tokens, self.attention_path is AttentionPath.SHARED_PREFIX)

    @contextmanager
    def _rest(self) -> Iterator[None]:
        """Whatever becomes of a call, the engine rests after it."""
        try:
            yield
        finally:
            self._engine.rest()

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, no dropout; the model's mode is put back afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module in training:
                module.training = True
