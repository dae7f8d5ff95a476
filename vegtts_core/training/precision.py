"""How exactly a GPU multiplies float32 matrices while weights are moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matmul_precision(tf32: bool, device: str) -> Iterator[None]:
    """Products of float32 matrices on a GPU in TF32, if asked for, and as before afterwards."""
    before = torch.get_float32_matmul_precision()
    if tf32 and device == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
