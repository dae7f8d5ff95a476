"""Two ways of running a model over prompts whose completions are many, behind one small interface.

``SharedPrefixEngine`` keeps each prompt's keys and values once (``attention``). ``RepeatedCacheEngine`` works for every
model that transformers can cache, by repeating the cache for each completion: correct, slower, larger. ``engine_for``
tries the first on a few tokens and takes it only if the model then gives the logits that it gives by itself.
An engine knows token ids and logits; it knows no text, temperatures or stop conditions.
"""

from __future__ import annotations

import copy
import inspect
import logging
from enum import StrEnum
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from vegtts_core.policy.attention import NAME, SharedPrefix, SharedSuffix

logger = logging.getLogger(__name__)

#: Prompt tokens per forward pass.
CHUNK = 1024


class AttentionPath(StrEnum):
    """How a prompt's keys and values reach its completions."""

    SHARED_PREFIX = "shared_prefix"
    """Computed once, stored once, read by all."""
    REPEATED_CACHE = "repeated_cache"
    """Computed once, copied for each completion."""


class Prefix:
    """Prompts whose keys and values are computed; ``logits`` (prompts, V) follow each prompt's last token."""

    def __init__(self, lengths: list[int], logits: torch.Tensor, state: Any) -> None:
        self.lengths = lengths
        self.logits = logits
        self.state = state


class Session(Protocol):
    """Rows (completions in the making) that advance together."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed T tokens per row, int64 (rows, T); logits (rows, T, V) in the model's dtype."""
        ...

    def leave(self, targets: list[int], sources: list[int], rows: int) -> None:
        """Keep ``rows`` rows: those at ``sources`` move to ``targets``, all below ``rows``."""
        ...


class Engine(Protocol):
    """A model, ready to be run over prompts."""

    path: AttentionPath
    device: torch.device

    def prefill(self, prompts: list[list[int]]) -> Prefix:
        """Compute the prompts' keys and values, a chunk of tokens at a time, with logits for the last token only."""
        ...

    def open(self, prefix: Prefix, prompt_of_row: list[int]) -> Session:
        """Rows that continue the prompts of ``prefix``; several sessions may follow one another on one prefix."""
        ...


class _Model:
    """The model's forward pass, with logits only where they are needed if the model can do that."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.device = model.device
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def __call__(self, tokens: torch.Tensor, start: torch.Tensor, last: bool, **options: Any) -> Any:
        """``start`` (rows or 1, 1) is the position of each row's first token; ``last``: only its last logits."""
        positions = start + torch.arange(tokens.shape[1], device=self.device)
        if last and self._keeps:
            options["logits_to_keep"] = 1
        return self.model(input_ids=tokens, position_ids=positions.expand(len(tokens), -1), **options)


class SharedPrefixEngine:
    """Prompts are stored once and any number of them share a batch."""

    path = AttentionPath.SHARED_PREFIX

    def __init__(self, model: PreTrainedModel) -> None:
        self._run = _Model(model)
        self.device = self._run.device

    def prefill(self, prompts: list[list[int]]) -> Prefix:
        """See Engine."""
        state = SharedPrefix([len(ids) for ids in prompts])
        last = []
        for number, ids in enumerate(prompts):
            logits = None
            for start in range(0, len(ids), CHUNK):
                state.filling = (number, start)
                tokens = torch.tensor([ids[start : start + CHUNK]], device=self.device)
                position = torch.tensor([[start]], device=self.device)
                logits = self._run(tokens, position, last=True, use_cache=False, shared_prefix=state).logits[0, -1]
            last.append(logits)
        return Prefix(state.lengths, torch.stack(last), state)

    def open(self, prefix: Prefix, prompt_of_row: list[int]) -> Session:
        """See Engine."""
        return _SharedSession(self._run, prefix, prompt_of_row)


class _SharedSession:
    def __init__(self, run: _Model, prefix: Prefix, prompt_of_row: list[int]) -> None:
        self._run = run
        self._suffix = SharedSuffix(prefix.state, prompt_of_row, run.device)
        self._lengths = torch.tensor(prefix.lengths, device=run.device)
        self._position = self._lengths[torch.tensor(prompt_of_row, device=run.device)][:, None]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        output = self._run(tokens, self._position, last=False, use_cache=False, shared_prefix=self._suffix)
        self._suffix.length += tokens.shape[1]
        self._position = self._position + tokens.shape[1]
        return output.logits

    def leave(self, targets: list[int], sources: list[int], rows: int) -> None:
        self._suffix.leave(targets, sources, rows)
        of_row = torch.tensor(self._suffix.prompt_of_row, device=self._run.device)
        self._position = self._lengths[of_row][:, None] + self._suffix.length


class RepeatedCacheEngine:
    """One prompt at a time, its cache copied for each row: what transformers itself can do with any model."""

    path = AttentionPath.REPEATED_CACHE

    def __init__(self, model: PreTrainedModel) -> None:
        self._run = _Model(model)
        self.device = self._run.device

    def prefill(self, prompts: list[list[int]]) -> Prefix:
        """See Engine; takes exactly one prompt."""
        (ids,) = prompts
        cache, logits = None, None
        for start in range(0, len(ids), CHUNK):
            tokens = torch.tensor([ids[start : start + CHUNK]], device=self.device)
            position = torch.tensor([[start]], device=self.device)
            output = self._run(tokens, position, last=True, use_cache=True, past_key_values=cache)
            cache, logits = output.past_key_values, output.logits[:, -1]
        assert logits is not None
        return Prefix([len(ids)], logits, cache)

    def open(self, prefix: Prefix, prompt_of_row: list[int]) -> Session:
        """See Engine."""
        return _RepeatedSession(self._run, prefix, len(prompt_of_row))


class _RepeatedSession:
    def __init__(self, run: _Model, prefix: Prefix, rows: int) -> None:
        self._run = run
        self._cache = copy.deepcopy(prefix.state)
        self._cache.batch_repeat_interleave(rows)
        self._position = torch.tensor([[prefix.lengths[0]]], device=run.device)
        self._rows = rows

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        output = self._run(tokens, self._position, last=False, use_cache=True, past_key_values=self._cache)
        self._cache = output.past_key_values
        self._position = self._position + tokens.shape[1]
        return output.logits

    def leave(self, targets: list[int], sources: list[int], rows: int) -> None:
        order = list(range(self._rows))
        for target, source in zip(targets, sources, strict=True):
            order[target] = source
        self._cache.batch_select_indices(torch.tensor(order[:rows], device=self._run.device))
        self._rows = rows


@torch.no_grad()
def engine_for(model: PreTrainedModel, path: AttentionPath | None = None) -> Engine:
    """The shared-prefix engine if this model's logits come out right with it (and ``path`` allows), else the other.

    The trial is two short prompts of unequal length, two rows each, two steps. A model that asks its attention for a
    sliding window, soft-capping, sinks or a position bias is found by what it asks for, any other deviation by its
    log-probabilities: by 1e-3 in float32; in bfloat16, where rounding alone moves them by 0.08 in the mean and by 0.6
    at most (it differs from processor to processor), by 0.2 in the mean or 2 anywhere.
    """
    before = model.config._attn_implementation or "eager"
    if path is AttentionPath.REPEATED_CACHE or not getattr(model, "_supports_attention_backend", False):
        return RepeatedCacheEngine(model)
    vocabulary = int(model.config.get_text_config().vocab_size)
    random = torch.Generator().manual_seed(0)
    prompts, endings = [
        [torch.randint(vocabulary, (length,), generator=random).tolist() for length in lengths]
        for lengths in ((7, 5), (2, 2, 2, 2))
    ]
    prompt_of_row = [0, 1, 0, 1]
    texts = [prompts[prompt] + ending for prompt, ending in zip(prompt_of_row, endings, strict=True)]
    # Padding on the right: causal attention keeps it out of the positions that are compared.
    padded = torch.tensor([ids + [0] * (9 - len(ids)) for ids in texts], device=model.device)
    logits = model(padded, use_cache=False).logits
    expected = _logprobs(torch.stack([row[len(ids) - 3 : len(ids)] for row, ids in zip(logits, texts, strict=True)]))
    try:
        model.set_attn_implementation(NAME)
        engine = SharedPrefixEngine(model)
        prefix = engine.prefill(prompts)
        session = engine.open(prefix, prompt_of_row)
        columns = torch.tensor(endings, device=engine.device).split(1, 1)
        steps = [prefix.logits[prompt_of_row], *(session.step(column)[:, 0] for column in columns)]
        found = _logprobs(torch.stack(steps, 1))
        if _agree(found, expected, model.dtype):
            return engine
        reason = "its logits deviate"
    except Exception as error:  # whatever a foreign model makes of an attention it was not written for
        reason = str(error)
    logger.info("%s gets a repeated cache: %s", type(model).__name__, reason)
    model.set_attn_implementation(before)
    return RepeatedCacheEngine(model)


def _agree(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    if dtype == torch.float32:
        return torch.allclose(found, expected, atol=1e-3, rtol=1e-3)
    deviation = (found - expected).abs()
    return bool(deviation.mean() < 0.2) and bool(deviation.max() < 2)


def _logprobs(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1)
