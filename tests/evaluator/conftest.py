from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vegtts_core.evaluator import EvaluatorSettings, ForwardEvaluator, Limits, SoundSettings
from vegtts_core.tasks import Task, get_task

#: Short timing: these tests are about verdicts, not about speed.
QUICK = EvaluatorSettings(
    limits=Limits(call_seconds=3, memory_mib=1024, printed_bytes=1 << 16),
    sound=SoundSettings(min_pairs=6, max_pairs=6, warmup=1),
    threads=1,
)
KEYS = ("1", "5", "19", "33", "51", "88", "94", "97")


@pytest.fixture(autouse=True, scope="session")
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
