"""The launch gate, and one kernel timed against itself in the two places where kernels and references run."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from vegtts_core.evaluator.cuda import CudaEvaluator
from vegtts_core.evaluator.cuda.gate import unseen
from vegtts_core.evaluator.cuda.launching import Launchers
from vegtts_core.evaluator.cuda.runners import KernelRunner
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import Decision, ProtocolName
from vegtts_core.kernels import nvrtc
from vegtts_core.kernels.cuda.gate import GATE, SOURCE
from vegtts_core.kernels.templates import TemplateScaffold, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Size, get_task


def test_the_evaluator_s_own_kernels_compile() -> None:
    cubin = nvrtc.compile_cubin(SOURCE)
    assert GATE.encode() in cubin and b"kernel" in cubin


@pytest.mark.parametrize(
    ("hidden", "charged"), [(0.0, 0.0), (15e-6, 0.0), (21e-6, 0.0), (50e-6, 29e-6), (1e-3, 979e-6)]
)
def test_what_the_events_did_not_see_is_charged_beyond_the_slack(hidden: float, charged: float) -> None:
    usual, seconds = 12e-6, 50e-6
    assert unseen(usual + hidden, usual, seconds) == pytest.approx(charged, abs=1e-9)


def test_a_clock_that_saw_less_than_usual_credits_nothing() -> None:
    assert unseen(-1.0, 12e-6, 50e-6) == 0.0


class _Launcher:
    """A launcher that serves without a GPU, and writes down what it was asked for."""

    def __init__(self, device: int) -> None:
        self.alive, self.mapped, self.asked = True, (1, 1, 1, 0), []

    def await_ready(self) -> None: ...

    def await_end(self) -> None: ...

    def request(self, do: str, *_: Any) -> None:
        self.asked.append(do)

    def kill(self) -> None:
        self.alive = False


@pytest.mark.parametrize("once", [True, False])
def test_a_kernel_that_a_policy_wrote_takes_its_context_with_it(monkeypatch: pytest.MonkeyPatch, once: bool) -> None:
    monkeypatch.setattr("vegtts_core.evaluator.cuda.launching.Launcher", _Launcher)
    arena = SimpleNamespace(fd=1, size=4)
    session: Any = SimpleNamespace(settings=EvaluatorSettings(), inputs=arena, weights=arena, output=arena)
    launchers, launch = Launchers(0), SimpleNamespace(grid=(1, 1, 1), block=(1, 1, 1), shared_bytes=0)
    first: Any = launchers.current()
    KernelRunner(session, first, 3, launch, False, once).close()  # type: ignore[arg-type]
    second: Any = launchers.current()
    assert (second is not first) is once and second.alive
    assert first.asked == ([] if once else ["unload"])
    launchers.close()


@pytest.mark.gpu
@pytest.mark.parametrize("key", [12, 95, 82])
def test_a_kernel_is_as_fast_in_a_launcher_as_where_references_run(key: int) -> None:
    task = get_task(key, Size.KERNELBENCH)
    candidate = TemplateScaffold(Language.CUDA).parse(task, honest_filling(task))
    assert isinstance(candidate, Candidate)
    with CudaEvaluator([task], EvaluatorSettings()) as evaluator:
        evaluator.restart(against_itself=True)
        for measured in evaluator.repeat(candidate, ProtocolName.SOUND, 3):
            assert measured.correct, measured.reason
            assert abs(math.log(measured.speedup)) < 0.03
            assert measured.decision is not Decision.FASTER
