"""Two ways of running a model over prompts whose completions are many, behind one small interface.

``SharedPrefixEngine`` keeps each prompt's keys and values once (``attention``). ``RepeatedCacheEngine`` works for every
model that transformers can cache, by repeating the cache for each completion: correct, slower, larger. Which of them
serves a model is tried (``trial``).
On a GPU, steps of one token are recorded and replayed (``static_session``) where the shared prefix serves the model.
An engine knows token ids, logits and how a token is drawn from them; it knows no text and no stop conditions.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from vegtts_core.policy.attention import SharedPrefix, SharedSuffix
from vegtts_core.policy.graphs import Capture
from vegtts_core.policy.randomness import draw
from vegtts_core.policy.static_session import StaticDecoding

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


class DecodeSession(Protocol):
    """Rows (completions in the making) that advance together, one token at a time."""

    def advance(self, tokens: list[int], numbers: np.ndarray, temperature: float) -> np.ndarray:
        """Feed each row its token and draw the next: float64 (rows, 3), as `drawn` gives them.

        ``numbers`` (rows,), float64, lie in (0, 1).
        """
        ...

    def leave(self, targets: list[int], sources: list[int], rows: int) -> None:
        """Keep ``rows`` rows: those at ``sources`` move to ``targets``, all below ``rows``."""
        ...


class Session(DecodeSession, Protocol):
    """Rows that can advance by several tokens at once."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed T tokens per row, int64 (rows, T); logits (rows, T, V) in the model's dtype."""
        ...


def drawn(logits: torch.Tensor, numbers: np.ndarray, temperature: float) -> np.ndarray:
    """Tokens drawn from ``logits`` (rows, V) by `randomness.draw`, and their two log-probabilities, in one transfer.

    Float64 (rows, 3), which holds a token id and a float32 exactly.
    """
    columns = draw(logits, temperature, torch.tensor(numbers, device=logits.device))
    return torch.stack([column.double() for column in columns], 1).cpu().numpy()


class _Stepping(ABC):
    """A session's ``advance``, from its ``step``."""

    def __init__(self, run: _Model) -> None:
        self._run = run

    @abstractmethod
    def step(self, tokens: torch.Tensor) -> torch.Tensor: ...

    def advance(self, tokens: list[int], numbers: np.ndarray, temperature: float) -> np.ndarray:
        column = torch.tensor(tokens, device=self._run.device)[:, None]
        return drawn(self.step(column)[:, 0], numbers, temperature)


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

    def decode(self, prefix: Prefix, prompt_of_row: list[int], steps: int) -> DecodeSession:
        """As `open`, for rows that advance by single tokens, ``steps`` times at most; it ends where the next begins."""
        ...

    def rest(self) -> None:
        """Called between calls of a policy: gives back memory that is too much to keep while nothing is sampled."""
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
    """Prompts are stored once and any number of them share a batch.

    ``record`` has single steps recorded and replayed from then on; before it, and while ``static`` is None, each is run
    by itself.
    """

    path = AttentionPath.SHARED_PREFIX

    def __init__(self, model: PreTrainedModel) -> None:
        self._run = _Model(model)
        self.device = self._run.device
        self.static: StaticDecoding | None = None

    def record(self, capture: Capture) -> None:
        """Let ``capture`` record steps (`static_session`)."""
        self.static = StaticDecoding(self._run.model, self._run, self.device, capture)

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

    def decode(self, prefix: Prefix, prompt_of_row: list[int], steps: int) -> DecodeSession:
        """See Engine; of fixed shapes where ``static`` can serve."""
        session = None if self.static is None else self.static.open(prefix.state, prompt_of_row, steps)
        return session or self.open(prefix, prompt_of_row)

    def rest(self) -> None:
        """See Engine."""
        if self.static is not None:
            self.static.rest()


class _SharedSession(_Stepping):
    def __init__(self, run: _Model, prefix: Prefix, prompt_of_row: list[int]) -> None:
        super().__init__(run)
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

    def decode(self, prefix: Prefix, prompt_of_row: list[int], steps: int) -> DecodeSession:
        """See Engine."""
        return self.open(prefix, prompt_of_row)

    def rest(self) -> None:
        """See Engine: nothing is kept."""


class _RepeatedSession(_Stepping):
    def __init__(self, run: _Model, prefix: Prefix, rows: int) -> None:
        super().__init__(run)
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
