"""A verdict as one JSON object: what ``--json`` prints and what recorded walks hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from vegtts_core.evaluator.types import Measurement, ProtocolName, Stage, Verdict
from vegtts_core.scaffolds import Refusal
from vegtts_core.tasks import Task


def measured_by(verdict: Verdict, protocol: ProtocolName) -> Measurement:
    """What this protocol, which was asked for, says."""
    found = verdict.sound if protocol is ProtocolName.SOUND else verdict.published
    assert found is not None
    return found


def described(
    task: Task, scaffold: str, device: str, protocol: ProtocolName, found: Measurement, outcome: Verdict | Refusal
) -> dict[str, Any]:
    """The object. Times are in seconds, medians over the calls; what was not measured is None (JSON has no NaN)."""
    if isinstance(outcome, Refusal):
        stage, error, reason, seconds = Stage.SCAFFOLD, f"refused_{outcome.kind}", outcome.reason, {}
    else:
        stage, error, reason, seconds = outcome.stage, outcome.error, outcome.reason, outcome.seconds
    return {
        "task": task.key,
        "name": task.name,
        "size": str(task.size),
        "scaffold": scaffold,
        "device": device,
        "protocol": str(protocol),
        "stage": str(stage),
        "correct": found.correct,
        "speedup": _number(found.speedup),
        "speedup_low": _number(found.speedup_low),
        "speedup_high": _number(found.speedup_high),
        "between_evaluations": found.between_evaluations,
        "decision": str(found.decision) if found.decision else None,
        "reward": found.reward,
        "error": str(error) if error else None,
        "reason": reason or found.reason,
        "max_error": _number(found.max_error),
        "reference_seconds": _median(found.reference_seconds),
        "candidate_seconds": _median(found.candidate_seconds),
        "floor_fraction": _number(found.floor_fraction),
        "calls": len(found.candidate_seconds),
        "seconds": {str(name): round(spent, 4) for name, spent in seconds.items()},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _median(seconds: Sequence[float]) -> float | None:
    return statistics.median(seconds) if seconds else None
