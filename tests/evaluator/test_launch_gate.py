"""The launch gate, and one kernel timed against itself in the two places where kernels and references run."""

from __future__ import annotations

import math

import pytest

from vegtts_core.evaluator.cuda import CudaEvaluator
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
