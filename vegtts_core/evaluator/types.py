"""The vocabulary of the evaluator: candidates in, verdicts out, under two protocols.

A verdict says how far a candidate came, what was measured, and, if its reward is 0, why, in one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol as TypingProtocol

from vegtts_core.scaffolds.types import Candidate


class Stage(StrEnum):
    """The five stages, in order. A verdict names the stage at which evaluation ended."""

    SCAFFOLD = "scaffold"
    """The completion becomes a candidate (decided before the evaluator sees it)."""
    COMPILE = "compile"
    """The candidate's code is compiled and its module built."""
    CORRECTNESS = "correctness"
    """Its outputs are held against the reference's."""
    TIMING = "timing"
    """It is timed against the reference."""
    REWARD = "reward"
    """All stages passed."""


class ErrorKind(StrEnum):
    """Why a candidate's reward is 0."""

    REFUSED_EMPTY = "refused_empty"
    REFUSED_SYNTAX = "refused_syntax"
    REFUSED_FORBIDDEN = "refused_forbidden"
    REFUSED_TOO_LONG = "refused_too_long"
    COMPILE_ERROR = "compile_error"
    """The code does not compile, or its module cannot be built."""
    EXCEPTION = "exception"
    """``forward`` raised."""
    WRONG_TYPE = "wrong_type"
    """Not a tensor, or of another dtype."""
    WRONG_SHAPE = "wrong_shape"
    WRONG_VALUES = "wrong_values"
    """Outside the error budget, or NaN/inf where the reference is finite."""
    INPUT_MODIFIED = "input_modified"
    """It wrote to its inputs."""
    INPUT_ALIASED = "input_aliased"
    """It returned one of its inputs, or a view of one."""
    INSENSITIVE = "insensitive"
    """Its output did not move when an input that matters moved."""
    NOT_REPEATABLE = "not_repeatable"
    """Equal inputs gave unequal outputs."""
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_FLOOD = "output_flood"
    """It printed more than the limit."""
    FORBIDDEN_CALL = "forbidden_call"
    """It made a system call that the sandbox forbids."""
    LATE_WORK = "late_work"
    """It said that it was done, and did the work after the clock had stopped."""
    LINGERING = "lingering"
    """It, or another process that it started, was still at work when it had answered."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """A kernel touched memory that is not its own."""
    UNSTEADY = "unsteady"
    """Not its fault: the device was not steady in any of the timed calls, so that none of them counts."""
    IMPOSSIBLE = "impossible"
    """It was faster than the device can be."""
    UNSUPPORTED = "unsupported"
    """It is written for another device."""
    CRASH = "crash"
    """Its process died of a signal or left early."""


class ProtocolName(StrEnum):
    """The rules under which a candidate is called correct and fast."""

    PUBLISHED = "published"
    """The paper's: benchmark inputs, fixed tolerance, few timing trials, point estimate, speedup > 1."""
    SOUND = "sound"
    """Ours: secret inputs from the contract, float64 error budget, paired interleaved timing, confidence bound."""


class Decision(StrEnum):
    """What the timing says."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    """The whole interval lies within the minimum effect around 1."""
    UNDECIDED = "undecided"
    """The cap on trials was reached before the interval was tight enough to tell."""


@dataclass(frozen=True)
class DeviceState:
    """A GPU's clocks in MHz, its temperature in degrees Celsius, and why it is throttled, if it is."""

    sm_mhz: int
    memory_mhz: int
    celsius: int
    throttled: str = ""


@dataclass(frozen=True)
class Measurement:
    """One protocol's result. Seconds; speedup = reference time / candidate time, bounds of its 95% interval.

    ``published`` has no interval (bounds NaN) and decides by the point estimate. ``reward`` is the speedup if
    correct, else 0. ``reference_seconds`` and ``candidate_seconds`` are every timed call, in order.
    """

    correct: bool
    reason: str = ""
    speedup: float = float("nan")
    speedup_low: float = float("nan")
    speedup_high: float = float("nan")
    decision: Decision | None = None
    reward: float = 0.0
    reference_seconds: tuple[float, ...] = ()
    candidate_seconds: tuple[float, ...] = ()
    max_error: float = float("nan")
    floor_fraction: float = float("nan")
    """The task's least time on this device (`vegtts_core.evaluator.floors`) over the candidate's median time."""
    discarded_pairs: int = 0
    """Pairs of calls that were not counted because the device changed its clock or was throttled meanwhile."""
    device_states: tuple[DeviceState, ...] = ()
    """How the device was after each counted pair; on a GPU only."""
    process_pairs: int = 1
    """Under ``sound``: pairs of new processes in which it was timed; more than one once a pair said *faster*."""
    between_evaluations: float = 0.0
    """Under ``sound``: half-width (natural logarithm) of the interval's part for what differs between evaluations."""


@dataclass(frozen=True)
class Verdict:
    """What the evaluator says of a candidate.

    ``error`` and ``reason`` are None and "" when every stage passed under the sound protocol (or under the published
    one, where only that was asked for). ``seconds`` is the wall time that the evaluation took, per stage.
    """

    task_key: str
    fingerprint: str
    device: str
    stage: Stage
    error: ErrorKind | None
    reason: str
    published: Measurement | None
    sound: Measurement | None
    seconds: dict[Stage, float]


class Evaluator(TypingProtocol):
    """Candidates in, verdicts out. A context manager: leaving it ends every process it started."""

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict per candidate, in order; equal candidates of a task are evaluated once."""
        ...
