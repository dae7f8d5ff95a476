"""Arithmetic below float32 is refused, unless the setting ``precision`` allows it."""

from __future__ import annotations

import pytest
import torch

from vegtts_core.evaluator import EvaluatorSettings, Precision, SoundSettings
from vegtts_core.evaluator.answers import make_draw
from vegtts_core.evaluator.comparing import scaled_error
from vegtts_core.tasks import build_reference, draw_inputs, get_task


def _errors(precision: Precision, dtype: torch.dtype) -> float:
    """Errors of a matrix product with operands rounded to ``dtype``, in budgets."""
    task = get_task("1")
    inputs = draw_inputs(task, 3, wide=False)
    settings = EvaluatorSettings(sound=SoundSettings(precision=precision))
    draw = make_draw(task, "test", build_reference(task, 0), inputs, settings)
    a, b = (x.to(dtype).float() for x in inputs if isinstance(x, torch.Tensor))
    return scaled_error(task, draw, a @ b) / draw.budget


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_is_beyond_the_budget_of_float32(dtype: torch.dtype) -> None:
    assert _errors(Precision.FLOAT32, dtype) > 1


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.FLOAT16, torch.float16),
        (Precision.TF32, torch.float16),  # as many bits of mantissa
        (Precision.BFLOAT16, torch.bfloat16),
        (Precision.BFLOAT16, torch.float16),
    ],
)
def test_what_is_allowed_is_within_the_budget(precision: Precision, dtype: torch.dtype) -> None:
    assert _errors(precision, dtype) < 1


def test_allowing_it_does_not_allow_wrong_answers() -> None:
    task = get_task("1")
    inputs = draw_inputs(task, 3, wide=False)
    settings = EvaluatorSettings(sound=SoundSettings(precision=Precision.BFLOAT16))
    draw = make_draw(task, "test", build_reference(task, 0), inputs, settings)
    assert scaled_error(task, draw, draw.expected * 1.2) / draw.budget > 1


def test_the_lower_bound_of_what_is_allowed_is_ordered() -> None:
    epsilons = [p.epsilon for p in (Precision.FLOAT32, Precision.TF32, Precision.BFLOAT16)]
    assert epsilons == sorted(epsilons) and epsilons[0] == 0
