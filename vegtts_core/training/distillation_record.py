"""What a step of self-distillation keeps of its token advantages: summaries, and a few rollouts token by token.

A reader of a run has no model to score with, so the step says it: how large the advantages were and which way they
point, and for at most one rollout of each kind what the teacher was shown and what it made of every token. Kinds are
by outcome (correct or not) and by whether a correct solution was shown; of each kind the first in the batch's order is
kept that fits, whatever its advantages were, so the examples are not picked for what they show. It knows numbers, rows
and prompts; it knows no models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vegtts_core.scaffolds.types import Prompt, Role

#: What the rollouts of a step's record may take as JSON, bytes.
ROLLOUT_BYTES = 16_000


@dataclass(frozen=True)
class Taught:
    """A rollout's row, its prompt, the teacher's, their lengths in tokens, and its advantages, float64 (T,), nats."""

    row: Mapping[str, Any]
    key: str
    prompt: Prompt
    context: Prompt
    prompt_tokens: int
    context_tokens: int
    solution: bool
    correct: bool
    advantages: np.ndarray


def distillation_record(
    taught: Sequence[Taught], decode: Callable[[Sequence[int]], str], limit: int = ROLLOUT_BYTES
) -> dict[str, Any]:
    """A JSON object about a step's rollouts; ``decode`` makes text of token ids.

    ``all``, ``correct``, ``wrong`` and each of ``tasks`` have `summary`'s fields; ``rollouts`` are the examples (see
    the module), which take at most ``limit`` bytes together.
    """
    keys = dict.fromkeys(item.key for item in taught)
    return {
        "all": summary(taught),
        "correct": summary([item for item in taught if item.correct]),
        "wrong": summary([item for item in taught if not item.correct]),
        "tasks": {key: summary([item for item in taught if item.key == key]) for key in keys},
        "rollouts": _examples(taught, decode, limit),
    }


def summary(taught: Sequence[Taught]) -> dict[str, Any]:
    """Of so many rollouts and tokens: advantages in nats (None without tokens), and what the teacher was shown.

    ``positive`` and ``zero`` are shares of the tokens; ``sum`` and ``sum_std`` are mean and deviation over rollouts of
    a completion's sum, that is of log p_teacher - log p_student of all of it (at beta 1, unclipped).
    ``context_tokens`` counts the teacher's contexts once per rollout, ``distinct_context_tokens`` equal ones once.
    """
    values = np.concatenate([item.advantages for item in taught]) if taught else np.zeros(0)
    sums = np.array([item.advantages.sum() for item in taught])
    some = len(values) > 0
    return {
        "rollouts": len(taught),
        "tokens": len(values),
        "mean": _rounded(values.mean()) if some else None,
        "std": _rounded(values.std()) if some else None,
        "mean_size": _rounded(np.abs(values).mean()) if some else None,
        "sum": _rounded(sums.mean()) if some else None,
        "sum_std": _rounded(sums.std()) if some else None,
        "positive": _rounded((values > 0).mean()) if some else None,
        "zero": _rounded((values == 0).mean()) if some else None,
        "solutions": sum(item.solution for item in taught),
        "prompt_tokens": sum(item.prompt_tokens for item in taught),
        "context_tokens": sum(item.context_tokens for item in taught),
        "distinct_context_tokens": sum({item.context.id: item.context_tokens for item in taught}.values()),
    }


def _examples(taught: Sequence[Taught], decode: Callable[[Sequence[int]], str], limit: int) -> list[dict[str, Any]]:
    kinds = [(correct, solution) for correct in (False, True) for solution in (True, False)]
    kept = []
    for kind in kinds:
        for item in taught:
            if (item.correct, item.solution) != kind or not len(item.advantages):
                continue
            example = _example(item, decode)
            size = len(json.dumps(example))
            if size <= limit:
                kept.append(example)
                limit -= size
                break
    return kept


def _example(item: Taught, decode: Callable[[Sequence[int]], str]) -> dict[str, Any]:
    return {
        "key": item.key,
        "task": item.row["task"],
        "sample": int(item.row["sample"]),
        "correct": item.correct,
        "solution": item.solution,
        "added": added_text(item.prompt, item.context),
        "prompt_tokens": item.prompt_tokens,
        "context_tokens": item.context_tokens,
        "tokens": [decode([token]) for token in item.row["token_ids"]],
        "advantages": [_rounded(value) for value in item.advantages],
    }


def added_text(prompt: Prompt, context: Prompt) -> str:
    """What the teacher's last question has after the student's."""
    before, after = (
        next(message.content for message in reversed(one.messages) if message.role is Role.USER)
        for one in (prompt, context)
    )
    return after.removeprefix(before)


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")
