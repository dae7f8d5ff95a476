"""Several evaluators on one CPU, each on cores of its own: more candidates per second on a machine with many cores.

Each worker measures one candidate at a time on its cores and knows nothing of the others; they share memory bandwidth
and the last cache. A speedup is a ratio of calls that alternate, so both sides feel the neighbours; but not alike, as
repeated evaluations showed: its intervals are wide (`BetweenEvaluations.side_by_side`). Enough for rewards; what a
table reports should be measured with one worker. It knows candidates and processes; it knows no runs.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.evaluator.forward import ForwardEvaluator, OnVerdict, Progress
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import Verdict
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, get_task

#: Candidates of one task that are handed out together: enough to draw its inputs once, few enough to share work evenly.
PORTION = 12


class EvaluatorPool:
    """``settings.workers`` evaluators behind the interface of one. CPU only: a GPU measures one thing at a time."""

    def __init__(self, tasks: Sequence[Task], settings: EvaluatorSettings) -> None:
        """Raises UserError for fewer cores than workers, and for tasks that are not KernelBench level 1 by number."""
        cores = sorted(os.sched_getaffinity(0))
        if settings.workers > len(cores):
            raise UserError(f"{settings.workers} workers do not fit on {len(cores)} cores: lower evaluator.workers.")
        self._tasks = named(tasks, "set evaluator.workers to 1")
        self._settings = settings
        self._cores = [cores[place :: settings.workers] for place in range(settings.workers)]
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> EvaluatorPool:
        context = get_context("spawn")
        queue = context.SimpleQueue()
        for cores in self._cores:
            queue.put(cores)
        self._executor = ProcessPoolExecutor(
            len(self._cores), context, initializer=_start, initargs=(queue, self._tasks, self._settings)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def evaluate(
        self,
        candidates: Sequence[Candidate],
        on_verdict: OnVerdict | None = None,
        progress: Progress | None = None,
        fresh: bool = False,
    ) -> list[Verdict]:
        """As `ForwardEvaluator.evaluate`; verdicts come in any order. Equal candidates should be handed in once."""
        if self._executor is None:
            raise UserError("The evaluators are not running: use them as `with EvaluatorPool(...) as evaluator`.")
        verdicts: dict[int, Verdict] = {}
        jobs = {
            self._executor.submit(_evaluate, [candidates[i] for i in part], fresh): part
            for part in portions(candidates, PORTION)
        }
        try:
            for job in as_completed(jobs):
                for index, verdict in zip(jobs[job], job.result(), strict=True):
                    verdicts[index] = verdict
                    if on_verdict is not None:
                        on_verdict(index, verdict)
                    if progress is not None:
                        progress(len(verdicts), len(candidates))
        except BrokenProcessPool as error:
            raise UserError(
                "An evaluator's process was killed, perhaps for want of memory: lower evaluator.workers and start "
                "again; verdicts up to here are kept."
            ) from error
        return [verdicts[index] for index in range(len(candidates))]


def named(tasks: Sequence[Task], cure: str) -> list[tuple[str, str]]:
    """(key, size) of every task, from which another process makes it again.

    Raises UserError, with the ``cure``, for tasks that are not KernelBench level 1 by number.
    """
    for task in tasks:
        if task.level != 1 or get_task(task.key, task.size).source != task.source:
            raise UserError(f"Task {task.key} is not one of ours, so this process must measure it: {cure}.")
    return [(task.key, str(task.size)) for task in tasks]


def portions(candidates: Sequence[Candidate], size: int) -> list[list[int]]:
    """Indices of at most ``size`` candidates of one task each, the largest portions first."""
    by_task: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        by_task.setdefault(candidate.task_key, []).append(index)
    found = [indices[start : start + size] for indices in by_task.values() for start in range(0, len(indices), size)]
    return sorted(found, key=len, reverse=True)


_evaluator: ForwardEvaluator | None = None


def _start(queue: Any, tasks: Sequence[tuple[str, str]], settings: EvaluatorSettings) -> None:
    """In a worker: its cores, a timing lock of its own, an evaluator."""
    global _evaluator
    os.sched_setaffinity(0, queue.get())
    folder = tempfile.mkdtemp(prefix="vegtts-worker-")
    os.environ["XDG_RUNTIME_DIR"] = folder
    _evaluator = ForwardEvaluator([get_task(key, size) for key, size in tasks], settings)
    _evaluator.__enter__()
    atexit.register(_stop, folder)


def _stop(folder: str) -> None:
    if _evaluator is not None:
        _evaluator.__exit__(None, None, None)
    shutil.rmtree(folder, ignore_errors=True)


def _evaluate(candidates: Sequence[Candidate], fresh: bool) -> list[Verdict]:
    assert _evaluator is not None
    return _evaluator.evaluate(candidates, fresh=fresh)
