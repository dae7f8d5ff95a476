"""What is drawn: the benchmark's inputs bit for bit, and wider inputs that stay inside their domains."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from vegtts_core.tasks import (
    AnswerKind,
    Domain,
    Task,
    build_reference,
    draw_inputs,
    draw_mixed,
    exec_module,
    get_task,
    load_tasks,
    wide_modes,
)
from vegtts_core.tasks import domains as d

IDS = range(1, 101)
SMALL = (12, 14, 23, 43, 55, 81, 87, 90, 93, 95, 98, 97)
"""A sample over all families whose tensors are small."""


def _drawn(task: Task, seed: int, wide: bool) -> list[Any]:
    return list(draw_inputs(task, seed, wide))


def _built(task: Task, seed: int, wide_weights: bool = False) -> Any:
    return build_reference(task, seed, wide_weights)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _doubled(inputs: list) -> list:
    return [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]


@pytest.mark.parametrize("id", IDS)
def test_wide_inputs_give_finite_answers_in_both_precisions(id):
    task = get_task(id)
    inputs = _drawn(task, seed=id, wide=True)
    for spec, value in zip(task.inputs, inputs, strict=True):
        if spec.shape is None:
            assert isinstance(value, float) and value != 0
            continue
        assert (tuple(value.shape), value.dtype) == (spec.shape, spec.dtype)
        assert not value.is_floating_point() or bool(torch.isfinite(value).all())
    with torch.no_grad():
        answer = _built(task, seed=id, wide_weights=True)(*inputs)
        exact = _built(task, seed=id, wide_weights=True).double()(*_doubled(inputs))
    if task.contract.answer is AnswerKind.VALUES:
        assert exact.dtype == torch.float64 and bool(torch.isfinite(answer).all())
        # The CPU's own fp32 Frobenius norm of 7 million numbers is off by up to 4e-4: the reference, not the draw.
        assert float((answer - exact).abs().max() / exact.abs().max()) < (2e-3 if id == 37 else 3e-5)
    else:
        assert answer.dtype == torch.int64
        x, dim = inputs[0], task.contract.dim
        assert dim is not None
        extreme = x.amax(dim) if task.contract.answer is AnswerKind.INDEX_OF_MAXIMUM else x.amin(dim)
        assert torch.equal(x.gather(dim, answer.unsqueeze(dim)).squeeze(dim), extreme)


@pytest.mark.parametrize("id", [*SMALL, 5, 13, 94, 99, 100])
def test_benchmark_draws_are_what_get_inputs_returns(id):
    task = get_task(id)
    torch.manual_seed(7)
    expected = exec_module(task.source)["get_inputs"]()
    before = torch.get_rng_state()
    drawn = _drawn(task, seed=7, wide=False)
    assert torch.equal(before, torch.get_rng_state())
    for one, other in zip(drawn, expected, strict=True):
        assert torch.equal(one, other) if isinstance(other, torch.Tensor) else one == other


@pytest.mark.parametrize("id", SMALL)
def test_draws_and_weights_follow_the_seed(id):
    task = get_task(id)
    first, again, other = (_drawn(task, seed, wide=True) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    state, same = (_built(task, 3, wide_weights=True).state_dict() for _ in range(2))
    assert all(torch.equal(state[name], same[name]) for name in state)


def test_the_scalar_of_task_5_changes_only_in_wide_draws():
    task = get_task(5)
    assert {_drawn(task, seed, wide=False)[1] for seed in range(2)} == {3.14}
    assert len({_drawn(task, seed, wide=True)[1] for seed in range(3)}) == 3


def test_wide_weights_leave_nothing_constant():
    for id in (33, 35, 40):
        plain, wide = (_built(get_task(id), 0, wide_weights=flag) for flag in (False, True))
        assert plain.training and wide.training
        for name, parameter in plain.named_parameters():
            assert len(parameter.unique()) == 1
            assert len(wide.get_parameter(name).unique()) > 1
    bn = _built(get_task(33), 0, wide_weights=True).bn
    assert float(bn.running_var.min()) > 0 and len(bn.running_mean.unique()) > 1


def test_batch_norm_answers_with_the_batchs_statistics():
    task = get_task(33)
    (x,) = _drawn(task, 0, wide=True)
    model = _built(task, 0, wide_weights=True)
    with torch.no_grad():
        first, second = model(x), model(x)
    assert torch.equal(first, second)
    assert int(model.bn.num_batches_tracked) == 2


def _over_seeds(domain: Domain, shape: tuple[int, ...], seeds: int = 24) -> list[torch.Tensor]:
    return [domain.sample(shape, _generator(seed)) for seed in range(seeds)]


def test_maps_see_every_threshold():
    x = d.finite_floats().sample((512, 512), _generator(0))
    for value in (0.0, 3.0, -3.0, 6.0, 20.0, -1.0, 1e30, -1e30):
        assert bool((x == value).any())
    assert (x.abs() > 20).float().mean() > 0.02 and (x < 0).float().mean() > 0.4
    assert float(d.finite_floats(1e12).sample((512, 512), _generator(0)).abs().max()) <= 1e12


def test_signed_draws_reach_far_corners():
    draws = _over_seeds(d.signed(), (64, 64))
    assert any(bool((x < 0).all()) for x in draws)
    assert any((x == 0).float().mean() > 0.3 for x in draws)
    assert any(x.abs().amax(1).max() > 100 * x.abs().amax(1).min() for x in draws)
    assert max(float(x.abs().max()) for x in draws) <= 100
    assert any(bool((x == x.round()).all()) for x in _over_seeds(d.SIGNED_WITH_TIES, (64, 64)))


def test_structured_matrices_have_their_structure():
    for x in _over_seeds(d.triangular(d.signed(), upper=True), (33, 33), 6):
        assert torch.equal(x, x.triu())
    for x in _over_seeds(d.triangular(d.UNIT_INTERVAL, upper=False), (33, 33), 3):
        assert torch.equal(x, x.tril())
    for x in _over_seeds(d.symmetric(d.signed()), (33, 33), 6):
        assert torch.equal(x, x.T)


def test_probabilities_masks_classes_and_signs():
    for x in _over_seeds(d.POSITIVE_ROWS_SUMMING_TO_ONE, (64, 4096), 6):
        assert float(x.min()) > 0
        assert torch.allclose(x.sum(-1), torch.ones(64), atol=1e-5)
    densities = d.ANY_MASK.sample((200, 500), _generator(0)).float().mean(1)
    assert float(densities.min()) == 0 and float(densities.max()) == 1
    classes = d.any_class_indices(4096).sample((1024,), _generator(0))
    assert int(classes.min()) == 0 and int(classes.max()) == 4095
    for x in _over_seeds(d.ANY_SIGNS, (1000,), 6):
        assert set(x.unique().tolist()) == {-1.0, 1.0}


def test_running_products_stay_finite_and_away_from_zero():
    for x in _over_seeds(d.factors_near_one(1), (64, 2048), 4):
        products = x.cumprod(1)
        assert bool(torch.isfinite(products).all())
        alive = products[(x != 0).all(1)]
        assert len(alive) > 32 and float(alive[:, -1].abs().min()) > 1e-3
        assert bool((x < 0).any()) and bool((x == 0).any())


def test_every_contract_says_something_of_its_own():
    tasks = load_tasks("level1")
    for task in tasks:
        statement = task.contract.statement
        assert statement.startswith("The benchmark draws") and statement.endswith(".") and "  " not in statement
        assert set(task.forward_arguments) <= set(task.contract.sensitive_to)
        assert all(spec.domain is not None and spec.benchmark is not None for spec in task.inputs)
    assert {task.id for task in tasks if task.contract.answer is not AnswerKind.VALUES} == {51, 52}


SHORTCUTS = {
    19: lambda x: x,
    20: lambda x: x,
    27: lambda x: 1.0507009873554805 * x,
    28: lambda x: x / 6 + 0.5,
    30: lambda x: x / (1 + x),
    31: lambda x: x,
    32: lambda x: x,
    38: lambda x: x / x.mean(1, keepdim=True),
    42: lambda x: torch.nn.functional.max_pool2d(torch.nn.functional.pad(x, (1, 1, 1, 1)), 4, stride=1),
    5: lambda a, s: a * 3.14,
    96: lambda p, t: ((p - t) ** 2).mean() / 2,
    100: lambda p, t: (1 - p * t).mean(),
}
"""Answers that are right on what the benchmark draws and nowhere else."""


@pytest.mark.parametrize("id", SHORTCUTS)
def test_wide_inputs_catch_what_the_benchmarks_do_not(id):
    task, shortcut = get_task(id), SHORTCUTS[id]
    for wide in (False, True):
        inputs = _drawn(task, 3, wide)
        with torch.no_grad():
            answer = _built(task, 0)(*inputs)
        assert torch.allclose(answer, shortcut(*inputs), rtol=1e-4, atol=1e-4) is not wide


@pytest.mark.parametrize("key", ["1", "14", "13", "23", "42", "90", "93", "95", "98", "5", "12"])
def test_mixed_draws_are_the_benchmark_s_but_for_a_few_rows(key: str) -> None:
    task = get_task(key)
    mixed, plain = draw_mixed(task, 7), draw_inputs(task, 7, wide=False)
    for spec, x, y in zip(task.inputs, mixed, plain, strict=True):
        if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
            assert x == y
            continue
        assert x.shape == y.shape and x.dtype == y.dtype
        assert x.dtype.is_floating_point is False or bool(x.isfinite().all())
        if spec.domain is not None and not spec.domain.rows_tied:
            assert 0 < float((x != y).float().mean()) <= max(0.05, 5 / min(n for n in x.shape if n > 1))
    assert all(
        torch.equal(one, two)
        for one, two in zip(mixed, draw_mixed(task, 7), strict=True)
        if isinstance(one, torch.Tensor)
    )


@pytest.mark.parametrize("key", ["1", "19", "23", "42", "95", "5", "12"])
def test_two_mixed_draws_have_no_row_of_the_domain_in_common(key: str) -> None:
    task = get_task(key)
    for seed in range(5):
        kinds = [(draw_mixed(task, n, places=seed, part=n), draw_inputs(task, n, wide=False)) for n in (0, 1)]
        for spec, *xs in zip(task.inputs, *(one for kind in kinds for one in kind), strict=True):
            if spec.domain is None or spec.domain.rows_tied or not isinstance(xs[0], torch.Tensor) or not xs[0].dim():
                continue
            first, second = (one != other for one, other in ((xs[0], xs[1]), (xs[2], xs[3])))
            assert bool(first.any()) and bool(second.any()) and not bool((first & second).any())


@pytest.mark.parametrize("key", ["51", "14", "13", "1"])
def test_modes_go_through_every_way_of_sampling_the_domain(key: str) -> None:
    task = get_task(key)
    draws = [draw_inputs(task, 3, wide=True, mode=mode) for mode in range(wide_modes(task) + 1)]
    first = [inputs[0] for inputs in draws if isinstance(inputs[0], torch.Tensor)]
    assert torch.equal(first[0], first[-1])
    assert all(not torch.equal(one, two) for one, two in itertools.pairwise(first))
    assert sum(bool((x <= 0).all()) for x in first[:-1]) == 1
