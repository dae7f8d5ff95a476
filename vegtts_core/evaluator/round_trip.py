"""How long a call takes that does nothing: what the evaluator's own channel adds to every timed call.

It is the same for candidate and reference, so it pulls speedups towards 1 where calls are short; results may say by how
much.
"""

from __future__ import annotations

import statistics

import torch

from vegtts_core.evaluator.messages import Assignment
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.shared_memory import Arena
from vegtts_core.evaluator.warm_process import WarmProcess

_NOTHING = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.answer = torch.zeros(())

    def forward(self):
        return self.answer
"""


def empty_round_trip(warm: WarmProcess, settings: EvaluatorSettings, calls: int = 200) -> float:
    """The median time of ``calls`` calls of a module that does nothing, in seconds."""
    inputs, weights = Arena("inputs", [], sealed=True), Arena("weights", [], sealed=True)
    output = Arena("output", [((), torch.float32)], sealed=False)
    assignment = Assignment(
        source=_NOTHING,
        class_name="Model",
        init_arguments=(),
        arguments=(),
        numbers=frozenset(),
        weights={},
        output=output.slots[0],
        training=False,
        writable_inputs=False,
        any_python=False,
        layers=warm.active_layers,
        threads=settings.threads,
        memory_bytes=settings.limits.memory_mib << 20,
        file_bytes=settings.limits.printed_bytes,
        cpu_seconds=int(settings.limits.candidate_seconds) + 1,
    )
    process = warm.spawn(assignment, inputs, weights, output, settings.limits)
    try:
        process.await_ready()
        return statistics.median(process.call(None).seconds for _ in range(calls))
    finally:
        process.close()
        for arena in (inputs, weights, output):
            arena.close()
