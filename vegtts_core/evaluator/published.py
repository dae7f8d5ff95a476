"""The published protocol, as KernelBench at commit 423217d evaluates: kept as it was, weaknesses included.

Inputs come from the benchmark's own distribution under its known seed, weights are drawn once, the tolerance is fixed,
writing to inputs and returning them is allowed. Reference and candidate are timed one after the other on one set of
inputs, not interleaved; speedup is the ratio of mean times rounded to three digits, and faster means above 1. The
processes are isolated and the evaluator holds the clock as in the sound protocol. As there, a reference is timed when
its calls find memory that they have touched: KernelBench's has run correctness trials by then, in the same process.
"""

from __future__ import annotations

import torch

from vegtts_core.evaluator.outcome import Outcome, Stages, failed
from vegtts_core.evaluator.processes import CandidateFailure
from vegtts_core.evaluator.reference_lost import reference_runs
from vegtts_core.evaluator.runner import Runner
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.timing_lock import TimingLock
from vegtts_core.evaluator.timing_statistics import decide_published, published_speedup
from vegtts_core.evaluator.types import ErrorKind, Measurement, Stage
from vegtts_core.scaffolds.types import Candidate


class PublishedProtocol:
    """One candidate under the published protocol."""

    def __init__(self, session: TaskSession, candidate: Candidate, lock: TimingLock, stages: Stages) -> None:
        self._session = session
        self._settings = session.settings.published
        self._candidate = candidate
        self._lock = lock
        self._stages = stages
        self._calls = 0

    def run(self) -> Outcome:
        """Build, check, time. Raises `ReferenceLost`."""
        return self.repeat(1)[0]

    def repeat(self, count: int) -> list[Outcome]:
        """Build and check once, time ``count`` times: an outcome each, one if it fails. Raises `ReferenceLost`.

        From the second time on the reference is timed again as well.
        """
        process: Runner | None = None
        outcomes: list[Outcome] = []
        try:
            with self._stages.enter(Stage.COMPILE):
                process = self._session.start(self._candidate, writable_inputs=True)
                process.await_ready()
            with self._stages.enter(Stage.CORRECTNESS):
                self._check(process)
            for _ in range(count):
                with self._stages.enter(Stage.TIMING):
                    outcomes.append(Outcome(self._time(process), Stage.REWARD, None, "", self._calls))
                if len(outcomes) < count:
                    self._session.published_reference_seconds = ()
            return outcomes
        except CandidateFailure as failure:
            return [failed(self._stages.current, failure.kind, failure.reason, self._calls)]
        finally:
            if process is not None:
                self._session.end(process)

    def _check(self, process: Runner) -> None:
        tolerance = self._settings.tolerance
        for number, (inputs, expected) in enumerate(self._session.published_draws):
            self._session.load_inputs(inputs, writable=True)
            self._session.output.fill()
            process.call(None)
            self._session.check_bounds()
            self._calls += 1
            output = self._session.judged(self._session.output)
            if not torch.allclose(output, expected, rtol=tolerance, atol=tolerance):
                raise CandidateFailure(
                    ErrorKind.WRONG_VALUES,
                    f"In correctness trial {number + 1} its output is not within {tolerance:g} of the reference's.",
                )

    def _time(self, process: Runner) -> Measurement:
        session = self._session
        inputs, _ = session.published_draws[0]
        with self._lock.measuring():
            if not session.published_reference_seconds:
                with reference_runs(session):
                    session.warm_up_reference()
                    session.load_weights(session.reference, session.published_weights)
                    session.load_inputs(inputs)
                    session.settle()
                    session.published_reference_seconds = self._calls_of(session.reference)
            session.load_inputs(inputs, writable=True)
            session.settle()
            seconds = self._calls_of(process)
        speedup = published_speedup(session.published_reference_seconds, seconds)
        return Measurement(
            correct=True,
            speedup=speedup,
            decision=decide_published(speedup),
            reward=speedup,
            reference_seconds=session.published_reference_seconds,
            candidate_seconds=seconds,
        )

    def _calls_of(self, process: Runner) -> tuple[float, ...]:
        settings = self._settings
        with self._session.aside(process):
            calls = [process.call(None) for _ in range(settings.warmup + settings.timing_trials)]
        return tuple(call.seconds for call in calls[settings.warmup :])
