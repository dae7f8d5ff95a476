"""What is done in one pass gives what torch gives in several."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.evaluator import native
from vegtts_core.tasks import draw_inputs, draw_mixed, load_tasks


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 4096, 100_003])
def test_uniform_numbers_are_those_of_their_seed(count: int) -> None:
    first, again, other = (torch.full((count + 1,), -1.0) for _ in range(3))
    for x, seed in ((first, 1 << 61), (again, 1 << 61), (other, 2)):
        native.fill_uniform(x[:count], seed)
    assert torch.equal(first, again)
    assert float(first[count]) == -1.0  # nothing beyond the end
    assert count < 2 or not torch.equal(first, other)
    assert bool((first[:count] >= 0).all()) and bool((first[:count] < 1).all())
    assert torch.equal(first[:count] * 2**24, (first[:count] * 2**24).round())


def test_uniform_numbers_are_uniform_and_independent() -> None:
    x = torch.empty(1 << 21)
    native.fill_uniform(x, 7)
    counts = torch.histc(x, bins=1024, min=0.0, max=1.0)
    expected = len(x) / 1024
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert 1023 - 5 * 45.2 < chi_squared < 1023 + 5 * 45.2  # mean and five standard deviations
    centred = (x - 0.5).double()
    for lag in (1, 2, 15, 16, 17, 256):
        correlation = 12 * float((centred[lag:] * centred[:-lag]).mean())
        assert abs(correlation) < 5 / len(x) ** 0.5
    bits = (x * 2**24).int()
    for place in range(24):
        assert abs(float(((bits >> place) & 1).double().mean()) - 0.5) < 2.5 / len(x) ** 0.5


@pytest.mark.timing
def test_what_is_flushed_is_read_from_memory() -> None:
    x = torch.ones(1 << 16)  # as much as a second-level cache holds of anything
    if not native.flush(x.data_ptr(), 0):
        pytest.skip("this CPU has no instruction for it")

    def seconds(is_flushed: bool) -> float:
        x.add_(1)
        if is_flushed:
            native.flush(x.data_ptr(), x.nbytes)
        start = time.perf_counter()
        native.within(x, x, 0.0)
        return time.perf_counter() - start

    pairs = [(seconds(True), seconds(False)) for _ in range(200)]
    cold, warm = (sorted(each)[len(pairs) // 2] for each in zip(*pairs, strict=True))
    assert cold > 1.2 * warm
    assert float(x[0]) == float(x[-1]) == 1 + 2 * len(pairs)  # nothing is lost on the way


def test_other_tensors_are_refused() -> None:
    x = torch.rand(8, 8)
    assert native.fits(x) and not native.fits(x, x.T) and not native.fits(x.double())
    with pytest.raises(ValueError, match="contiguous"):
        native.fill_uniform(x.T, 1)


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([0.0, float("nan"), float("inf"), -float("inf"), 3e38, 1e-42]),
    st.integers(0, 1 << 30),
)
def test_the_largest_error_is_torchs(columns: int, rows: int, bounded: bool, special: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    r, y, x = (torch.randn(rows, columns, generator=generator) for _ in range(3))
    y = r + 1e-4 * y
    place = seed % r.numel()
    (r, y, x)[seed % 3].view(-1)[place] = special
    scales = torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    s = scales.float().expand_as(r)
    if bounded:
        s = torch.minimum(x.abs(), s).nan_to_num()
    errors = (y - r).abs() / (r.abs() + s).clamp_min(torch.finfo(torch.float32).tiny)
    found = native.largest_error(y, r, scales, x if bounded else None)
    if bool(errors.isfinite().all()) and bool(r.isfinite().all()):
        assert found == float(errors.max())
    else:
        assert found != found


def test_draws_of_every_task_have_the_right_kind_and_differ_by_seed() -> None:
    for task in load_tasks("l1_seed42_eval", "cpu"):
        for wide in (False, True):
            usual = draw_inputs(task, 5, wide)
            first, again, other = (draw_inputs(task, seed, wide, fill=native.fill_uniform) for seed in (5, 5, 6))
            assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in _tensors(usual, first))
            assert all(torch.equal(a, b) for a, b in _tensors(first, again))
            assert not any(torch.equal(a, b) for a, b in _tensors(first, other))
        mixed = draw_mixed(task, 5, fill=native.fill_uniform)
        assert all(torch.equal(a, b) for a, b in _tensors(mixed, draw_mixed(task, 5, fill=native.fill_uniform)))
        assert not all(torch.equal(a, b) for a, b in _tensors(mixed, draw_mixed(task, 6, fill=native.fill_uniform)))


def _tensors(
    left: list[torch.Tensor | float], right: list[torch.Tensor | float]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = zip(left, right, strict=True)
    return [(a, b) for a, b in pairs if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)]
