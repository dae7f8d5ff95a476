"""A/A calibration: identical code against itself. How often does each protocol call it faster?

    python -m vegtts_core.evaluator.calibration [--device cpu|cuda] [--tasks l1_seed42_eval] [--repeats 50]

The reference of each task is its own candidate (scaffold ``forward``), ``--repeats`` times under each protocol, with
new draws, memory and processes each time unless ``--per-process`` says otherwise. Its true speedup is 1. With
``--scaffold module`` it is its own candidate as a whole module; on a GPU ``--scaffold template`` takes the honest
kernel of each task's template instead, once in a launcher and once where references run.

Writes ``calibration.parquet`` (one row per measurement) and ``manifest.json`` into ``--out``, anew after every task,
and prints the table and how far evaluations lie from 1 beyond their noise, for the setting ``between_evaluations`` of
this device (`vegtts_core.evaluator.repeats`; for kernels, `vegtts_core.runs.repeats` says more: it compares several
cards). Run again with the same parameters, it goes on where it stopped. Needs a quiet machine: about half an hour on
two cores with ``--per-process 10``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vegtts_core.errors import UserError
from vegtts_core.evaluator.choice import evaluator_for
from vegtts_core.evaluator.cuda import CudaEvaluator
from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.repeats import reach_of_tasks, reaches_of_identical
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import Decision, Measurement, ProtocolName
from vegtts_core.kernels.templates import TemplateScaffold, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.project import find_project_root
from vegtts_core.runs import machine
from vegtts_core.runs.files import sha256_of, write_atomically, write_json
from vegtts_core.scaffolds import ForwardScaffold, ModuleScaffold, Refusal
from vegtts_core.scaffolds.module import renamed
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, load_tasks

Row = dict[str, Any]

#: Scaffolds that can be calibrated, with the end of their folders' names.
_SUFFIX = {"forward": "", "module": "_modules", "template": "_kernels"}


@dataclass(frozen=True)
class Share:
    """How often identical code was called faster under a protocol, with the bounds of the 95% interval (Wilson)."""

    protocol: ProtocolName
    measurements: int
    faster: int
    slower: int
    same: int
    undecided: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Of all measurements, those called faster."""
        return self.faster / self.measurements if self.measurements else math.nan


def itself(task: Task, scaffold: str = "forward") -> Candidate:
    """The task's reference as a candidate, or its honest CUDA template. Raises UserError if there is none."""
    if scaffold == "template":
        candidate = TemplateScaffold(Language.CUDA).parse(task, honest_filling(task))
    elif scaffold == "module":
        candidate = ModuleScaffold().parse(task, renamed(task.source))
    else:
        candidate = ForwardScaffold().parse(task, task.forward_body)
    if isinstance(candidate, Refusal):
        raise UserError(f"The reference of {task.key} is no candidate ({candidate.reason}): leave this task out.")
    return candidate


def measure(
    evaluator: ForwardEvaluator,
    tasks: Iterable[Task],
    repeats: int,
    per_process: int,
    done: Callable[[list[Row]], None],
    left_out: Callable[[Task, UserError], None],
    before: Sequence[Row] = (),
    scaffold: str = "forward",
) -> list[Row]:
    """A row per measurement, ``repeats`` per task and protocol; ``done`` gets all rows so far after every task.

    ``left_out`` hears of tasks that cannot be measured here (too large for the device): they have no rows.
    ``before`` are rows of an earlier run: their tasks are not measured again.
    """
    rows = list(before)
    measured = {row["task"] for row in rows}
    for task in tasks:
        if task.key in measured:
            continue
        try:
            rows += _of_task(evaluator, itself(task, scaffold), task, repeats, per_process)
        except UserError as error:
            left_out(task, error)
        else:
            done(rows)
    return rows


def _of_task(
    evaluator: ForwardEvaluator, candidate: Candidate, task: Task, repeats: int, per_process: int
) -> list[Row]:
    rows: list[Row] = []
    taken = dict.fromkeys(evaluator.settings.protocols, 0)
    while min(taken.values()) < repeats:
        evaluator.forget()  # as between evaluations
        for protocol in sorted(taken):
            count = min(per_process, repeats - taken[protocol])
            measured = evaluator.repeat(candidate, protocol, count) if count > 0 else []
            rows += [row_of(task, protocol, taken[protocol] + n, m) for n, m in enumerate(measured)]
            taken[protocol] += count
    return rows


def row_of(task: Task, protocol: ProtocolName, repeat: int, measured: Measurement) -> Row:
    """One measurement as a row; times in seconds, medians over its calls."""
    clocks = [state.sm_mhz for state in measured.device_states]
    return {
        "task": task.key,
        "size": task.size.value,
        "protocol": protocol.value,
        "repeat": repeat,
        "correct": measured.correct,
        "reason": measured.reason,
        "speedup": measured.speedup,
        "speedup_low": measured.speedup_low,
        "speedup_high": measured.speedup_high,
        "decision": measured.decision.value if measured.decision else None,
        "between_evaluations": measured.between_evaluations,
        "pairs": len(measured.candidate_seconds),
        "discarded_pairs": measured.discarded_pairs,
        "process_pairs": measured.process_pairs,
        "reference_seconds": _median(measured.reference_seconds),
        "candidate_seconds": _median(measured.candidate_seconds),
        "sm_mhz_low": min(clocks, default=None),
        "sm_mhz_high": max(clocks, default=None),
    }


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else math.nan


def shares(rows: Sequence[Row]) -> list[Share]:
    """The table: one line per protocol. Measurements that failed count, as not faster."""
    found = []
    for protocol in ProtocolName:
        decisions = [row["decision"] for row in rows if row["protocol"] == protocol.value]
        count = {decision: decisions.count(decision.value) for decision in Decision}
        low, high = wilson(count[Decision.FASTER], len(decisions))
        if decisions:
            found.append(
                Share(
                    protocol,
                    len(decisions),
                    count[Decision.FASTER],
                    count[Decision.SLOWER],
                    count[Decision.SAME],
                    count[Decision.UNDECIDED],
                    low,
                    high,
                )
            )
    return found


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95% interval of a share; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share, square = hits / trials, z * z / trials
    middle = (share + square / 2) / (1 + square)
    spread = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def write(folder: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """``calibration.parquet`` and ``manifest.json``, each in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    path = folder / "calibration.parquet"
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
    table_of = [vars(share) | {"share": share.share} for share in shares(rows)]
    files = {path.name: {"rows": len(rows), "sha256": sha256_of(path)}}
    found = {"shares": table_of, "between_evaluations": reach(rows)}
    write_json(folder / "manifest.json", {"kind": "calibration", **facts, **found, "files": files})


def reach(rows: Sequence[Row]) -> float | None:
    """The half-width (log) for what differs between evaluations that these ask for; None if none was measured."""
    sound = [row for row in rows if row["protocol"] == ProtocolName.SOUND and row["speedup_low"] > 0]
    found = reach_of_tasks(reaches_of_identical(sound), [row["task"] for row in sound])[0]
    return None if math.isnan(found) else found


def written_before(folder: Path, parameters: dict[str, Any]) -> list[Row]:
    """The rows in this folder. Raises UserError if they were measured with other parameters."""
    manifest, table = folder / "manifest.json", folder / "calibration.parquet"
    if not (manifest.is_file() and table.is_file()):
        return []
    if json.loads(manifest.read_text())["parameters"] != parameters:
        raise UserError(f"{folder} holds a calibration with other parameters: name another folder with --out.")
    return pq.read_table(table).to_pylist()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, print: 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m vegtts_core.evaluator.calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--scaffold",
        default="forward",
        choices=tuple(_SUFFIX),
        help="module: the whole module; template: a kernel against itself, where launched and where references run",
    )
    parser.add_argument("--tasks", default="l1_seed42_eval", help="a name of tasks, or one key")
    parser.add_argument("--size", default="cpu", help="cpu (default) or kernelbench")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--per-process", type=int, default=1, help="measurements that one process takes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no task after so long")
    parser.add_argument(
        "--out", type=Path, help="folder (default: data/calibration/DEVICE, DEVICE_modules or DEVICE_kernels)"
    )
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(chosen: argparse.Namespace) -> int:
    tasks = load_tasks(chosen.tasks, chosen.size)
    if chosen.scaffold == "template" and chosen.device != "cuda":
        raise UserError("On the CPU a kernel's reference is no kernel: use --scaffold forward, or --device cuda.")
    settings = EvaluatorSettings()
    root = find_project_root()
    folder = chosen.out or root / "data" / "calibration" / f"{chosen.device}{_SUFFIX[chosen.scaffold]}"
    start = time.monotonic()
    facts: dict[str, Any] = {
        "parameters": {
            "device": chosen.device,
            "tasks": [task.key for task in tasks],
            **({"scaffold": chosen.scaffold} if chosen.scaffold != "forward" else {}),
            "size": chosen.size,
            "repeats": chosen.repeats,
            "per_process": chosen.per_process,
            "settings": settings.model_dump(mode="json"),
        },
        "machine": machine.device(chosen.device),
        "versions": machine.versions(),
        **machine.git_commit(root),
    }

    before = written_before(folder, facts["parameters"])

    def done(rows: list[Row]) -> None:
        write(folder, rows, facts | {"seconds": round(time.monotonic() - start, 1)})
        for share in shares(rows):
            print(f"{rows[-1]['task']:12} {share.protocol:10} {share.faster}/{share.measurements} faster", flush=True)

    def left_out(task: Task, error: UserError) -> None:
        facts.setdefault("left_out", {})[task.key] = str(error)
        print(f"{task.key:12} left out: {error}", flush=True)

    in_time = (task for task in tasks if time.monotonic() - start < chosen.seconds)
    with evaluator_for(chosen.scaffold, chosen.device, tasks, settings) as evaluator:
        if isinstance(evaluator, CudaEvaluator):
            evaluator.restart(against_itself=chosen.scaffold == "template")
        rows = measure(evaluator, in_time, chosen.repeats, chosen.per_process, done, left_out, before, chosen.scaffold)
    if not rows:
        raise UserError("Not one task could be measured: the lines above say why.")
    print(f"{'protocol':10} {'n':>6} {'faster':>7} {'share':>7}  95% interval     slower  same  undecided")
    for s in shares(rows):
        interval = f"{s.low:.4f} to {s.high:.4f}"
        print(
            f"{s.protocol:10} {s.measurements:6} {s.faster:7} {s.share:7.4f}  {interval} {s.slower:6} {s.same:5} "
            f"{s.undecided:9}"
        )
    print(f"between evaluations: {reach(rows) or 0:.4f} (log-ratio, 95%)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
