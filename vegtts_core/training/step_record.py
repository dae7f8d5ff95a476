"""A step of a run in numbers: what its rollouts were, its score, and what its update did and cost.

It knows rows and seconds; it knows no models or evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.metrics.shares import sample_fast_p, under
from vegtts_core.training.checkpoints import adapter_sha256
from vegtts_core.training.groups import StepReport


def of_rollouts(
    step: int,
    rows: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    evaluation_seconds: float,
    evaluated: int,
    protocol: str,
) -> dict[str, Any]:
    """The step's rollouts in numbers. A prompt's tokens count once per rollout (section 4.6)."""
    prompt_tokens = sum(facts["prompt_tokens"][f"{row['scaffold']}:{row['task']}"] for row in rows)
    completion_tokens = sum(row["tokens"] for row in rows)
    rewards = np.array([row["reward"] for row in rows], dtype=float)
    right = rewards > 0
    return {
        "step": step,
        "tasks": sorted({f"{row['scaffold']}:{row['task']}" for row in rows}),
        "rollouts": len(rows),
        "correct": float(np.mean([bool(row.get(f"{protocol}_correct")) for row in rows])),
        "mean_speedup": float(rewards[right].mean()) if right.any() else None,
        "distinct_candidates": len({(row["task"], row["fingerprint"]) for row in rows if row.get("fingerprint")}),
        "evaluated": evaluated,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "student_tokens": prompt_tokens + completion_tokens,
        "teacher_tokens": 0,
        "sampling_seconds": facts["sampling_seconds"],
        "evaluation_seconds": evaluation_seconds,
    }


def score_of(rows: Sequence[dict[str, Any]], evaluator: EvaluatorSettings, protocol: ProtocolName) -> float:
    """fast_1 per sample of judged ``rows`` under ``protocol``; where nothing was right, some columns are missing."""
    frame = pd.DataFrame(rows)
    for name in ("speedup", "speedup_low", "speedup_high", "decision"):
        for each in evaluator.protocols:
            column = f"{each.value}_{name}"
            if column not in frame and (each.value == "sound" or name == "speedup"):
                frame[column] = None
    if "fingerprint" not in frame:
        frame["fingerprint"] = None
    return float(sample_fast_p(under(frame, protocol.value)))


def with_update(
    record: dict[str, Any], report: StepReport, update_seconds: float, checkpoint: Path, processes: int
) -> dict[str, Any]:
    """``record`` with what the update did, the adapter in ``checkpoint`` if it is there, and all seconds."""
    record = record | {
        "skipped": report.skipped,
        "silent_groups": report.silent_groups,
        "loss": _known(report.loss),
        "grad_norm": _known(report.grad_norm),
        "entropy": _known(report.entropy),
        "kl": _known(report.kl),
        "update_seconds": update_seconds,
    }
    if (checkpoint / "adapter_config.json").is_file():
        record["adapter_sha256"] = adapter_sha256(checkpoint)
    record["wall_seconds"] = sum(
        record.get(name, 0.0)
        for name in ("sampling_seconds", "evaluation_seconds", "preparing_seconds", "update_seconds")
    )
    record["device_seconds"] = record["wall_seconds"] * processes
    return record


def _known(value: float) -> float | None:
    return None if value != value else value
