"""What the protocols ask of whoever runs a candidate or the reference, on any device; and who watches the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vegtts_core.evaluator.types import DeviceState


@dataclass(frozen=True)
class Call:
    """One timed call, in seconds: the call, and what writing the result down took after that.

    On a GPU the second number is time that the evaluator's own clock saw and the device's events did not.
    """

    seconds: float
    writing_seconds: float


class Runner(Protocol):
    """Runs one module or kernel on the session's inputs and weights. Every method may raise `CandidateFailure`."""

    def await_ready(self) -> None:
        """Wait until it is built and loaded."""
        ...

    @property
    def seconds_left(self) -> float:
        """Wall time until its limit, in seconds."""
        ...

    def live_without_limit(self) -> None:
        """Lift the limit on its whole wall time."""
        ...

    def load_weights(self) -> None:
        """Take the session's weights over."""
        ...

    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One timed call; its result is in the output arena. ``when_done`` runs when the clock has stopped.

        With None, as the published protocol calls, a GPU's caches stay warm.
        """
        ...

    def close(self) -> None:
        """End it and everything that it started. Does nothing the second time."""
        ...


class SharedMemory(Protocol):
    """Memory that another process can map."""

    fd: int
    """Its file descriptor."""


class Watch:
    """Says of each pair of calls whether the device was steady. One of its kind tells nothing: every pair counts."""

    states: tuple[DeviceState, ...] = ()

    def await_steady(self) -> float:
        """Wait, within reason, until it makes sense to time a pair; seconds waited."""
        return 0.0

    def counts(self) -> bool:
        """Whether the pair that has just been taken counts."""
        return True
