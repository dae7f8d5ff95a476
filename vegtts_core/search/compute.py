"""What a Best-of-N run cost: rollouts, tokens and seconds, and what a server counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vegtts_core.judging import Judge
from vegtts_core.policy.types import Usage


def compute_of(samples: Sequence[dict[str, Any]], facts: Sequence[dict[str, Any]], judge: Judge) -> dict[str, Any]:
    """Section 4.6: rollouts and tokens. The paper counts a prompt's tokens once per rollout; so does this."""
    lengths = {key: length for fact in facts for key, length in fact["prompt_tokens"].items()}
    prompt_tokens = sum(lengths[row["task"]] for row in samples)
    completion_tokens = sum(row["tokens"] for row in samples)
    sampling = sum(fact["sampling_seconds"] for fact in facts)
    evaluation = sum(sum(verdict.seconds.values()) for verdict in judge.verdicts.values())
    return {
        "rollouts": len(samples),
        "prompt_tokens": prompt_tokens,
        "prompt_tokens_computed": sum(sum(fact["prompt_tokens"].values()) for fact in facts),
        "completion_tokens": completion_tokens,
        "student_tokens": prompt_tokens + completion_tokens,
        "teacher_tokens": 0,
        "distinct_candidates": len(judge.verdicts),
        "sampling_seconds": sampling,
        "evaluation_seconds": evaluation,
        "retiming_seconds": sum(sum(verdict.seconds.values()) for verdict in judge.retimed.values()),
        "wall_seconds": sampling + evaluation,
        "device_seconds": sampling + evaluation,
        **_served(facts),
    }


def _served(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a server counted (and may charge for), requests that were cut off included; nothing without a server."""
    total = sum((Usage(**fact["served"]) for fact in facts if "served" in fact), Usage())
    return {"served": dataclasses.asdict(total)} if total.requests else {}
