"""The sampling loop: rows of a session advance token by token, and leave as they finish.

It knows token ids, end-of-sequence ids and stop strings; it does not know how the model runs (``engine``), nor how
prompts were rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vegtts_core.errors import UserError
from vegtts_core.policy.engine import DecodeSession, Engine, Prefix, drawn
from vegtts_core.policy.render import CompletionText
from vegtts_core.policy.types import Completion, StopReason

NOT_FINITE = "The model's logits are not finite: use another checkpoint, or float32 for bfloat16."


@dataclass
class Row:
    """One completion in the making: ``prompt`` counts within its batch, ``numbers`` (max tokens,) lie in (0, 1)."""

    prompt: int
    numbers: np.ndarray
    text: CompletionText
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None

    def take(self, token: int, eos: frozenset[int]) -> None:
        """Add one token and decide whether it is the last."""
        self.tokens.append(token)
        if token in eos:
            self.stop = StopReason.EOS
        elif self.text.add(token):
            self.stop = StopReason.STOP_STRING
        elif len(self.tokens) == len(self.numbers):
            self.stop = StopReason.LENGTH

    def completion(self) -> Completion:
        """The finished row."""
        assert self.stop is not None
        return Completion(
            token_ids=tuple(self.tokens),
            text=self.text.text,
            stop_reason=self.stop,
            logprobs=tuple(self.logprobs),
            sampling_logprobs=tuple(self.sampling_logprobs),
        )


def run_rows(
    engine: Engine,
    prefix: Prefix,
    rows: Sequence[Row],
    temperature: float,
    eos: frozenset[int],
    progress: Callable[[int, int], None],
) -> None:
    """Sample all ``rows`` to their ends. ``progress`` gets (tokens of this step, rows still running) after each step.

    Raises UserError if the model gives logits that are not finite.
    """
    live = list(rows)
    session: DecodeSession | None = None
    steps = max(len(row.numbers) for row in rows)
    logits = prefix.logits[torch.tensor([row.prompt for row in live], device=engine.device)]
    found = drawn(logits, np.array([row.numbers[0] for row in live]), temperature)
    for step in range(1, steps + 1):
        if not np.isfinite(found[:, 1]).all():
            raise UserError(NOT_FINITE)
        tokens = found[:, 0].astype(np.int64).tolist()
        for row, token, logprob, sampling_logprob in zip(live, tokens, *found[:, 1:].T.tolist(), strict=True):
            row.logprobs.append(logprob)
            row.sampling_logprobs.append(sampling_logprob)
            row.take(token, eos)
        targets, sources, count = vacancies([row.stop is None for row in live])
        progress(len(live), count)
        if not count:
            return
        if count < len(live):
            if session is not None:
                session.leave(targets, sources, count)
            for target, source in zip(targets, sources, strict=True):
                live[target], tokens[target] = live[source], tokens[source]
            live, tokens = live[:count], tokens[:count]
        if session is None:
            session = engine.decode(prefix, [row.prompt for row in live], steps - step)
        found = session.advance(tokens, np.array([row.numbers[step] for row in live]), temperature)


def vacancies(running: Sequence[bool]) -> tuple[list[int], list[int], int]:
    """How to keep rows dense when some have finished: (places to fill, rows to move there, rows left).

    Only as many rows move as there are places vacated below the new count, so little is copied.
    """
    count = sum(running)
    targets = [place for place in range(count) if not running[place]]
    sources = [place for place in range(count, len(running)) if running[place]]
    return targets, sources, count
