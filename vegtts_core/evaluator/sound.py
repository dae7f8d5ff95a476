"""The sound protocol: secret inputs, a float64 error budget, checked and paired timing, a decision with an interval.

Correctness: benchmark draws, each argument that matters replaced in turn, wide draws, and the first draw again.
Weights are new for each draw. Side effects on buffers (BatchNorm's running statistics) are not compared.

Timing: candidate and reference run alternately, in random order within each pair, in processes that differ in nothing
but the module. Every call, warm-up included, gets inputs that its process has not seen, out of memory and not out of a
cache; after the clock stops and before the result is written down the inputs are overwritten; every output is held
against the reference's output of the same pair (bit by bit first; where bits differ, within twice the budget; on a GPU
a secret sample, if it is large). At random places, pairs on inputs from beyond the benchmark's are taken in the same
way, checked in full and not counted: who is right while checked and careless while timed does not know when it is
checked.

The noise within one pair of processes does not show what differs between evaluations (where memory came to lie, which
core a thread got): every interval is widened by what repeated evaluations were found to differ by. *Faster*, which is
what candidates are after, is moreover said only if further pairs of new processes say so too; the interval then spans
those of all pairs. One that disagrees leaves *undecided*.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from dataclasses import replace

import torch

from vegtts_core.evaluator import beside
from vegtts_core.evaluator.answers import Draw, Inputs
from vegtts_core.evaluator.comparing import close_to_timed, scaled_error
from vegtts_core.evaluator.outcome import Outcome, Stages, failed
from vegtts_core.evaluator.processes import CandidateFailure
from vegtts_core.evaluator.reference_lost import reference_runs
from vegtts_core.evaluator.runner import Call, Runner
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.shared_memory import Arena, identical
from vegtts_core.evaluator.sound_result import (
    between_evaluations,
    enough,
    measurement_of,
    spanning,
    summary,
    worked_on,
)
from vegtts_core.evaluator.timing_lock import TimingLock
from vegtts_core.evaluator.types import Decision, ErrorKind, Measurement, Stage
from vegtts_core.scaffolds.types import Candidate

#: Fewer pairs than this bound nothing.
_FEWEST_PAIRS = 6
#: How often a hidden check comes before a pair, beside those that every candidate gets.
_HIDDEN_ONE_IN = 6


class SoundProtocol:
    """One candidate under the sound protocol."""

    def __init__(self, session: TaskSession, candidate: Candidate, lock: TimingLock, stages: Stages) -> None:
        self._session = session
        self._settings = session.settings.sound
        self._candidate = candidate
        self._lock = lock
        self._stages = stages
        self._weights: dict[str, torch.Tensor] | None = None
        self._draw: Draw | None = None
        self._calls = 0
        #: Seconds of the reference without the candidate, where the two share a device.
        self._alone: list[float] = []
        #: The largest error so far, in units of the budget.
        self._worst = float("nan")

    def run(self) -> Outcome:
        """Build, check, time. Raises `ReferenceLost`."""
        return self.repeat(1)[0]

    def repeat(self, count: int) -> list[Outcome]:
        """Build and check once, time ``count`` times: an outcome each, one if it fails. Raises `ReferenceLost`."""
        process: Runner | None = None
        outcomes: list[Outcome] = []
        try:
            with self._stages.enter(Stage.COMPILE):
                is_compiling = self._session.announce(self._candidate)
            with self._stages.enter(Stage.CORRECTNESS):
                if is_compiling:
                    self._session.prepare()
            with self._stages.enter(Stage.COMPILE):
                process = self._start()
                process.await_ready()
            with self._stages.enter(Stage.CORRECTNESS):
                self._check(process)
            for _ in range(count):
                with self._stages.enter(Stage.TIMING):
                    measurement = self._time(process)
                    for _ in range(self._settings.confirmations):
                        if measurement.decision is not Decision.FASTER:
                            break
                        self._session.end(process)
                        self._session.drop_reference()
                        process = self._start()
                        process.await_ready()
                        measurement = spanning(measurement, self._time(process), self._settings.minimum_effect)
                measurement = replace(measurement, max_error=self._worst)
                outcomes.append(Outcome(measurement, Stage.REWARD, None, "", self._calls))
            return outcomes
        except CandidateFailure as failure:
            if failure.fault and self._draw is not None and self._stages.current is not Stage.COMPILE:
                failure = self._explain_fault(failure, self._draw)
            return [failed(self._stages.current, failure.kind, failure.reason, self._calls, self._worst)]
        finally:
            if process is not None:
                self._session.end(process)

    def _start(self) -> Runner:
        """A process of the candidate; where it will share the device, the reference is timed without it first."""
        if self._session.shares_device(self._candidate):
            with self._lock.measuring():
                self._alone = self._time_alone()
        process = self._session.start(self._candidate, writable_inputs=False)
        self._session.expect_reference()
        return process

    def _time_alone(self) -> list[float]:
        session, calls, counted = self._session, [], self._calls
        reference = session.reference
        with reference_runs(session):
            session.load_weights(reference, session.timing_weights)
            session.settle()
            for number in range(beside.WARMUP + beside.CALLS):
                session.load_inputs(session.timing_inputs(number))
                calls.append(self._call(reference, session.reference_output).seconds)
        self._calls = counted
        return calls[beside.WARMUP :]

    def _call(self, process: Runner, arena: Arena, is_timed: bool = False) -> Call:
        """One call with poisoned output; the inputs are gone before the result is written down, or read.

        So is what may have been written down before its time: on a GPU any Python can find the output's memory.
        """

        def clear() -> None:
            self._session.inputs.fill()
            if self._candidate.scaffold == "module":
                arena.fill()

        arena.fill()
        if is_timed:
            self._session.empty_caches(arena)
        call = process.call(clear)
        self._session.check_bounds()
        self._calls += 1
        return call

    def _output_of(self, process: Runner, draw: Draw) -> torch.Tensor:
        """The candidate's output on a draw: a view of shared memory, valid until the next call."""
        self._draw = draw
        if draw.weights is not self._weights:
            self._session.load_weights(process, draw.weights)
            self._weights = draw.weights
        self._session.load_inputs(draw.inputs)
        self._call(process, self._session.output)
        return self._session.judged(self._session.output)

    def _check(self, process: Runner) -> None:
        """Hold the output against the answer on every draw. Raises `CandidateFailure`."""
        self._worst = 0.0
        first, *others = self._session.draws
        first_output = torch.empty(0)
        for draw in (first, *others):
            output = self._output_of(process, draw)
            error = self._error(draw, output)
            self._worst = max(self._worst, error)
            if not error <= 1:
                raise self._diagnose(process, draw, output.clone(), error)
            if draw is first:
                first_output = output.clone()
            elif draw.base is first and draw.moved and identical(output, first_output):
                raise CandidateFailure(
                    ErrorKind.INSENSITIVE, f"Its output stayed the same, bit by bit, under another `{draw.changed}`."
                )
        if not self._error(first, self._output_of(process, first)) <= 1:
            raise CandidateFailure(
                ErrorKind.NOT_REPEATABLE, f"It was right on {first.name} and wrong when the same inputs came back."
            )

    def _error(self, draw: Draw, output: torch.Tensor) -> float:
        error = scaled_error(self._session.task, draw, output)
        return error / draw.budget if draw.budget else error

    def _diagnose(self, process: Runner, draw: Draw, output: torch.Tensor, error: float) -> CandidateFailure:
        """Tell a wrong output from a random and from a constant one, by calling again."""
        with contextlib.suppress(CandidateFailure):
            again = self._output_of(process, draw)
            if not identical(output, again) and not self._error(draw.expecting(output), again) <= 1:
                return CandidateFailure(
                    ErrorKind.NOT_REPEATABLE, f"Two calls on the same inputs ({draw.name}) gave unequal outputs."
                )
            other = next(d for d in self._session.draws if d is not draw or len(self._session.draws) == 1)
            if (
                not identical(draw.expected, other.expected)
                and bool(output.isfinite().all())
                and identical(output, self._output_of(process, other))
            ):
                return CandidateFailure(
                    ErrorKind.INSENSITIVE, f"It gave the same output on {draw.name} and on {other.name}."
                )
        if math.isinf(error):
            integers = not output.is_floating_point()
            what = "wrong entries" if integers else "NaN or infinity where the reference has none, or the reverse"
        else:
            what = "errors beyond the budget"  # how large is in `max_error`: it differs from draw to draw
        return CandidateFailure(ErrorKind.WRONG_VALUES, f"On {draw.name} its output has {what}.")

    def _explain_fault(self, failure: CandidateFailure, draw: Draw) -> CandidateFailure:
        """Whether a memory fault was a write to the inputs: run once more where writing to them is possible."""
        session = self._session
        survived = False
        modified: list[str] = []

        def compare() -> None:
            nonlocal survived
            survived = True
            for spec, now, was in zip(session.task.inputs, session.writable_inputs.tensors, draw.inputs, strict=True):
                if torch.is_tensor(was) and not identical(now, was.contiguous()):
                    modified.append(spec.name)

        process = session.start(self._candidate, writable_inputs=True)
        try:
            process.await_ready()
            session.load_weights(process, draw.weights)
            session.load_inputs(draw.inputs, writable=True)
            process.call(compare)
        except CandidateFailure:
            pass  # what it does here is no verdict of its own
        finally:
            process.close()
        if not survived:
            return failure
        names = " and ".join(f"`{name}`" for name in modified) or "memory (the values that were there)"
        return CandidateFailure(ErrorKind.INPUT_MODIFIED, f"It wrote to its input {names}.")

    def _time(self, process: Runner) -> Measurement:
        settings, session = self._settings, self._session
        budget = max(draw.budget for draw in session.draws[: settings.benchmark_draws])
        reference_calls: list[Call] = []
        candidate_calls: list[Call] = []
        device, scaffold = session.output.tensors[0].device.type, self._candidate.scaffold
        alone = settings.between_evaluations.reach(device, scaffold)
        reach = settings.between_evaluations.reach(device, scaffold, session.settings.workers)
        with self._lock.measuring():
            reference = session.reference
            with reference_runs(session):
                session.warm_up_reference()
                session.load_weights(reference, session.timing_weights)
            session.load_weights(process, session.timing_weights)
            session.settle()
            places = [secrets.randbelow(settings.warmup + settings.min_pairs) for _ in session.hidden_draws]
            with session.aside(process):
                for number in range(settings.warmup):
                    self._hidden_pairs(process, reference, number, places)
                    self._pair(process, reference, number, budget)
                start, pairs = time.monotonic(), 0
                watch = session.watch(process)
                while True:
                    start += watch.await_steady()
                    self._hidden_pairs(process, reference, settings.warmup + pairs, places)
                    theirs, ours = self._pair(process, reference, settings.warmup + pairs, budget)
                    pairs += 1
                    if watch.counts():
                        reference_calls.append(theirs)
                        candidate_calls.append(ours)
                    result = summary(reference_calls, candidate_calls, scaffold != "forward")
                    spent = time.monotonic() - start
                    between = between_evaluations(reference_calls, result[1], alone)
                    if len(candidate_calls) >= settings.min_pairs and enough(result[0], between, settings.half_width):
                        break
                    if pairs >= settings.max_pairs or process.seconds_left < 2 * spent / pairs:
                        break
                    if len(candidate_calls) >= _FEWEST_PAIRS and spent > settings.max_seconds:
                        break
        if not candidate_calls:
            raise CandidateFailure(
                ErrorKind.UNSTEADY,
                f"It was right, but the device was steady in none of {pairs} timed pairs of calls.",
            )
        if worked_on(candidate_calls, reference_calls):
            raise CandidateFailure(
                ErrorKind.LATE_WORK, "It went on working after it had said that it was done and the clock had stopped."
            )
        if self._alone:
            reference_calls = beside.unslowed(self._alone, reference_calls)
            result = summary(reference_calls, candidate_calls, scaffold != "forward")
        return measurement_of(*result, reference_calls, pairs - len(candidate_calls), watch.states, settings, reach)

    def _pair(self, process: Runner, reference: Runner, number: int, budget: float) -> tuple[Call, Call]:
        """One call of each on the same new inputs, in random order, the candidate's output checked."""
        session = self._session
        inputs = session.timing_inputs(number)
        calls = self._call_both(process, reference, inputs)
        output, expected = session.judged(session.output), session.judged(session.reference_output)
        if not identical(output, expected) and not close_to_timed(session.task, inputs, output, expected, budget):
            raise CandidateFailure(ErrorKind.WRONG_VALUES, f"Its output was wrong in timed call {number + 1}.")
        return calls

    def _hidden_pairs(self, process: Runner, reference: Runner, number: int, places: list[int]) -> None:
        """The checks that look like any other pair: every hidden draw in its place, and some again now and then."""
        draws = [draw for draw, place in zip(self._session.hidden_draws, places, strict=True) if place == number]
        if not secrets.randbelow(_HIDDEN_ONE_IN):
            draws.append(secrets.choice(self._session.hidden_draws))
        for draw in draws:
            self._call_both(process, reference, draw.inputs)
            error = self._error(draw, self._session.judged(self._session.output))
            self._worst = max(self._worst, error)
            if not error <= 1:
                raise CandidateFailure(
                    ErrorKind.WRONG_VALUES, f"It was wrong in a check hidden among the timed calls ({draw.name})."
                )

    def _call_both(self, process: Runner, reference: Runner, inputs: Inputs) -> tuple[Call, Call]:
        """One call of each on the same inputs, in random order."""
        session = self._session
        calls: dict[bool, Call] = {}
        reference_first = bool(secrets.randbits(1))
        for is_reference in (reference_first, not reference_first):
            session.load_inputs(inputs)
            if is_reference:
                with reference_runs(session):
                    calls[True] = self._call(reference, session.reference_output, is_timed=True)
            else:
                calls[False] = self._call(process, session.output, is_timed=True)
        return calls[True], calls[False]
