"""Which thread runs where while something is timed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from making import QUICK, reference

from vegtts_core.evaluator import ForwardEvaluator
from vegtts_core.evaluator.cores import aside, spread
from vegtts_core.evaluator.processes import Process
from vegtts_core.tasks import Task

CORES = sorted(os.sched_getaffinity(0))
_THREADS = (
    "import threading as t; [t.Thread(target=input).start() for _ in range(2)]; print(flush=True); t.Event().wait()"
)

needed = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")


def several(test: Callable[..., None]) -> Callable[..., None]:
    """A test that needs two cores; one of those that run alone, since else each worker of pytest has one."""
    return pytest.mark.timing(needed(test))


@pytest.fixture
def process() -> Iterator[int]:
    """A process with three threads that wait."""
    command = [sys.executable, "-c", _THREADS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        yield one.pid
        one.kill()


def where(process: int) -> list[set[int]]:
    """The cores of each thread, the first one's first."""
    return [os.sched_getaffinity(int(thread)) for thread in sorted(os.listdir(f"/proc/{process}/task"), key=int)]


@several
def test_threads_get_cores_of_their_own(process: int) -> None:
    threads = spread(process, CORES)
    assert len(threads) == 3 and process in threads
    assert where(process) == [{CORES[0]}, {CORES[1]}, {CORES[2 % len(CORES)]}]
    for thread in threads:
        os.sched_setaffinity(thread, CORES)
    assert spread(process, CORES, threads) == threads and where(process) == [set(CORES)] * 3  # nothing new: left alone


def test_of_a_process_that_is_gone_nothing_is_asked() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as one:
        one.wait()
    assert spread(one.pid, CORES) == frozenset()


@several
def test_who_times_stands_aside() -> None:
    with aside(CORES):
        assert os.sched_getaffinity(0) == {CORES[-1]}  # all are taken: that of the first thread is left alone
    with pytest.raises(ZeroDivisionError), aside(CORES[:1]):
        assert sorted(os.sched_getaffinity(0)) == CORES[1:]
        raise ZeroDivisionError
    assert sorted(os.sched_getaffinity(0)) == CORES


@several
def test_timed_calls_are_made_from_aside(tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, list[set[int]]]] = []
    call = Process.call

    def watched(self: Process, *arguments: Any) -> Any:
        result = call(self, *arguments)
        seen.append((len(os.sched_getaffinity(0)), where(self._id)))
        return result

    monkeypatch.setattr(Process, "call", watched)
    with ForwardEvaluator([tasks["1"]], QUICK) as evaluator:
        (verdict,) = evaluator.evaluate([reference(tasks["1"])])
    assert verdict.error is None
    timed = [threads for mine, threads in seen if mine < len(CORES)]
    assert timed and sorted(os.sched_getaffinity(0)) == CORES
    assert all(len(one) == 1 for threads in timed[-4:] for one in threads)
