"""What runs inside vLLM's workers: tokens are drawn here, and both of their log-probabilities taken.

vLLM reports one log-probability per token, raw or tempered, by a switch of the whole engine; neither gives the other,
since that takes a sum over the vocabulary. It does hand the logits of every step to its documented extension point,
a logits processor. Ours draws the token with the library's own random numbers (``randomness``), keeps its raw and its
tempered log-probability, and leaves the engine no choice but that token. So a seed means the same as with
`TransformersPolicy`, and scoring is the same step with the token given. It costs one softmax per token, which
replaces vLLM's own sampler. `LogprobsTaker` adds the method by which the policy fetches what was kept.

It knows rows of logits and what a request asks for; it knows no prompts, texts or adapters. Only vLLM imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm.v1.sample.logits_processor import (  # pyright: ignore[reportMissingImports]
    BatchUpdate,
    LogitsProcessor,
    process_dict_updates,
)

from vegtts_core.policy.randomness import draw, token_logprobs
from vegtts_core.policy.vllm.engine import WANTED


@dataclass
class _Request:
    """One request of the batch: its key, its temperature, and either random numbers or the tokens themselves.

    ``output`` is the engine's own growing list of the request's tokens, so its length is the position to fill.
    """

    key: str
    temperature: float
    numbers: Sequence[float] | None
    forced: Sequence[int] | None
    output: Sequence[int]

    @classmethod
    def of(cls, params: Any, prompt: Sequence[int] | None, output: Sequence[int]) -> _Request | None:
        """None for a request that is not the policy's: the engine's own warm-up."""
        wanted = (params.extra_args or {}).get(WANTED)
        if wanted is None:
            return None
        return cls(wanted["key"], wanted["temperature"], wanted.get("numbers"), wanted.get("forced"), output)


@dataclass(frozen=True)
class _Step:
    """Log-probabilities (n,) of one step, left on the device until they are asked for."""

    places: list[tuple[str, int]]
    plain: torch.Tensor
    tempered: torch.Tensor


#: Of this process, since its last call of `LogprobsTaker.take_logprobs`.
_STEPS: list[_Step] = []


class DrawingProcessor(LogitsProcessor):
    """See the module."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}

    def is_argmax_invariant(self) -> bool:
        """No: it decides what the argmax is."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests as they enter, move within and leave the engine's batch."""
        process_dict_updates(self._requests, batch_update, _Request.of)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (n, vocabulary), untempered -> the same with one finite entry per row of ours.

        A row whose prompt is not read to its end gives a token that the engine throws away; its position is filled
        again later, and the last value counts.
        """
        kinds: dict[tuple[float, bool], list[int]] = {}
        for row, request in self._requests.items():
            kinds.setdefault((request.temperature, request.forced is not None), []).append(row)
        for (temperature, forced), rows in kinds.items():
            requests = [self._requests[row] for row in rows]
            positions = [len(request.output) for request in requests]
            index = torch.tensor(rows, device=logits.device)
            part = logits[index]
            given = [
                (request.forced if forced else request.numbers)[position]  # type: ignore[index]
                for request, position in zip(requests, positions, strict=True)
            ]
            if forced:
                tokens = torch.tensor(given, device=logits.device)
                plain, tempered = token_logprobs(part, tokens, temperature)
            else:
                numbers = torch.tensor(given, dtype=torch.float64, device=logits.device)
                tokens, plain, tempered = draw(part, temperature, numbers)
            places = [(request.key, position) for request, position in zip(requests, positions, strict=True)]
            _STEPS.append(_Step(places, plain, tempered))
            logits[index] = -torch.inf
            logits[index, tokens] = 0.0
        return logits


class LogprobsTaker:
    """What the policy adds to vLLM's worker."""

    def take_logprobs(self) -> dict[str, list[list[float]]]:
        """Everything kept since the last call: key -> [raw, tempered], one entry per token, nats."""
        kept: dict[str, dict[int, list[float]]] = {}
        for step in _STEPS:
            values = torch.stack([step.plain, step.tempered], 1).tolist()
            for (key, position), pair in zip(step.places, values, strict=True):
                kept.setdefault(key, {})[position] = pair
        _STEPS.clear()
        return {
            key: [[pair[column] for _, pair in sorted(found.items())] for column in (0, 1)]
            for key, found in kept.items()
        }
