"""An accelerator that sees one process, for TRL's sums over processes that we make ourselves."""

from __future__ import annotations

from typing import Any

import torch


class Alone:
    """An accelerator for what concerns this process alone."""

    num_processes = 1

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """This process's."""
        return tensor

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        """This process's."""
        return tensor
