"""What the launch gate is for: one kernel's time in a launcher and where references run, with the gate and without.

Every task's honest template is measured by the sound protocol against itself and against the reference, each with timed
calls that wait at the gate until they are queued (`vegtts_core.kernels.cuda.gate`) and with calls that run at once.
Times are medians over the timed calls, in microseconds. ``ratio`` is the largest factor, over tasks, between the two
places' times of one kernel with the gate; ``ratio_without`` the same without it. Needs a GPU.

    python benchmarks/launch_gate.py [--tasks 12 95 ...] [--size kernelbench] [--json] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import reporting

from vegtts_core.errors import UserError
from vegtts_core.evaluator.cuda import CudaEvaluator
from vegtts_core.evaluator.cuda.runners import HereRunner, KernelRunner
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.kernels.templates import TemplateScaffold, covered, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, load_tasks

ROWS = ("kernel in a launcher", "kernel where references run", "reference")
NO_GATE = ", no gate"


def times(evaluator: CudaEvaluator, task: Task, candidate: Candidate, gated: bool) -> dict[str, float]:
    """Median microseconds by row. Raises UserError if the kernel fails."""
    KernelRunner.gated = HereRunner.gated = gated
    found: dict[str, float] = {}
    for itself in (True, False):
        evaluator.restart(against_itself=itself)
        (measured,) = evaluator.repeat(candidate, ProtocolName.SOUND, 1)
        if not measured.correct:
            raise UserError(f"The honest kernel of {task.key} failed: {measured.reason}")
        found[ROWS[1 if itself else 2]] = 1e6 * statistics.median(measured.reference_seconds)
        found[ROWS[0]] = 1e6 * statistics.median(measured.candidate_seconds)
    return found


def main() -> int:
    """Measure and print: 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["l1_seed42_eval"], help="names of tasks, or keys")
    parser.add_argument("--size", default="kernelbench", help="kernelbench (default) or cpu")
    reporting.add_arguments(parser)
    options = parser.parse_args()
    try:
        return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    templates = {entry.key for entry in covered() if entry.family}
    tasks = [task for name in options.tasks for task in load_tasks(name, options.size) if task.key in templates]
    table: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with CudaEvaluator(tasks, EvaluatorSettings()) as evaluator:
        for task in tasks:
            candidate = TemplateScaffold(Language.CUDA).parse(task, honest_filling(task))
            assert isinstance(candidate, Candidate), candidate
            try:
                both = {gated: times(evaluator, task, candidate, gated) for gated in (True, False)}
            except UserError as error:
                left_out[task.key] = str(error)
                continue
            row = {
                "task": task.key,
                **{f"{name}{'' if g else ', no gate'}": both[g][name] for name in ROWS for g in both},
            }
            table.append(row)
            print(
                *(f"{value:.1f}" if isinstance(value, float) else value for value in table[-1].values()),
                file=sys.stderr,
            )
    if not table:
        raise UserError("Not one task could be measured: " + "; ".join(left_out.values()))
    result = {"kind": "launch_gate", "tasks": options.tasks, "size": options.size, "table": table, "left_out": left_out}
    result |= {"ratio": largest(table, ""), "ratio_without": largest(table, NO_GATE)}
    if reporting.hand_over(result, options, "cuda"):
        print("\t".join(table[0]))
        for row in table:
            print(line(row))
        print(
            f"Largest factor between the places: {result['ratio']:.3f}, without the gate {result['ratio_without']:.3f}"
        )
    return 0


def line(row: dict[str, Any]) -> str:
    return "\t".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values())


def largest(table: list[dict[str, Any]], ending: str) -> float:
    """The largest factor between one kernel's times in the two places."""
    pairs = [(row[f"{ROWS[0]}{ending}"], row[f"{ROWS[1]}{ending}"]) for row in table]
    return max(max(a / b, b / a) for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
