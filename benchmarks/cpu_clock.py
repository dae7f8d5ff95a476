"""What a clock on a CPU has to mind: where the cores are, what the caches hold, memory touched for the first time.

``whereabouts``: looked at for a while, the round trip of a word between the two cores of a process, and the times of
two references on them, one that moves memory and one that computes. On a virtual machine they change together, when the
host moves its cores from one cache to another. ``first_calls``: the reference of each task in new processes, call by
call: seconds, and pages of memory that the call touched for the first time. What a call frees is often too small for
the next one, so that the first dozen pay for fresh pages now and then. ``repeats``: log-speedups of one honest kernel
per task, evaluated again and again in new processes, with inputs and output in the caches as the evaluator's writing
left them, and flushed to memory, in turn. ``ratio`` is the standard deviation of the first over that of the second,
median over tasks.

    python benchmarks/cpu_clock.py [--tasks 5 12 ...] [--seconds 240] [--starts 5] [--rounds 8] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import reporting

from vegtts_core.errors import UserError
from vegtts_core.evaluator import ForwardEvaluator
from vegtts_core.evaluator.native import round_trip
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.settings import EvaluatorSettings, SoundSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.templates import TemplateScaffold, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, load_tasks

#: Evaluation tasks that do little but move memory, and that a template covers; a reference of several operators (95).
TASKS = ("5", "12", "30", "89", "95")
#: A reference that moves memory, and one that computes: a matrix times a number, and a product of matrices.
MOVES, COMPUTES = "5", "1"
CALLS = 24
#: Seconds between looks, calls that wake idle cores up, and calls that count.
_PAUSE, _IDLE, _COUNTED = 0.5, 3, 5
SETTINGS = EvaluatorSettings(
    protocols=frozenset({ProtocolName.SOUND}), sound=SoundSettings(max_seconds=0.3, confirmations=0)
)


def whereabouts(seconds: float) -> list[dict[str, float]]:
    """Looks at the cores, one after the other: ``at`` (s), ``round_trip_ns``, ``moves_ms``, ``computes_ms``."""
    warm = WarmProcess()
    warm.start()
    sessions = [TaskSession(task, SETTINGS, warm) for key in (MOVES, COMPUTES) for task in load_tasks(key, "cpu")]
    looks: list[dict[str, float]] = []
    try:
        for session in sessions:
            session.warm_up_reference()
            session.settle()
        cores = sessions[0].reference.cores
        if len(cores) < 2:
            raise UserError("Two cores are needed to see where they are: free another one, or take a larger machine.")
        start = time.monotonic()
        while (at := time.monotonic() - start) < seconds:
            look = {"at": at, "round_trip_ns": 1e9 * round_trip(cores[0], cores[1])}
            for name, session in zip(("moves", "computes"), sessions, strict=True):
                with session.aside(session.reference):
                    calls = [_milliseconds(session) for _ in range(_IDLE + _COUNTED)]
                    look[f"{name}_ms"] = statistics.median(calls[_IDLE:])
            looks.append({name: round(value, 4) for name, value in look.items()})
            time.sleep(_PAUSE)
    finally:
        for session in sessions:
            session.close()
        warm.close()
    return looks


def _milliseconds(session: TaskSession) -> float:
    """One call of a warm reference on new inputs that are in memory."""
    session.load_inputs(session.timing_inputs(0))
    session.empty_caches(session.reference_output)
    return 1e3 * session.reference.call(None).seconds


def first_calls(task: Task, starts: int) -> list[list[tuple[float, int]]]:
    """(seconds, fresh pages) of each of a new reference's calls, per start. Raises UserError if it does not run."""
    found = []
    warm = WarmProcess()
    warm.start()
    try:
        session = TaskSession(task, SETTINGS, warm)
        for _ in range(starts):
            session.drop_reference()
            reference = session.reference
            session.load_weights(reference, session.published_weights)
            session.load_inputs(session.published_draws[0][0])
            session.settle()
            calls = []
            with session.aside(reference):
                for _ in range(CALLS):
                    before = reference.page_faults
                    seconds = reference.call(None).seconds
                    calls.append((seconds, reference.page_faults - before))
            found.append(calls)
        session.close()
    finally:
        warm.close()
    return found


def repeats(task: Task, rounds: int) -> dict[str, list[float]]:
    """Log-speedups by state of the caches, ``left`` and ``flushed``. Raises UserError if the kernel fails."""
    candidate = TemplateScaffold(Language.CPP).parse(task, honest_filling(task))
    assert isinstance(candidate, Candidate), candidate
    found: dict[str, list[float]] = {"left": [], "flushed": []}
    with ForwardEvaluator([task], SETTINGS) as evaluator:
        for _ in range(rounds):
            for state, logs in found.items():
                with _caches_as_they_are() if state == "left" else nullcontext():
                    (verdict,) = evaluator.evaluate([candidate], fresh=True)
                if verdict.sound is None or not verdict.sound.correct or not verdict.sound.speedup:
                    raise UserError(f"The honest kernel of {task.key} failed: {verdict.reason}")
                logs.append(float(np.log(verdict.sound.speedup)))
    return found


@contextmanager
def _caches_as_they_are() -> Iterator[None]:
    flush: Callable[..., None] = TaskSession.empty_caches
    TaskSession.empty_caches = lambda self, output: None  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        TaskSession.empty_caches = flush


def main() -> int:
    """Measure and print: 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="names of tasks, or keys")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long the cores are looked at")
    parser.add_argument("--starts", type=int, default=5, help="new references per task")
    parser.add_argument("--rounds", type=int, default=8, help="evaluations of the kernel per task and state of caches")
    reporting.add_arguments(parser)
    options = parser.parse_args()
    try:
        return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    if options.starts < 1 or options.rounds < 2:
        raise UserError("Nothing can be said from so few: give --starts at least 1 and --rounds at least 2.")
    looks, table = whereabouts(options.seconds), list[dict[str, Any]]()
    for task in (task for name in options.tasks for task in load_tasks(name, "cpu")):
        starts, logs = first_calls(task, options.starts), repeats(task, options.rounds)
        settled = statistics.median(seconds for calls in starts for seconds, _ in calls[CALLS // 2 :])
        table.append(
            {
                "task": task.key,
                "settled_ms": 1e3 * settled,
                "seconds": [[seconds for seconds, _ in calls] for calls in starts],
                "fresh_pages": [[pages for _, pages in calls] for calls in starts],
                **{f"log_speedups_{state}": each for state, each in logs.items()},
            }
        )
        print(line(table[-1]), file=sys.stderr)
    ratios = [statistics.stdev(r["log_speedups_left"]) / statistics.stdev(r["log_speedups_flushed"]) for r in table]
    result = {
        "kind": "cpu_clock",
        "size": "cpu",
        "whereabouts": looks,
        "table": table,
        "ratio": statistics.median(ratios),
    }
    if reporting.hand_over(result, options, "cpu"):
        for row in table:
            print(line(row))
        print(f"Repeats spread {result['ratio']:.2f} times as far with caches as they are (median over tasks).")
    return 0


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    after = [max(calls[4:8]) / (1e-3 * row["settled_ms"]) for calls in row["seconds"]]
    left, flushed = (statistics.stdev(row[f"log_speedups_{state}"]) for state in ("left", "flushed"))
    return (
        f"{row['task']}: calls 5 to 8 take up to {max(after):.1f} times the settled {row['settled_ms']:.2f} ms; "
        f"repeats spread {left:.1%} with caches as they are, {flushed:.1%} flushed"
    )


if __name__ == "__main__":
    sys.exit(main())
