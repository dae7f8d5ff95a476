"""From completions and verdicts to rows of the samples table, and verdicts to JSON and back. Decides nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from vegtts_core.evaluator.types import Measurement, Verdict
from vegtts_core.policy.types import Completion, PolicyIdentity
from vegtts_core.tasks.types import Task

_VERDICT = TypeAdapter(Verdict)


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A plain dictionary (NaN stays NaN, which Python's json reads back)."""
    return dataclasses.asdict(verdict)


def verdict_from_json(value: dict[str, Any]) -> Verdict:
    """The inverse of `verdict_to_json`."""
    return _VERDICT.validate_python(value)


def completion_columns(
    task: Task, seed: int, step: int, sample: int, prompt_id: str, completion: Completion
) -> dict[str, Any]:
    """The columns of a rollout that are known before it is evaluated; null for what its policy could not tell."""
    return {
        "task": task.key,
        "task_id": task.id,
        "seed": seed,
        "step": step,
        "sample": sample,
        "prompt_id": prompt_id,
        "completion": completion.text,
        "stop_reason": completion.stop_reason.value,
        "tokens": len(completion.logprobs),
        "token_ids": list(completion.token_ids) if completion.token_ids or not completion.logprobs else None,
        "logprobs": list(completion.logprobs),
        "sampling_logprobs": list(completion.sampling_logprobs),
        "mean_logprob": _mean(completion.logprobs),
        "sampling_mean_logprob": _mean(completion.sampling_logprobs),
    }


def identity_facts(identity: PolicyIdentity) -> dict[str, Any]:
    """What wrote the completions, for the manifest; its versions go elsewhere."""
    facts = dataclasses.asdict(identity)
    del facts["versions"]
    return facts


def verdict_columns(verdict: Verdict, reward: float) -> dict[str, Any]:
    """The columns of a rollout that its verdict fills. Equal candidates share one verdict."""
    columns: dict[str, Any] = {
        "stage": verdict.stage.value,
        "error": verdict.error.value if verdict.error else None,
        "reason": verdict.reason,
        "max_error": _known(verdict.sound.max_error) if verdict.sound else None,
        "reward": reward,
        "evaluation_seconds": sum(verdict.seconds.values()),
    }
    for name, measurement in (("published", verdict.published), ("sound", verdict.sound)):
        columns |= _measurement_columns(name, measurement)
    return columns


def retimed_columns(verdict: Verdict) -> dict[str, Any]:
    """The columns that a second evaluation of the candidate fills: what tables report once it was selected."""
    columns: dict[str, Any] = {"retimed_correct": verdict.error is None}
    if verdict.published is not None:
        columns["retimed_published_speedup"] = _known(verdict.published.speedup)
    if verdict.sound is not None:
        columns["retimed_sound_speedup"] = _known(verdict.sound.speedup)
        columns["retimed_sound_speedup_low"] = _known(verdict.sound.speedup_low)
        columns["retimed_sound_decision"] = verdict.sound.decision.value if verdict.sound.decision else None
    return columns


def _measurement_columns(name: str, measurement: Measurement | None) -> dict[str, Any]:
    if measurement is None:
        return {}
    columns: dict[str, Any] = {
        f"{name}_correct": measurement.correct,
        f"{name}_speedup": _known(measurement.speedup),
        f"{name}_reference_seconds": list(measurement.reference_seconds),
        f"{name}_candidate_seconds": list(measurement.candidate_seconds),
    }
    if name == "sound":
        columns |= {
            "sound_speedup_low": _known(measurement.speedup_low),
            "sound_speedup_high": _known(measurement.speedup_high),
            "sound_decision": measurement.decision.value if measurement.decision else None,
            "sound_between_evaluations": measurement.between_evaluations if measurement.correct else None,
        }
    return columns


def _mean(values: Sequence[float]) -> float | None:
    return _known(sum(values) / len(values)) if values else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
