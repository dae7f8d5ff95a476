"""The last act of a run that moves weights: from what was written as it went to its tables, counts and manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vegtts_core.judging import Judge
from vegtts_core.project import find_project_root
from vegtts_core.runs import machine
from vegtts_core.runs.files import append_line, read_lines
from vegtts_core.runs.store import RunStore
from vegtts_core.training.checkpoints import adapter_sha256, step_folder, steps_on_disk
from vegtts_core.training.slots import Slot


def write_tables(
    store: RunStore, judge: Judge, slots: Sequence[Slot], records: Path, checkpoints: Path, *, processes: int
) -> None:
    """Finish ``store``'s run, whose steps' records lie in ``records``, the last of each step counting."""
    rows, facts = store.units()
    samples = [judge.row(row) for row in rows]
    steps = {record["step"]: record for record in read_lines(records)}  # the last of a step that was redone
    ordered = [steps[step] for step in sorted(steps)]
    target = store.folder / "steps.jsonl"
    target.unlink(missing_ok=True)
    for record in ordered:
        append_line(target, record)
    names = ["rollouts", "prompt_tokens", "completion_tokens", "student_tokens", "teacher_tokens"]
    names += ["sampling_seconds", "evaluation_seconds", "preparing_seconds", "update_seconds"]
    names += ["wall_seconds", "device_seconds"]
    compute = {name: sum(record.get(name, 0) for record in ordered) for name in names}
    compute["distinct_candidates"] = len(judge.verdicts)
    compute["skipped_updates"] = sum(bool(record["skipped"]) for record in ordered if record["step"] < len(ordered) - 1)
    manifest = {
        "policy": facts[0]["policy"],
        "versions": facts[0]["versions"],
        "machine": facts[0]["machine"],
        "processes": processes,
        "git": machine.git_commit(find_project_root()),
        "task_names": {slot.task.key: slot.task.name for slot in slots},
        "adapters": {str(step): adapter_sha256(step_folder(checkpoints, step)) for step in steps_on_disk(checkpoints)},
    }
    store.finish(samples, [], compute, manifest, {"steps.jsonl": len(ordered), "prompts.json": 1})
