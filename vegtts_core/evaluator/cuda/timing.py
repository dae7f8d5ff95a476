"""How candidates are timed on a GPU, by what is known of them; and which GPU it is."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch

from vegtts_core.evaluator.baselines import COMPILED
from vegtts_core.evaluator.messages import Gpu
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate


class Timing(Enum):
    """How a candidate is timed, and with it the reference that it is compared with."""

    EVENTS = "events"
    """Kernels, and the compiled reference: by device events, in processes without code of a candidate's on the host."""
    ANSWER = "answer"
    """Scaffold ``forward``: from the command to the process's answer, which its allow-list lets be believed."""
    COMMITTED = "committed"
    """Scaffold ``module``: until the evaluator has a copy of the output (`vegtts_core.evaluator.committed`)."""

    @classmethod
    def of(cls, candidate: Candidate) -> Timing:
        """How this one is timed."""
        if candidate.language is Language.CUDA or candidate.scaffold == COMPILED:
            return cls.EVENTS
        return cls.COMMITTED if candidate.scaffold == "module" else cls.ANSWER


def gpu_of(number: int) -> Gpu:
    """The facts of this device that a confined process needs."""
    found: Any = torch.cuda.get_device_properties(number)
    try:
        bus = f"{found.pci_domain_id:04x}:{found.pci_bus_id:02x}:{found.pci_device_id:02x}.0"
    except AttributeError:  # an older torch
        bus = ""
    return Gpu(bus, (found.major, found.minor))
