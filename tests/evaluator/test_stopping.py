"""A process that is stopped does nothing: looked up, waited for, and asked for again before it may go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from making import with_forward

from vegtts_core.evaluator import ErrorKind, ForwardEvaluator
from vegtts_core.evaluator.failures import CandidateFailure
from vegtts_core.evaluator.processes import Process
from vegtts_core.evaluator.stopping import await_stopped, is_stopped, processor_seconds
from vegtts_core.tasks import Task

#: Threads that come and go, so that some vanish while they are looked up.
_CHURN = """
import threading, time
print(flush=True)
while True:
    threads = [threading.Thread(target=time.sleep, args=(0.0005,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
#: The first thread ends, another goes on.
_HEADLESS = """
import ctypes, threading
def work():
    print(flush=True)
    while True: pass
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture(params=[_CHURN, _HEADLESS], ids=["churning", "headless"])
def busy(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", request.param], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        time.sleep(0.1)
        yield process
        process.kill()


def test_a_process_has_stopped_when_all_its_threads_have(busy: subprocess.Popen[str]) -> None:
    for _ in range(50):
        assert not any(is_stopped(busy.pid) for _ in range(20))
        busy.send_signal(signal.SIGSTOP)
        used = await_stopped(busy.pid, 10)
        assert used
        time.sleep(0.002)
        assert processor_seconds(busy.pid) == pytest.approx(used, abs=20e-6)
        busy.send_signal(signal.SIGCONT)
        while is_stopped(busy.pid):
            pass


def test_who_does_not_stop_is_not_waited_for(busy: subprocess.Popen[str]) -> None:
    assert await_stopped(busy.pid, 0.05) is None


def test_a_process_that_is_gone_has_stopped(busy: subprocess.Popen[str]) -> None:
    busy.kill()
    busy.wait()
    assert await_stopped(busy.pid, 10) == await_stopped(-1, 10) == 0


def test_a_thread_of_ones_own_that_ends_is_no_stop() -> None:
    """It is there when threads are listed and gone when it is looked at: what is left still runs."""
    for _ in range(50):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        assert not is_stopped(os.getpid())
        thread.join()


#: What the process is woken for: work; work, and a stop of its own; or nothing but to wait for the right moment.
_WOKEN = {
    "and works": ("[0 for _ in iter(int, 1)]", (signal.SIGCONT,)),
    "and is stopped again": ("[0 for _ in iter(int, 1)]", (signal.SIGCONT, signal.SIGSTOP)),
    "and waits": ("time.sleep(1000)", (signal.SIGCONT,)),
}


@pytest.mark.parametrize("name", _WOKEN)
def test_a_process_that_is_woken_is_found_out(
    evaluator: ForwardEvaluator, tasks: dict[str, Task], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whom does not matter: here by the test, as no filter lets a candidate do it."""
    doing, signals = _WOKEN[name]
    body = f"import threading, time\nthreading.Thread(target=lambda: {doing}, daemon=True).start()\nreturn A @ B"
    stop = Process.stop

    def stop_and_wake(process: Process) -> None:
        stop(process)
        if process._any_python:
            for number in signals:
                process._signal(number)
                time.sleep(0.02)

    monkeypatch.setattr(Process, "stop", stop_and_wake)
    (verdict,) = evaluator.evaluate([with_forward(tasks["1"], body)], fresh=True)
    assert verdict.error is ErrorKind.LINGERING, verdict.reason
    assert "went on while" in verdict.reason


def test_who_dies_while_it_is_stopped_has_crashed(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    session = evaluator._session_of(tasks["1"])
    process = session.start(with_forward(tasks["1"], "return A @ B"), writable_inputs=False)
    assert isinstance(process, Process)
    try:
        process.await_ready()
        process._signal(signal.SIGKILL)
        time.sleep(0.05)
        with pytest.raises(CandidateFailure) as caught:
            process.call(None)
        assert caught.value.kind is ErrorKind.CRASH and "SIGKILL" in caught.value.reason
    finally:
        process.close()


def test_helpers_whose_first_thread_has_ended_are_found(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    body = (
        "import ctypes, os, threading, time\n"
        "if os.fork() == 0:\n"
        "    threading.Thread(target=lambda: time.sleep(1000)).start()\n"
        "    ctypes.CDLL(None).syscall(60, 0)\n"
        "time.sleep(0.05)\n"
        "return A @ B"
    )
    (verdict,) = evaluator.evaluate([with_forward(tasks["1"], body)])
    assert verdict.error is ErrorKind.LINGERING and "other processes" in verdict.reason, verdict.reason
