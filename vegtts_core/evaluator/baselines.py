"""The reference under ``torch.compile``: what a speedup over eager PyTorch has to be held against (row M6).

It is evaluated like a candidate, under the same protocols, so that its own speedup over eager has an interval. On the
CPU it is a module in the sandbox, compiled while it is built; on a GPU the evaluator compiles it in its own process,
since the reference is trusted, and times it by events, which is closer than the clock that modules have.
"""

from __future__ import annotations

import hashlib

from vegtts_core.evaluator.types import Measurement
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

#: The scaffold that a GPU's evaluator knows the compiled reference by. No policy writes for it.
COMPILED = "compiled"

# The compiler keeps what it makes in the sandbox's scratch folder, and starts no workers. It is called once while the
# module is built, on the benchmark's own inputs: compiling takes seconds, which no timed call may contain.
_MODULE = """
import os

os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.environ["HOME"]
os.environ["TRITON_CACHE_DIR"] = os.environ["HOME"]
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch

{source}


class ModelNew(Model):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.__dict__["compiled"] = torch.compile(super().forward, dynamic=False)
        with torch.no_grad():
            self.compiled(*get_inputs())

    def forward(self, *inputs):
        return self.compiled(*inputs)
"""


def compiled_candidate(task: Task, device: str) -> Candidate:
    """The reference of ``task`` under ``torch.compile``, for the evaluator of ``device`` (cpu or cuda)."""
    source = _MODULE.format(source=task.source) if device == "cpu" else ""
    scaffold = "module" if device == "cpu" else COMPILED
    fingerprint = hashlib.sha256(f"{task.key}\ntorch.compile".encode()).hexdigest()[:16]
    return Candidate(task.key, scaffold, source, source, fingerprint)


def over(found: Measurement, baseline: Measurement) -> tuple[float, float, float]:
    """Speedup over the baseline from both speedups over eager, with bounds (NaN where a protocol has none).

    The two intervals belong to measurements of their own; the bounds allow for the worst of both.
    """
    return (
        found.speedup / baseline.speedup,
        found.speedup_low / baseline.speedup_high,
        found.speedup_high / baseline.speedup_low,
    )
