"""The evaluator's settings: which protocols, which limits, how many draws, how tight an interval.

The defaults are for tasks of size ``cpu`` on two cores. Unknown names are refused.
"""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from vegtts_core.evaluator.sandbox import Layer
from vegtts_core.evaluator.types import ProtocolName


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Settings):
    """What a candidate's process may use. Beyond it the process is ended and the verdict says which limit it was."""

    call_seconds: float = Field(default=5.0, gt=0)
    """Wall time of each call, and of building a module of scaffold ``forward``."""
    build_seconds: float = Field(default=120.0, gt=0)
    """Wall time of building a module of scaffold ``module``, which may have to compile."""
    compile_seconds: float = Field(default=20.0, gt=0)
    """Wall time of compiling a kernel."""
    candidate_seconds: float = Field(default=60.0, gt=0)
    """Wall time of one candidate's process under one protocol, after it is built."""
    memory_mib: int = Field(default=4096, ge=64)
    """Address space beyond that of the warm process."""
    printed_bytes: int = Field(default=1 << 20, ge=1)
    """Size of what it prints (stdout and stderr together)."""
    scratch_mib: int = Field(default=256, ge=1)
    """Size of the scratch folder of a candidate of scaffold ``module``, and of any file in it."""


class Precision(StrEnum):
    """In what a candidate may compute. Its output has the task's dtype either way."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def epsilon(self) -> float:
        """Distance from 1 to the next number; 0 for float32, which allows nothing beyond the task's own dtype."""
        return {"float32": 0.0, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}[self.value]


class PublishedSettings(_Settings):
    """The paper's protocol: KernelBench at commit 423217d, fp32. Its full evaluation is 5 and 50 trials."""

    correctness_trials: int = Field(default=1, ge=1)
    timing_trials: int = Field(default=5, ge=1)
    warmup: int = Field(default=3, ge=0)
    tolerance: float = Field(default=1e-4, gt=0)
    """Absolute and relative tolerance of ``allclose``."""


class Reach(_Settings):
    """How far evaluations of one candidate lie from its true log-speedup, beyond the noise within each: 95% of them."""

    share: float = Field(ge=0)
    """Whatever the call takes; natural logarithm, so that 0.01 is about one per cent."""
    seconds: float = Field(default=0.0, ge=0)
    """What the clock itself adds: over the duration of the shorter call, it is a share like the other."""

    def of(self, call_seconds: float) -> float:
        """Half-width of the log-speedup for calls of this duration."""
        return math.hypot(self.share, self.seconds / call_seconds) if self.seconds else self.share


class BetweenEvaluations(_Settings):
    """What differs from evaluation to evaluation, by what is timed how.

    The defaults are what recorded data ask for (`vegtts_core.runs.repeats`, rounded up), so that 95% of the intervals
    hold over all tasks and no task refutes it. ``cpu``: kernels that several runs evaluated, one at a time on two
    cores, by the clock of today (`vegtts_core.runs.machine.CPU_CLOCK`). ``cpu_modules``: bodies of ``forward``,
    likewise; one task, a transposed convolution, asks for three times as much as all others. ``side_by_side``:
    candidates that a warm start and the training after it both evaluated, fifteen at a time on sixteen cores; over all
    tasks together 0.16 would do. ``events``: kernels that were evaluated two to eight times, on several H100s.
    ``modules``: the same share, and the seconds that A/A of calls of 0.3 ms needs (data/calibration/cuda); of longer
    calls too few are recorded.
    Another device wants its own reaches: the calibration command finds them.
    """

    cpu: Reach = Reach(share=0.08)
    """Kernels on a CPU, timed from outside their process."""
    cpu_modules: Reach = Reach(share=0.05)
    """Bodies of ``forward`` and modules on a CPU."""
    side_by_side: Reach = Reach(share=0.38)
    """Either with other evaluators on the same CPU (`EvaluatorSettings.workers`), which share its memory."""
    events: Reach = Reach(share=0.009)
    """Kernels on a GPU, between events on the device."""
    modules: Reach = Reach(share=0.009, seconds=38e-6)
    """Bodies of ``forward`` on a GPU, timed from outside their process."""

    def reach(self, device: str, scaffold: str, workers: int = 1) -> Reach:
        """Of candidates of ``scaffold`` on ``device`` (``cpu`` or ``cuda``), with so many evaluators on one CPU."""
        python = scaffold in ("forward", "module")
        if device == "cpu":
            return self.side_by_side if workers > 1 else self.cpu_modules if python else self.cpu
        return self.modules if python else self.events


class SoundSettings(_Settings):
    """The protocol of this project.

    The error budget of a draw is the larger of ``error_factor`` times the float32 reference's own scaled error on that
    draw and ``error_floor`` times the dtype's epsilon (see `vegtts_core.evaluator.answers`). A ``precision`` below
    float32 allows arithmetic in it openly: the budget is then at least ``error_factor`` times its epsilon.
    """

    precision: Precision = Precision.FLOAT32

    benchmark_draws: int = Field(default=2, ge=1)
    wide_draws: int = Field(default=2, ge=0)
    error_factor: float = Field(default=8.0, ge=1)
    error_floor: float = Field(default=64.0, ge=1)
    warmup: int = Field(default=3, ge=0)
    """Untimed calls of each side before the first pair; their outputs are checked like all others."""
    half_width: float = Field(default=0.01, gt=0)
    """Timing stops when the 95% interval of the noise in the log-ratio is within this distance of its centre, or within
    half of what differs between evaluations of a machine that times one candidate at a time."""
    min_pairs: int = Field(default=8, ge=6)
    max_pairs: int = Field(default=48, ge=6)
    max_seconds: float = Field(default=1.1, gt=0)
    """Cap on timing, including new inputs and checks between calls; six pairs are taken in any case."""
    minimum_effect: float = Field(default=0.02, ge=0)
    """A candidate is faster only if the lower bound of its speedup exceeds 1 plus this."""
    confirmations: int = Field(default=1, ge=0)
    """Further pairs of new processes that must also say *faster* before it is said."""
    between_evaluations: BetweenEvaluations = BetweenEvaluations()
    """What the interval holds beside the noise within one pair of processes."""
    pool_mib: int = Field(default=1024, ge=0)
    """Memory for inputs of timed calls that a task's candidates share; beyond it they are drawn for each candidate.
    On a CPU only inputs that a task's own module draws are shared: drawing others takes no longer than copying them."""


class SandboxSettings(_Settings):
    """Which layers of the sandbox may be missing."""

    without: frozenset[Layer] = frozenset()
    """Layers that this machine may lack: candidates of scaffold ``module`` are refused where any other is missing."""


class EvaluatorSettings(_Settings):
    """All settings of an evaluator."""

    protocols: frozenset[ProtocolName] = Field(default=frozenset(ProtocolName), min_length=1)
    threads: int = Field(default=2, ge=1)
    """Threads of the candidate's and of the reference's process."""
    workers: int = Field(default=1, ge=1)
    """Evaluators side by side, on disjoint cores of a CPU (see `vegtts_core.evaluator.pool`)."""
    limits: Limits = Limits()
    sandbox: SandboxSettings = SandboxSettings()
    published: PublishedSettings = PublishedSettings()
    sound: SoundSettings = SoundSettings()
