"""Two GPUs of one machine, as far as that can be tried without one: timing on one does not wait for the other."""

from __future__ import annotations

import threading

from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.timing_lock import TimingLock


def _measured_meanwhile(held: str, wanted: str) -> bool:
    """Whether something can be measured on ``wanted`` while something else is on ``held``."""
    first, second, entered = TimingLock(held), TimingLock(wanted), threading.Event()

    def measure() -> None:
        with second.running(), second.measuring():
            entered.set()

    thread = threading.Thread(target=measure, daemon=True)
    with first.running(), first.measuring():
        thread.start()
        meanwhile = entered.wait(0.5)
    thread.join(5)
    assert entered.is_set()
    first.close()
    second.close()
    return meanwhile


def test_each_gpu_has_a_clock_of_its_own() -> None:
    assert _measured_meanwhile("cuda-first", "cuda-second")
    assert not _measured_meanwhile("cuda-first", "cuda-first")


def test_evaluators_of_one_cpu_share_the_clock() -> None:
    names = {ForwardEvaluator([]).measures_on for _ in range(2)}
    assert names == {"cpu"}
