"""What is measured: identical code is not faster, real differences are found, work cannot be put off the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from making import reference, with_forward

from vegtts_core.evaluator import Decision, ErrorKind, EvaluatorSettings, ForwardEvaluator, ProtocolName, SoundSettings
from vegtts_core.evaluator.processes import Process
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.tasks import Task, get_task

pytestmark = pytest.mark.timing
SETTINGS = EvaluatorSettings(
    protocols=frozenset({ProtocolName.SOUND}), sound=SoundSettings(max_seconds=0.6, warmup=2), threads=1
)
FIVE_TIMES = "for _ in range(5):\n    y = A @ B\nreturn y"


@pytest.fixture(scope="module")
def timing(tasks: dict[str, Task]) -> Iterator[ForwardEvaluator]:
    with ForwardEvaluator([tasks["1"]], SETTINGS) as evaluator:
        yield evaluator


def test_identical_code_is_not_called_faster(timing: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    same = [replace(reference(tasks["1"]), fingerprint=str(number)) for number in range(4)]
    decisions = [verdict.sound.decision for verdict in timing.evaluate(same) if verdict.sound is not None]
    assert len(decisions) == 4
    assert decisions.count(Decision.FASTER) <= 1


def test_a_new_reference_is_timed_in_memory_that_it_has_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh: list[int] = []
    call, warm_up = Process.call, TaskSession.warm_up_reference

    def counted(self: Process, *arguments: Any) -> Any:
        before = self.page_faults
        result = call(self, *arguments)
        if self is seen[0]:
            fresh.append(self.page_faults - before)
        return result

    def warmed(self: TaskSession) -> None:
        seen[0] = self.reference
        if not fresh:
            warm_up(self)
            warming.append(len(fresh))

    seen: list[Process | None] = [None]
    warming: list[int] = []
    monkeypatch.setattr(Process, "call", counted)
    monkeypatch.setattr(TaskSession, "warm_up_reference", warmed)
    softmax = get_task("23")  # temporary tensors of 24 MB
    with ForwardEvaluator([softmax], SETTINGS) as evaluator:
        evaluator.evaluate([reference(softmax)])
    (times,) = warming
    pages = 256 * 24576 * 4 // 4096
    assert fresh[0] > pages and len(fresh) > times + 6
    assert max(fresh[times:]) < pages / 10


def test_an_empty_call_can_be_timed(timing: ForwardEvaluator) -> None:
    assert timing.empty_round_trip() > 0


def test_five_times_the_work_is_slower(timing: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    (verdict,) = timing.evaluate([with_forward(tasks["1"], FIVE_TIMES)])
    assert verdict.sound is not None and verdict.sound.decision is Decision.SLOWER
    assert verdict.sound.speedup < 0.6


def test_a_fifth_of_the_work_is_faster(tasks: dict[str, Task]) -> None:
    honest = reference(tasks["1"])
    wasteful = replace(tasks["1"], source=with_forward(tasks["1"], FIVE_TIMES).source.replace("ModelNew", "Model"))
    with ForwardEvaluator([wasteful], SETTINGS) as evaluator:
        (verdict,) = evaluator.evaluate([honest])
    assert verdict.sound is not None and verdict.sound.decision is Decision.FASTER
    assert verdict.sound.speedup_low > 1.02 and verdict.sound.reward > 1.6


def test_answering_before_the_work_is_done_gains_nothing(timing: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    """It takes over the conversation with the evaluator, says that it is done, and computes from a copy afterwards."""
    body = """
    import struct, sys
    frame = sys._getframe()
    while frame.f_code.co_name != "_serve":
        frame = frame.f_back
    control, inputs = (frame.f_locals[name] for name in ("control", "inputs"))
    result = torch.full((A.shape[0], B.shape[1]), float("nan"))
    while True:
        copies = [value.clone() for value in inputs]
        control.send(b"D" + struct.pack("=Q", result.data_ptr()))
        control.recv(1)
        for _ in range(5):
            torch.mm(*copies, out=result)
        control.send(b"W")
        while (command := control.recv(1)) == b"l":
            control.send(b"L")
        if not command:
            raise SystemExit
    """
    (verdict,) = timing.evaluate([with_forward(tasks["1"], body)])
    assert verdict.error in (ErrorKind.WRONG_VALUES, ErrorKind.NOT_REPEATABLE, ErrorKind.INSENSITIVE), verdict
    assert verdict.sound is not None and verdict.sound.reward == 0


def test_more_threads_than_granted_gain_nothing(timing: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    """Reference and candidate are kept to the same core here: a second thread has nowhere to run."""
    (verdict,) = timing.evaluate([with_forward(tasks["1"], "torch.set_num_threads(4)\nreturn A @ B")])
    assert verdict.sound is not None and verdict.sound.correct
    assert verdict.sound.decision is not Decision.FASTER, verdict.sound
