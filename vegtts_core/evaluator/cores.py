"""How many threads the evaluator's own arithmetic uses.

One, almost always: worker threads of the evaluator's process go on spinning for milliseconds after they have finished,
on the cores that candidates are timed on. Only the reference's float64 runs use more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch operations of this process on ``count`` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
