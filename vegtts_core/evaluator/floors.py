"""The least time that a task can take on a device, and what is faster than that: impossible.

Two bounds, both from a task's bytes and operations and the device's measured ceilings:

    floor       every input, weight and output moved once, every operation of the textbook algorithm done at the fp32
                peak (`least_flop`). What share of it a candidate reaches is shown; a cleverer algorithm may beat it.
    bound       what no right answer can beat: the output and those inputs that it must depend on, and only as many
                operations as the best known algorithms need. It is halved, since ceilings are measured too.

A candidate faster than the bound is refused, after the ceilings were measured once more.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vegtts_core.errors import UserError
from vegtts_core.evaluator.outcome import Outcome, failed
from vegtts_core.evaluator.types import ErrorKind, Stage
from vegtts_core.kernels.ceilings import Ceilings, Rung, floor_seconds, measure
from vegtts_core.kernels.cpp import cache_folder, cpu_model
from vegtts_core.tasks import Family, InputSpec, Task
from vegtts_core.tasks.source import run_on_meta
from vegtts_core.tasks.work import least_flop

#: Ceilings may be measured too low, on a busy machine say: a time below this share of the bound is impossible.
_MARGIN = 0.5
#: Operations that cannot be avoided, as a share of the reference's: Strassen twice over, Winograd's largest tiles.
_FEWEST_OPERATIONS = {Family.MATMUL: 0.75, Family.CONVOLUTION: 0.15}

MeasureCeilings = Callable[[bool], Ceilings]
"""Ceilings of a device; with True they are measured now, whatever was measured before."""


@dataclass(frozen=True)
class Floor:
    """Least times of a task in seconds: ``seconds`` of the textbook algorithm, ``bound`` of any right answer."""

    seconds: float
    bound: float


def floor_of(task: Task, ceilings: Ceilings) -> Floor:
    """The floor and the bound of a task. See the module."""
    operations = least_flop(task)
    seconds = floor_seconds(operations, task.min_bytes, ceilings)
    fewest = 0.0 if task.family is None else _FEWEST_OPERATIONS.get(task.family, 0.0)
    bound = floor_seconds(fewest * operations, least_bytes(task), ceilings)
    return Floor(seconds, bound)


def least_bytes(task: Task) -> float:
    """Bytes that any right answer must move: the output, and the inputs' elements that it depends on.

    Half of a triangular or symmetric matrix can be left out, and what a window's stride jumps over.
    """
    run = run_on_meta(task.source)
    inputs = {spec.name: _bytes(spec) for spec in task.inputs}
    skipped = sum(size / 2 for spec in task.inputs if (size := inputs[spec.name]) and _structured(spec))
    if task.family in (Family.CONVOLUTION, Family.POOLING):
        skipped += (1 - _covered(run.model)) * inputs[task.inputs[0].name]
    return task.min_bytes - skipped


def _bytes(spec: InputSpec) -> int:
    return 0 if spec.shape is None or spec.dtype is None else math.prod(spec.shape) * spec.dtype.itemsize


def _structured(spec: InputSpec) -> bool:
    return spec.domain is not None and ("triangular" in spec.domain.name or "symmetric" in spec.domain.name)


def _covered(model: object) -> float:
    """The share of the input that a convolution's or pool's windows touch, if its strides exceed them; else 1."""
    share = 1.0
    for module in getattr(model, "modules", list)():
        kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
        if kernel is None or stride is None:
            continue
        kernels = kernel if isinstance(kernel, tuple) else (kernel,)
        strides = stride if isinstance(stride, tuple) else (stride,) * len(kernels)
        share = min(share, math.prod(min(1.0, k / s) for k, s in zip(kernels, strides, strict=True)))
    return share


class Floors:
    """Holds outcomes against floors; ceilings are measured when the first one is."""

    def __init__(self, ceilings: MeasureCeilings) -> None:
        self._measure = ceilings
        self._ceilings: Ceilings | None = None
        self._floors: dict[str, Floor] = {}

    def judge(self, task: Task, outcome: Outcome, reject: bool = True) -> Outcome:
        """The outcome with the share of the floor that it reached; a failure if it is faster than possible.

        Without ``reject`` it stays what it is: the published rules believe any time.
        """
        measurement = outcome.measurement
        if not measurement.correct or not measurement.candidate_seconds:
            return outcome
        seconds = statistics.median(measurement.candidate_seconds)
        try:
            self._floor(task)
        except UserError:  # nothing to measure them with: then nothing is said of floors
            return outcome
        if reject and seconds < _MARGIN * self._floor(task).bound:
            self._ceilings = self._measure(True)
            self._floors.clear()
        floor = self._floor(task)
        if reject and seconds < _MARGIN * floor.bound:
            return failed(
                Stage.TIMING,
                ErrorKind.IMPOSSIBLE,
                "It was faster than this device can move the task's bytes or do its operations.",
                outcome.calls,
                measurement.max_error,
            )
        return replace(outcome, measurement=replace(measurement, floor_fraction=floor.seconds / seconds))

    def _floor(self, task: Task) -> Floor:
        if self._ceilings is None:
            self._ceilings = self._measure(False)
        if task.key not in self._floors:
            self._floors[task.key] = floor_of(task, self._ceilings)
        return self._floors[task.key]


def device_ceilings(device: str, threads: int) -> Ceilings:
    """What ``device`` (*cpu*, with so many threads, or *cuda*) can do at most, as measured for this machine."""
    if device == "cpu":
        return measure(threads)
    from vegtts_core.evaluator.cuda.ceilings import gpu_ceilings

    return gpu_ceilings()


def cpu_ceilings(threads: int, anew: bool = False) -> Ceilings:
    """Ceilings of this CPU, kept in the cache folder; ``anew`` measures, and keeps the higher of old and new.

    Raises UserError if they cannot be measured.
    """
    usable = min(threads, len(os.sched_getaffinity(0)))  # a process kept to one core measures one core
    return remembered(f"{cpu_model()} {usable}", lambda: _measured(threads, anew), anew)


def _measured(threads: int, anew: bool) -> Ceilings:
    if anew:
        measure.cache_clear()
    return measure(threads)


def remembered(device: str, measured: Callable[[], Ceilings], anew: bool) -> Ceilings:
    """What the cache folder holds for ``device``, measured first if there is nothing or if ``anew``."""
    name = hashlib.sha256(device.encode()).hexdigest()[:16]
    path = cache_folder() / "ceilings" / f"{name}.json"
    known = _read(path)
    if known is not None and not anew:
        return known
    found = measured()
    if known is not None:
        found = _higher(known, found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(found)), encoding="utf-8")
    except OSError:
        pass  # then they are measured again next time
    return found


def _read(path: Path) -> Ceilings | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["rungs"] = tuple(Rung(**rung) for rung in fields["rungs"])
        return Ceilings(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _higher(left: Ceilings, right: Ceilings) -> Ceilings:
    best = {rung.working_set: rung.bytes_per_second for rung in left.rungs}
    for rung in right.rungs:
        best[rung.working_set] = max(rung.bytes_per_second, best.get(rung.working_set, 0.0))
    return replace(
        right,
        bytes_per_second=max(left.bytes_per_second, right.bytes_per_second),
        flop_per_second=max(left.flop_per_second, right.flop_per_second),
        rungs=tuple(Rung(size, best[size]) for size in sorted(best)),
    )
