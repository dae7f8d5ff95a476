"""Templates rendered to CUDA, compiled and run on a GPU, against the references in float64."""

import copy

import pytest
import torch
from template_grids import tunings

from vegtts_core.kernels.calling import load_cuda
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.templates import TemplateScaffold, covered, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import AnswerKind, build_reference, draw_inputs, get_task

pytestmark = pytest.mark.gpu
KEYS = [entry.key for entry in covered() if entry.family]
#: In units of the size of what was summed: far above float32's rounding, far below TF32's.
TOLERANCE = 2e-5


def on_device(value):
    return value.contiguous().cuda() if isinstance(value, torch.Tensor) else value


@torch.no_grad()
def worst_error(task, filling: str, wide: bool) -> float:
    candidate = TemplateScaffold(Language.CUDA).parse(task, filling)
    assert isinstance(candidate, Candidate) and candidate.launch is not None, candidate
    signature = KernelSignature.of(task)
    kernel = load_cuda(candidate.source, candidate.launch, signature)
    module = build_reference(task, 0, wide_weights=True).cuda()
    inputs = [on_device(value) for value in draw_inputs(task, 1, wide)]
    outputs = []
    for _ in range(3):  # a kernel with counters of its own must leave them as it found them
        output = torch.full(signature.output.shape, -1, dtype=signature.output.dtype, device="cuda")
        output = output if output.dtype == torch.int64 else output.fill_(float("nan"))
        kernel(inputs, module.state_dict(), output)
        torch.cuda.synchronize()
        outputs.append(output)
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    y = outputs[0]
    if task.contract.answer is not AnswerKind.VALUES:
        x, dim = inputs[0], task.contract.dim
        best = x.amax(dim) if task.contract.answer is AnswerKind.INDEX_OF_MAXIMUM else x.amin(dim)
        return 0.0 if torch.equal(x.gather(dim, y.unsqueeze(dim)).squeeze(dim), best) else float("inf")
    doubles = [v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs]
    exact = copy.deepcopy(module).double()(*doubles)
    scale = exact.square().mean(-1, keepdim=True).sqrt() if exact.dim() else exact.abs()
    # What overflows in float32 may come out as it likes.
    error = (y.double() - exact).abs() / (exact.abs() + scale).clamp_min(1e-30)
    inside = exact.abs() < 1e37
    return float(torch.where(inside, error, 0.0).nan_to_num(nan=float("inf")).max())


@pytest.mark.parametrize("key", KEYS)
def test_the_honest_filling_is_right(key):
    task = get_task(key)
    for wide in (False, True):
        assert worst_error(task, honest_filling(task), wide) < TOLERANCE


@pytest.mark.parametrize("key", KEYS)
def test_every_tuning_is_right(key):
    task = get_task(key)
    for filling in tunings(task, Language.CUDA, 6, seed=0):
        # Totals of millions in few float lanes are honest but coarse: a looser bound than the honest filling's.
        assert worst_error(task, filling, wide=False) < 50 * TOLERANCE, filling
