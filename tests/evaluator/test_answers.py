"""The answer key: what counts as right, at every magnitude, with NaN, infinities and ties."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.answers import Draw, make_draw, run_reference
from vegtts_core.evaluator.comparing import close_to_timed, scaled_error
from vegtts_core.tasks import Task, build_reference, draw_inputs, get_task

SETTINGS = EvaluatorSettings(threads=1)


def _draw(task: Task, wide: bool = False, seed: int = 7) -> Draw:
    module = build_reference(task, seed, wide_weights=wide)
    return make_draw(task, "test", module, draw_inputs(task, seed, wide), SETTINGS)


def _errors(task: Task, draw: Draw, output: torch.Tensor) -> float:
    return scaled_error(task, draw, output) / draw.budget


@pytest.mark.parametrize("key", ["1", "33", "48", "88", "97"])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_reference_fits_its_budget_and_half_precision_does_not(key: str, wide: bool, dtype: torch.dtype) -> None:
    task = get_task(key)
    draw = _draw(task, wide)
    assert draw.expected.dtype is torch.float32
    module = build_reference(task, 7, wide_weights=wide)
    assert _errors(task, draw, run_reference(task, module, draw.inputs, 1)) <= 0.126  # 1 / error_factor
    low = [x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in draw.inputs]
    with torch.no_grad():
        output = copy.deepcopy(module).to(dtype)(*low).float()
    assert _errors(task, draw, output) > 1


def test_a_map_is_checked_at_every_magnitude(tasks: dict[str, Task]) -> None:
    relu = tasks["19"]
    module = build_reference(relu, 0)
    shape = relu.inputs[0].shape
    assert shape is not None
    inputs = [torch.full(shape, 1e-6)]
    inputs[0][0] = 1e30
    draw = make_draw(relu, "two magnitudes", module, inputs, SETTINGS)
    output = draw.expected.clone()
    assert scaled_error(relu, draw, output) == 0
    output[1:] = 0  # invisible beside 1e30, and wrong
    assert _errors(relu, draw, output) > 1


def test_rows_are_checked_each_at_its_own_size(tasks: dict[str, Task]) -> None:
    matmul = tasks["1"]
    inputs = draw_inputs(matmul, 3, wide=False)
    assert isinstance(inputs[0], torch.Tensor)
    inputs[0][5] *= 1e-9
    draw = make_draw(matmul, "a small row", build_reference(matmul, 0), inputs, SETTINGS)
    output = draw.expected.clone()
    output[5] = 0
    assert _errors(matmul, draw, output) > 1


def test_nan_and_infinities_must_be_the_references(tasks: dict[str, Task]) -> None:
    relu = tasks["19"]
    inputs = draw_inputs(relu, 1, wide=False)
    x = inputs[0]
    assert isinstance(x, torch.Tensor)
    x[0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    draw = make_draw(relu, "not finite", build_reference(relu, 0), inputs, SETTINGS)
    assert draw.free is None
    right = x.clamp(min=0)
    assert scaled_error(relu, draw, right) == 0
    for place, value in ((0, 0.0), (1, float("nan")), (1, 1e30), (2, -float("inf")), (9, float("nan"))):
        wrong = right.clone()
        wrong[0, place] = value
        assert scaled_error(relu, draw, wrong) == float("inf")


def test_where_float32_overflows_any_answer_is_accepted(tasks: dict[str, Task]) -> None:
    scale = tasks["5"]
    inputs = draw_inputs(scale, 1, wide=False)
    x = inputs[0]
    assert isinstance(x, torch.Tensor)
    x[0, 0], inputs[1] = 1e38, 100.0
    draw = make_draw(scale, "overflow", build_reference(scale, 0), inputs, SETTINGS)
    assert draw.free is not None and int(draw.free.sum()) == 1
    output = x * 100.0
    for value in (float("inf"), 3e38, float("nan")):
        output[0, 0] = value
        assert _errors(scale, draw, output) <= 1
    output[0, 1] = 3e38
    assert _errors(scale, draw, output) > 1


def test_ties_of_an_index_are_all_right(tasks: dict[str, Task]) -> None:
    argmax = tasks["51"]
    dim = argmax.contract.dim
    assert dim is not None
    inputs = draw_inputs(argmax, 1, wide=False)
    x = inputs[0]
    assert isinstance(x, torch.Tensor)
    x.select(dim, 3).fill_(2.0)
    x.select(dim, 8).fill_(2.0)
    draw = make_draw(argmax, "ties", build_reference(argmax, 0), inputs, SETTINGS)
    for index, error in ((3, 0.0), (8, 0.0), (4, float("inf")), (-1, float("inf"))):
        output = torch.full_like(draw.expected, index)
        assert scaled_error(argmax, draw, output) == error
        assert close_to_timed(argmax, draw.inputs, output, draw.expected, 0.0) == (error == 0)


def test_timed_outputs_are_compared_with_the_references_own(tasks: dict[str, Task]) -> None:
    matmul = tasks["1"]
    draw = _draw(matmul)
    near = draw.expected * (1 + 1e-7)
    assert close_to_timed(matmul, draw.inputs, near, draw.expected, draw.budget)
    half = draw.expected.clone()
    half[: len(half) // 2] = float("nan")
    assert not close_to_timed(matmul, draw.inputs, half, draw.expected, draw.budget)
    state = torch.get_rng_state()
    close_to_timed(matmul, draw.inputs, near, draw.expected, draw.budget)
    assert torch.equal(state, torch.get_rng_state())


@given(
    st.lists(st.tuples(st.floats(width=32), st.floats(-1e-4, 1e-4)), min_size=1, max_size=40),
    st.sampled_from([0.0, 1e-5, 1e-4]),
)
def test_the_quick_comparison_says_what_the_whole_one_says(values: list[tuple[float, float]], budget: float) -> None:
    """NaN, infinities, zeros, and errors around the budget: as by the rule, element by element."""
    matmul = get_task("1")
    r = torch.tensor([value for value, _ in values], dtype=torch.float32)
    y = r * (1 + torch.tensor([error for _, error in values], dtype=torch.float32))
    exact, other = r.double(), y.double()
    scale = torch.where(exact.isfinite(), exact, 0.0).square().mean().sqrt()
    equal = (other == exact) | (other.isnan() & exact.isnan())
    near = ((other - exact).abs() <= 2 * budget * (exact.abs() + scale)) & exact.isfinite()
    # Where the two sides of the rule are equal but for the last digit, either answer is right.
    margins = (other - exact).abs() - 2 * budget * (exact.abs() + scale)
    assume(not bool((margins.abs() <= 1e-9 * exact.abs()).logical_and(margins != 0).any()))
    assert close_to_timed(matmul, [], y, r, budget) == bool((equal | near).all())
