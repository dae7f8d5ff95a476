"""The least work of a task, against counting the products of entries that are not zero."""

from __future__ import annotations

import pytest
import torch

from vegtts_core.tasks import Size, get_task, load_tasks
from vegtts_core.tasks.work import least_flop, triangular_side

TRIANGULAR = {14: torch.triu, 15: torch.tril}


@pytest.mark.parametrize("size", Size)
def test_only_triangular_products_have_zeros_to_skip(size: Size) -> None:
    for task in load_tasks("level1", size):
        if task.id in TRIANGULAR:
            assert 1 / 6 < least_flop(task) / task.flop < 1 / 6 + 0.001
        else:
            assert least_flop(task) == task.flop, task.name


@pytest.mark.parametrize("id", TRIANGULAR)
def test_the_products_that_are_left_are_those_of_nonzero_entries(id: int) -> None:
    task = get_task(id, Size.CPU)
    side = triangular_side(task)
    assert side is not None
    filled = TRIANGULAR[id](torch.ones(side, side, dtype=torch.float64))
    assert least_flop(task) == 2 * (filled @ filled).sum().item()


def test_a_map_has_no_matrix_work_whatever_its_reference_does() -> None:
    older = get_task("12-diag", Size.KERNELBENCH)
    assert older.flop > 1e11 and least_flop(older) == 0.0
