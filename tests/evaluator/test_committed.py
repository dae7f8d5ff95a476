"""The clock that ends when the evaluator holds the result: here on the CPU, with the processes that a GPU gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from committing import CommittedEvaluator
from making import QUICK, raw, reference, with_forward

from vegtts_core.evaluator import ErrorKind, ForwardEvaluator
from vegtts_core.evaluator.beside import REFUSED, TOLERATED, unslowed
from vegtts_core.evaluator.committed import timed
from vegtts_core.evaluator.failures import CandidateFailure
from vegtts_core.evaluator.runner import Call
from vegtts_core.tasks import Task


@pytest.fixture(scope="module")
def clock(tasks: dict[str, Task]) -> Iterator[ForwardEvaluator]:
    with CommittedEvaluator(tasks.values(), QUICK) as running:
        yield running


@pytest.mark.parametrize("key", ["1", "5", "51", "94"])
def test_references_pass(clock: ForwardEvaluator, tasks: dict[str, Task], key: str) -> None:
    (verdict,) = clock.evaluate([reference(tasks[key])])
    assert verdict.error is None, verdict.reason
    assert verdict.sound is not None and verdict.published is not None
    assert verdict.sound.reward > 0 and verdict.published.reward > 0


#: What goes before a class whose forward holds the process's own objects, and answers in their place.
_TAKEN = """
import sys, threading, time
import torch
import torch.nn.functional as F
from torch import nn

class ModelNew(nn.Module):
    def forward(self, x):
        frame = sys._getframe()
        while "control" not in frame.f_locals:
            frame = frame.f_back
        control, output, weights = (frame.f_locals[name] for name in ("control", "output", "weights"))
        gelu = lambda t: F.gelu(t, approximate="tanh")
        while True:
{body}
            while control.recv(1) != b"c":
                control.send(b"L")
"""
#: name: what it does in each call (x is the input, output the shared one), the kinds that it may end with
_AHEAD: dict[str, tuple[str, tuple[ErrorKind, ...]]] = {
    "answers, then works on a copy of the inputs": (
        "y = x.clone(); control.send(b'D'); time.sleep(0.01); output.copy_(gelu(y)); control.recv(1);"
        "output.copy_(gelu(y)); control.send(b'W')",
        (ErrorKind.WRONG_VALUES, ErrorKind.NOT_REPEATABLE, ErrorKind.INSENSITIVE, ErrorKind.LATE_WORK),
    ),
    "leaves the writing to a thread": (
        "y = x.clone(); late = lambda: (time.sleep(0.01), output.copy_(gelu(y)));"
        "threading.Thread(target=late).start(); control.send(b'D'); control.recv(1); control.send(b'W')",
        (ErrorKind.WRONG_VALUES, ErrorKind.NOT_REPEATABLE, ErrorKind.INSENSITIVE, ErrorKind.LATE_WORK),
    ),
    "computes into the output and keeps nothing": (
        "output.copy_(gelu(x)); control.send(b'D'); control.recv(1); control.send(b'W')",
        (ErrorKind.LATE_WORK,),
    ),
    "writes another result the second time": (
        "output.copy_(gelu(x)); control.send(b'D'); control.recv(1); output.fill_(1.0); control.send(b'W')",
        (ErrorKind.LATE_WORK,),
    ),
    "works from the inputs of the call before": (
        "output.copy_(self.__dict__.get('y', torch.zeros_like(x))); y = output.clone(); control.send(b'D');"
        "self.__dict__['y'] = gelu(x.clone()); control.recv(1); output.copy_(y); control.send(b'W')",
        (ErrorKind.WRONG_VALUES, ErrorKind.NOT_REPEATABLE, ErrorKind.INSENSITIVE),
    ),
}


@pytest.mark.parametrize("name", _AHEAD)
def test_what_is_not_there_when_the_clock_stops_does_not_count(
    clock: ForwardEvaluator, tasks: dict[str, Task], name: str
) -> None:
    body, kinds = _AHEAD[name]
    lines = "\n".join(f"            {line.strip()}" for line in body.split(";"))
    (verdict,) = clock.evaluate([raw(tasks["88"], _TAKEN.format(body=lines))])
    assert verdict.sound is not None and verdict.sound.reward == 0
    assert verdict.error in kinds, verdict.reason


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("return x", ErrorKind.INPUT_ALIASED),
        ("return x[1:]", ErrorKind.WRONG_SHAPE),
        ("raise ValueError('no')", ErrorKind.EXCEPTION),
        ("return x.relu_()", ErrorKind.INPUT_MODIFIED),
        ("while True: pass", ErrorKind.TIMEOUT),
        ("import os\nos.fork() or time.sleep(9)\nreturn F.gelu(x, approximate='tanh')", ErrorKind.LINGERING),
    ],
)
def test_failures_keep_their_kinds(clock: ForwardEvaluator, tasks: dict[str, Task], body: str, kind: ErrorKind) -> None:
    (verdict,) = clock.evaluate([with_forward(tasks["88"], f"import time\n{body}")])
    assert verdict.error is kind, verdict.reason
    assert verdict.sound is not None and verdict.sound.reward == 0


class _Steps:
    """Process and memory in one, that write down in which order they are asked."""

    def __init__(self, kept: bool = True) -> None:
        self.steps: list[str] = []
        self._kept = kept

    def begin(self) -> float:
        self.steps.append("begin")
        return 0.0

    def await_done(self, limit: float | None = None) -> float:
        self.steps.append(f"done within {limit}")
        return 0.0

    def stop(self) -> None:
        self.steps.append("stop")

    def write(self) -> float:
        self.steps.append("write")
        return 0.0

    def show(self) -> None:
        self.steps.append("show")

    def keep(self) -> None:
        self.steps.append("keep")

    def await_kept(self) -> None:
        self.steps.append("kept")

    def settle(self) -> None:
        self.steps.append("settle")

    def is_kept(self) -> bool:
        return self._kept


def test_the_order_of_one_call() -> None:
    both = _Steps()
    call = timed(both, both, lambda: both.steps.append("overwrite"), limit=7)
    order = ["show", "begin", "done within 7", "keep", "overwrite", "kept", "stop", "settle", "write"]
    assert both.steps == order
    assert call.seconds > 0 and call.writing_seconds == 0
    assert timed(both, both, None, copying_seconds=60).seconds == pytest.approx(1e-9)
    changed = _Steps(kept=False)
    with pytest.raises(CandidateFailure, match="not the same when it was asked for again"):
        timed(changed, changed, None)


def test_a_reference_that_is_slowed_down_is_noticed() -> None:
    alone = [1e-3] * 9
    same = [Call(1.04e-3, 0.0)] * 6
    assert unslowed(alone, same) == same
    slower = unslowed(alone, [Call(1.25e-3, 0.0)] * 6)
    assert [call.seconds for call in slower] == pytest.approx([1e-3] * 6)
    with pytest.raises(CandidateFailure, match="kept the device busy"):
        unslowed(alone, [Call(2e-3, 0.0)] * 6)
    assert 1 < TOLERATED < REFUSED
    assert unslowed([], same) == same and unslowed(alone, []) == []
