"""Processes, memory and files: nothing is left behind, whoever dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from making import QUICK, reference, with_forward

from vegtts_core.errors import UserError
from vegtts_core.evaluator import ErrorKind, EvaluatorSettings, ForwardEvaluator, ProtocolName, Verdict
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

SOUND_ONLY = QUICK.model_copy(update={"protocols": frozenset({ProtocolName.SOUND})})


def _children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def _gone(pids: set[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_two_hundred_candidates_leave_nothing(tasks: dict[str, Task]) -> None:
    task = tasks["1"]
    before = _children()
    with ForwardEvaluator([task], SOUND_ONLY) as evaluator:
        evaluator.evaluate([with_forward(task, "return A")])
        files = len(os.listdir("/proc/self/fd"))
        time.sleep(0.5)  # a process that has ended may be listed a moment longer
        processes = len(_children())
        verdicts = evaluator.evaluate([with_forward(task, f"raise ValueError({number})") for number in range(200)])
        assert all("ValueError" in verdict.reason for verdict in verdicts)
        time.sleep(0.5)
        assert (len(os.listdir("/proc/self/fd")), len(_children())) == (files, processes)
        started = _children() - before
    assert _gone(started)


def test_wrong_ones_leave_nothing_either(tasks: dict[str, Task]) -> None:
    """They are ended without waiting, which must not add up where nothing is timed."""
    task = tasks["1"]
    with ForwardEvaluator([task], SOUND_ONLY) as evaluator:
        evaluator.evaluate([with_forward(task, f"return A + {number}") for number in range(5)])
        files = len(os.listdir("/proc/self/fd"))
        verdicts = evaluator.evaluate([with_forward(task, f"return B + {number}") for number in range(30)])
        assert {verdict.error for verdict in verdicts} == {ErrorKind.WRONG_VALUES}
        assert len(os.listdir("/proc/self/fd")) == files


def test_equal_candidates_are_evaluated_once_and_in_order(tasks: dict[str, Task]) -> None:
    gelu, matmul = tasks["88"], tasks["1"]
    bad, other = with_forward(matmul, "return A"), with_forward(gelu, "return x.T")
    seen: list[tuple[int, Verdict]] = []
    progress: list[tuple[int, int]] = []
    with ForwardEvaluator([gelu, matmul], QUICK) as evaluator:
        verdicts = evaluator.evaluate(
            [bad, other, bad],
            on_verdict=lambda index, verdict: seen.append((index, verdict)),
            progress=lambda done, total: progress.append((done, total)),
        )
        assert evaluator.evaluate([other])[0] is verdicts[1]
    assert verdicts[0] is verdicts[2]
    assert [verdict.task_key for verdict in verdicts] == [matmul.key, gelu.key, matmul.key]
    assert sorted(index for index, _ in seen) == [0, 1, 2]
    assert all(verdict is verdicts[index] for index, verdict in seen)
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_the_warm_process_is_replaced_when_it_is_lost(tasks: dict[str, Task]) -> None:
    task = tasks["1"]
    with ForwardEvaluator([task], SOUND_ONLY) as evaluator:
        assert evaluator.evaluate([reference(task)])[0].error is None
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()  # the warm process, and with it the reference's, which may be gone by then
        (verdict,) = evaluator.evaluate([with_forward(task, "return A.matmul(B)")])
        assert verdict.error is None, verdict.reason


def test_a_killed_evaluator_takes_everything_with_it() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from making import with_forward\n"
        "from vegtts_core.evaluator import ForwardEvaluator\n"
        "from vegtts_core.tasks import get_task\n"
        "task = get_task('1')\n"
        "with ForwardEvaluator([task]) as evaluator:\n"
        "    print('started', flush=True)\n"
        "    evaluator.evaluate([with_forward(task, 'while True: pass')])\n"
    )
    command = [sys.executable, "-c", script, os.path.dirname(__file__)]
    everyone = set(psutil.pids())
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        end = time.monotonic() + 60
        busy: list[psutil.Process] = []
        while not busy and time.monotonic() < end:  # until the candidate is in its loop
            time.sleep(0.1)
            for other in psutil.process_iter():
                try:
                    if other.pid not in everyone | {process.pid} and _boot_of(other) == process.pid:
                        busy = [other] if other.cpu_times().user > 0.3 and other.ppid() != process.pid else busy
                except psutil.Error:
                    continue
        assert busy
        family = {p.pid for p in psutil.process_iter() if p.pid not in everyone and _boot_of(p) == process.pid}
        assert len(family) >= 3
        process.send_signal(signal.SIGKILL)
    assert _gone(family)


def _boot_of(process: psutil.Process) -> int:
    """The evaluator's process id in the command line that all processes forked from the warm one share."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return 0
    return int(line[-2]) if len(line) > 4 and "vegtts_core.evaluator.zygote" in line[3] else 0


def test_mistakes_are_named(tasks: dict[str, Task]) -> None:
    task = tasks["1"]
    with pytest.raises(UserError, match="cuda"):
        ForwardEvaluator([task], device="cuda")
    with pytest.raises(UserError, match="with ForwardEvaluator"):
        ForwardEvaluator([task]).evaluate([reference(task)])
    with ForwardEvaluator([], QUICK) as evaluator, pytest.raises(UserError, match="level1/1"):
        evaluator.evaluate([reference(task)])
    with pytest.raises(ValueError, match="trials"):
        EvaluatorSettings.model_validate({"trials": 3})


def test_one_protocol_alone(tasks: dict[str, Task]) -> None:
    task = tasks["88"]
    settings = QUICK.model_copy(update={"protocols": frozenset({ProtocolName.PUBLISHED})})
    with ForwardEvaluator([task], settings) as evaluator:
        good, bad = evaluator.evaluate([reference(task), with_forward(task, "return x")])
    assert good.sound is None and good.error is None and good.published is not None and good.published.correct
    assert bad.sound is None and bad.error is not None and "correctness trial 1" in bad.reason


def test_a_reference_outlives_the_limit_of_candidates(tasks: dict[str, Task]) -> None:
    task = tasks["1"]
    limits = SOUND_ONLY.limits.model_copy(update={"candidate_seconds": 4.0})
    with ForwardEvaluator([task], SOUND_ONLY.model_copy(update={"limits": limits})) as evaluator:
        candidate = reference(task)
        first = _reference_of(evaluator, candidate)
        time.sleep(4.5)
        assert _reference_of(evaluator, candidate) == first


def test_building_a_module_may_take_longer_than_all_its_calls(tasks: dict[str, Task]) -> None:
    task = tasks["1"]
    slow = with_forward(task, task.forward_body)
    slow = replace(slow, source=f"import time\ntime.sleep(7)\n{slow.source}", fingerprint="slow")
    limits = SOUND_ONLY.limits.model_copy(update={"candidate_seconds": 6.0, "build_seconds": 30.0})
    with ForwardEvaluator([task], SOUND_ONLY.model_copy(update={"limits": limits})) as evaluator:
        (verdict,) = evaluator.evaluate([slow])
    assert verdict.error is None, verdict.reason


def _reference_of(evaluator: ForwardEvaluator, candidate: Candidate) -> int:
    """The one process that is left once a candidate was measured, beside the warm one's own."""
    (measured,) = evaluator.repeat(candidate, ProtocolName.SOUND, 1)
    assert measured.correct
    time.sleep(0.3)
    return max(_children())
