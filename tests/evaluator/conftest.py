from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from making import QUICK

from vegtts_core.evaluator import ForwardEvaluator
from vegtts_core.tasks import Task, get_task

KEYS = ("1", "5", "19", "33", "51", "88", "94", "97")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Other processes may be using the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tasks() -> dict[str, Task]:
    return {key: get_task(key) for key in KEYS}


@pytest.fixture(scope="session")
def evaluator(tasks: dict[str, Task]) -> Iterator[ForwardEvaluator]:
    with ForwardEvaluator(tasks.values(), QUICK) as running:
        yield running
