"""The evaluator of candidates on the CPU: PyTorch modules (scaffolds ``forward`` and ``module``) and C++ kernels.

Candidates in, verdicts out. It knows tasks and processes; it does not know policies, prompts or runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

from vegtts_core.errors import UserError
from vegtts_core.evaluator import freed_memory
from vegtts_core.evaluator.baselines import compiled_candidate
from vegtts_core.evaluator.cores import threads
from vegtts_core.evaluator.floors import Floors, cpu_ceilings
from vegtts_core.evaluator.outcome import Outcome, Stages, failed
from vegtts_core.evaluator.published import PublishedProtocol
from vegtts_core.evaluator.reference_lost import ReferenceLost
from vegtts_core.evaluator.round_trip import empty_round_trip
from vegtts_core.evaluator.sandbox import Layer
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.sound import SoundProtocol
from vegtts_core.evaluator.timing_lock import TimingLock
from vegtts_core.evaluator.types import ErrorKind, Measurement, ProtocolName, Stage, Verdict
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.ceilings import Ceilings
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

OnVerdict = Callable[[int, Verdict], None]
"""(index of the candidate, its verdict), as soon as it is known."""
Progress = Callable[[int, int], None]
"""(verdicts known, candidates)"""

_NOT_RUNNING = "The evaluator is not running: use it as `with ForwardEvaluator(...) as evaluator`."
_NO_CUDA = "It is written in CUDA and this evaluator measures on the CPU: give it to one for a CUDA device."
#: How many candidates a device may get ready ahead of the one that is evaluated.
_AHEAD = 8
_ALLOWED_WHEN_PUBLISHED = frozenset({ErrorKind.INPUT_MODIFIED, ErrorKind.INPUT_ALIASED})


class ForwardEvaluator:
    """Runs candidates in processes of their own and says what was measured.

    A context manager: leaving it ends every process it started; so does its own death. Not safe to share between
    threads. Equal candidates (task and fingerprint) get the verdict of the first, in this and later calls.
    """

    def __init__(self, tasks: Iterable[Task], settings: EvaluatorSettings | None = None, device: str = "cpu") -> None:
        """``tasks`` are the ones that candidates may name. Raises UserError for a device other than ``cpu``."""
        if device != "cpu":
            raise UserError(
                f"The forward evaluator measures on the CPU and not on {device!r}: leave device at 'cpu' "
                "(CUDA devices come with the kernel scaffolds)."
            )
        self.device = device
        self.settings = settings or EvaluatorSettings()
        self._tasks = {task.key: task for task in tasks}
        self._warm = WarmProcess()
        self._lock: TimingLock | None = None
        self._session: TaskSession | None = None
        self._known: dict[tuple[str, str], Verdict] = {}
        self._floors = Floors(self._ceilings)

    def __enter__(self) -> ForwardEvaluator:
        self._lock = TimingLock(self.measures_on)
        self._warm.start()
        if self.device == "cpu":
            freed_memory.keep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_session()
        self._warm.close()
        if self.device == "cpu":
            freed_memory.give_back()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def measures_on(self) -> str:
        """Its name for the timing lock: evaluators that share it measure one at a time."""
        return self.device

    def evaluate(
        self,
        candidates: Sequence[Candidate],
        on_verdict: OnVerdict | None = None,
        progress: Progress | None = None,
        fresh: bool = False,
    ) -> list[Verdict]:
        """One verdict per candidate, in order. Candidates of one task are evaluated together, whatever their order.

        ``fresh`` measures anew what is known already, on new secret data, and leaves the known verdicts as they are.

        Raises UserError for a candidate of an unknown task, outside the context manager, or if a reference cannot run;
        no candidate can make it raise.
        """
        verdicts: dict[int, Verdict] = {}
        for index, verdict in self.stream(candidates, fresh):
            verdicts[index] = verdict
            if on_verdict is not None:
                on_verdict(index, verdict)
            if progress is not None:
                progress(len(verdicts), len(candidates))
        return [verdicts[index] for index in range(len(candidates))]

    def stream(self, candidates: Sequence[Candidate], fresh: bool = False) -> Iterator[tuple[int, Verdict]]:
        """As `evaluate`: (index of the candidate, its verdict), each as soon as it is known, task by task."""
        lock = self._lock
        if lock is None:
            raise UserError(_NOT_RUNNING)
        groups: dict[str, list[int]] = {}
        for index, candidate in enumerate(candidates):
            if candidate.task_key not in self._tasks:
                raise UserError(f"No task {candidate.task_key!r} in this evaluator: give it to ForwardEvaluator.")
            if candidate.scaffold == "module":
                self._require_sandbox()
            groups.setdefault(candidate.task_key, []).append(index)
        known = {} if fresh else self._known
        if fresh:
            self._end_session()
        for place, index in enumerate(order := [index for indices in groups.values() for index in indices]):
            candidate = candidates[index]
            key = (candidate.task_key, candidate.fingerprint)
            if key not in known:
                ahead = [candidates[later] for later in order[place : place + _AHEAD]]
                self._prepare([c for c in ahead if (c.task_key, c.fingerprint) not in known])
                with lock.running(), threads(1):
                    known[key] = self._evaluate(self._tasks[candidate.task_key], candidate, lock)
            yield index, known[key]
        if fresh:
            self._end_session()

    def prepare(self, task: Task) -> None:
        """Draw a task's inputs and compute their answers now, not when its first candidate is evaluated.

        Raises UserError as `evaluate`.
        """
        lock = self._lock
        if lock is None:
            raise UserError(_NOT_RUNNING)
        with lock.running(), threads(1):
            self._session_of(task).prepare()

    def forget(self) -> None:
        """End the task in hand: the next evaluation of it has new draws, new memory and new processes."""
        self._end_session()

    def repeat(self, candidate: Candidate, protocol: ProtocolName, count: int) -> list[Measurement]:
        """Measure one candidate ``count`` times in one process under one protocol; one measurement if it fails.

        Nothing of it is remembered. Raises UserError as `evaluate`.
        """
        lock = self._lock
        if lock is None:
            raise UserError(_NOT_RUNNING)
        session = self._session_of(self._tasks[candidate.task_key])
        session.published_reference_seconds = ()
        run = SoundProtocol if protocol is ProtocolName.SOUND else PublishedProtocol
        with lock.running(), threads(1):
            try:
                outcomes = run(session, candidate, lock, Stages()).repeat(count)
            except ReferenceLost:  # not the candidate's doing: all of it once more, with a new one
                try:
                    outcomes = run(session, candidate, lock, Stages()).repeat(count)
                except ReferenceLost as lost:
                    raise UserError(f"Twice, the reference of {candidate.task_key} was lost: {lost}") from None
        return [outcome.measurement for outcome in outcomes]

    def baseline(self, task: Task) -> Verdict:
        """The reference under ``torch.compile``, evaluated like a candidate: see `vegtts_core.evaluator.baselines`.

        Raises UserError as `evaluate`.
        """
        return self.evaluate([compiled_candidate(task, self.device)])[0]

    def empty_round_trip(self) -> float:
        """Seconds that the evaluator's channel adds to every timed call, of candidate and reference alike (median)."""
        if self._lock is None:
            raise UserError(_NOT_RUNNING)
        with self._lock.running(), self._lock.measuring():
            return empty_round_trip(self._warm, self.settings)

    @property
    def layers(self) -> dict[Layer, str]:
        """Why each layer of the sandbox is missing on this machine; empty where it is active. Known once it runs."""
        return dict(self._warm.layers)

    def _require_sandbox(self) -> None:
        missing = {layer: reason for layer, reason in self._warm.layers.items() if reason}
        unexpected = sorted(missing.keys() - self.settings.sandbox.without)
        if unexpected:
            reasons = "; ".join(f"{layer} ({missing[layer]})" for layer in unexpected)
            raise UserError(
                f"Scaffold module runs any Python and this machine lacks layers of the sandbox: {reasons}. Use a "
                f"machine that has them, or name them in sandbox.without to go on without."
            )

    # What an evaluator for another device does otherwise.

    def _new_session(self, task: Task) -> TaskSession:
        return TaskSession(task, self.settings, self._warm)

    def _refusal(self, candidate: Candidate) -> str:
        """Why such candidates do not run on this device; empty if they do."""
        return _NO_CUDA if candidate.language is Language.CUDA else ""

    def _prepare(self, ahead: Sequence[Candidate]) -> None:
        """The candidates that are evaluated next, in order."""

    def _ceilings(self, anew: bool) -> Ceilings:
        assert self._lock is not None
        with self._lock.measuring():
            return cpu_ceilings(self.settings.threads, anew)

    def _session_of(self, task: Task) -> TaskSession:
        if self._session is None or self._session.task.key != task.key:
            self._end_session()
            self._session = self._new_session(task)
        return self._session

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _evaluate(self, task: Task, candidate: Candidate, lock: TimingLock) -> Verdict:
        stages = Stages()
        reason = self._refusal(candidate)
        if reason:
            refusal = failed(Stage.COMPILE, ErrorKind.UNSUPPORTED, reason, 0)
            return self._verdict(candidate, dict.fromkeys(self.settings.protocols, refusal), stages)
        session = self._session_of(task)
        outcomes: dict[ProtocolName, Outcome] = {}
        for protocol in (ProtocolName.SOUND, ProtocolName.PUBLISHED):
            if protocol not in self.settings.protocols:
                continue
            earlier = outcomes.get(ProtocolName.SOUND)
            if earlier is not None and earlier.calls == 0 and earlier.error not in _ALLOWED_WHEN_PUBLISHED:
                outcomes[protocol] = earlier  # it never returned the right kind of tensor: other rules change nothing
            else:
                outcomes[protocol] = self._run(protocol, session, candidate, lock, stages)
        return self._verdict(candidate, outcomes, stages)

    def _verdict(self, candidate: Candidate, outcomes: dict[ProtocolName, Outcome], stages: Stages) -> Verdict:
        leading = outcomes.get(ProtocolName.SOUND) or outcomes[ProtocolName.PUBLISHED]
        sound, published = outcomes.get(ProtocolName.SOUND), outcomes.get(ProtocolName.PUBLISHED)
        return Verdict(
            task_key=candidate.task_key,
            fingerprint=candidate.fingerprint,
            device=self.device,
            stage=leading.stage,
            error=leading.error,
            reason=leading.reason,
            published=published.measurement if published else None,
            sound=sound.measurement if sound else None,
            seconds=stages.seconds,
        )

    def _run(
        self, protocol: ProtocolName, session: TaskSession, candidate: Candidate, lock: TimingLock, stages: Stages
    ) -> Outcome:
        run = SoundProtocol if protocol is ProtocolName.SOUND else PublishedProtocol
        for attempt in range(2):
            try:
                outcome = run(session, candidate, lock, stages).run()
                return self._floors.judge(session.task, outcome, reject=protocol is ProtocolName.SOUND)
            except ReferenceLost:
                time.sleep(0.1 * attempt)
        return failed(Stage.TIMING, ErrorKind.CRASH, "Twice, the reference's process ended while this one ran.", 1)
