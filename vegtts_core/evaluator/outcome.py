"""What one protocol says of one candidate, and the stages' wall time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vegtts_core.evaluator.types import ErrorKind, Measurement, Stage


@dataclass
class Stages:
    """Where an evaluation is, and how long it spent in each stage (seconds)."""

    current: Stage = Stage.COMPILE
    seconds: dict[Stage, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def enter(self, stage: Stage) -> Iterator[None]:
        """Count the time of the block towards ``stage``."""
        self.current = stage
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Outcome:
    """One protocol's result: a measurement, the stage at which it ended, and why its reward is 0 (None if it is not).

    ``calls`` counts calls that came back with a tensor of the right type and shape.
    """

    measurement: Measurement
    stage: Stage
    error: ErrorKind | None
    reason: str
    calls: int


def failed(stage: Stage, error: ErrorKind, reason: str, calls: int, max_error: float = float("nan")) -> Outcome:
    """The outcome of a candidate that is not correct; ``max_error`` in units of the budget, if it was measured."""
    return Outcome(Measurement(correct=False, reason=reason, max_error=max_error), stage, error, reason, calls)
