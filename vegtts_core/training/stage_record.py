"""A stage of a warm start in numbers: what was written, what of it was right and kept, and what it cost.

It knows rows and seconds; it knows no models or evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def of_stage(
    stage: int,
    rows: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    *,
    kept: int,
    updates: int,
    loss: float | None,
    evaluation_seconds: float,
    update_seconds: float,
) -> dict[str, Any]:
    """The record of ``stage``, whose judged ``rows`` and ``facts`` the run store has; demonstrations cost no tokens."""
    right = [row for row in rows if row["reward"] > 0]
    sampled = [row for row in rows if row["logprobs"]]
    tokens = sum(facts["prompt_tokens"][f"{row['scaffold']}:{row['task']}"] + row["tokens"] for row in sampled)
    record = {
        "step": stage,
        "rollouts": len(sampled),
        "demonstrations": len(rows) - len(sampled),
        "correct": len(right) / max(1, len(rows)),
        "tasks_with_correct": len({f"{row['scaffold']}:{row['task']}" for row in right}),
        "tasks": len({f"{row['scaffold']}:{row['task']}" for row in rows}),
        "kept": kept,
        "updates": updates,
        "loss": loss,
        "student_tokens": tokens,
        "teacher_tokens": 0,
        "sampling_seconds": facts["sampling_seconds"],
        "evaluation_seconds": evaluation_seconds,
        "update_seconds": update_seconds,
    }
    record["wall_seconds"] = record["device_seconds"] = sum(
        record[name] for name in ("sampling_seconds", "evaluation_seconds", "update_seconds")
    )
    return record
