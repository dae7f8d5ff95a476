"""Per task of a run: the reference as its own candidate (A/A), its work, and the least time its device allows.

These rows say what a speedup in the run can mean: how long the reference takes, how far that is from the floor, and
what each protocol makes of identical code.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from vegtts_core.errors import DeviceMemoryError
from vegtts_core.evaluator import Evaluator
from vegtts_core.kernels.ceilings import Ceilings, floor_seconds
from vegtts_core.scaffolds import Candidate, ForwardScaffold
from vegtts_core.tasks import Task
from vegtts_core.tasks.work import least_flop


def reference_rows(
    evaluator: Evaluator, scaffold: ForwardScaffold, tasks: Sequence[Task], ceilings: Ceilings
) -> Iterator[dict[str, Any]]:
    """One JSON-ready row per task; times in seconds, work in flop and bytes."""
    for task in tasks:
        candidate = scaffold.parse(task, task.forward_body)
        if not isinstance(candidate, Candidate):
            # A user's own reference may use what the scaffold forbids to a policy; it is then not measured.
            yield _row(task, ceilings) | {"note": candidate.reason}
            continue
        try:
            verdict = evaluator.evaluate([candidate])[0]
        except DeviceMemoryError as error:
            # As a body it needs two processes' memory; kernels of the same task may fit.
            yield _row(task, ceilings) | {"note": str(error)}
            continue
        row = _row(task, ceilings) | {"note": verdict.reason}
        if verdict.sound is not None and verdict.sound.reference_seconds:
            row |= {
                "reference_seconds": statistics.median(verdict.sound.reference_seconds),
                "sound_speedup": verdict.sound.speedup,
                "sound_speedup_low": verdict.sound.speedup_low,
                "sound_speedup_high": verdict.sound.speedup_high,
                "sound_decision": verdict.sound.decision.value if verdict.sound.decision else None,
                "sound_between_evaluations": verdict.sound.between_evaluations,
            }
        if verdict.published is not None:
            row |= {"published_speedup": verdict.published.speedup}
            if verdict.published.reference_seconds and row["reference_seconds"] is None:
                row["reference_seconds"] = statistics.median(verdict.published.reference_seconds)
        yield row


def _row(task: Task, ceilings: Ceilings) -> dict[str, Any]:
    return {
        "task": task.key,
        "task_id": task.id,
        "name": task.name,
        "family": task.family.value if task.family else None,
        "size": task.size.value,
        "flop": task.flop,
        "min_bytes": task.min_bytes,
        "floor_seconds": floor_seconds(least_flop(task), task.min_bytes, ceilings),
        "ceiling_bytes_per_second": ceilings.bytes_per_second,
        "ceiling_flop_per_second": ceilings.flop_per_second,
        "reference_seconds": None,
        "sound_speedup": None,
        "sound_speedup_low": None,
        "sound_speedup_high": None,
        "sound_decision": None,
        "sound_between_evaluations": None,
        "published_speedup": None,
    }
