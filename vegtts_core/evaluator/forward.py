"""The evaluator of candidates that are PyTorch modules on the CPU: the ``forward`` scaffold's, or any module's source.

Candidates in, verdicts out. It knows tasks and processes; it does not know policies, prompts or runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from vegtts_core.errors import UserError
from vegtts_core.evaluator.cores import threads
from vegtts_core.evaluator.outcome import Outcome, Stages, failed
from vegtts_core.evaluator.processes import WarmProcess
from vegtts_core.evaluator.published import PublishedProtocol
from vegtts_core.evaluator.round_trip import empty_round_trip
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.sound import ReferenceLost, SoundProtocol
from vegtts_core.evaluator.timing_lock import TimingLock
from vegtts_core.evaluator.types import ErrorKind, ProtocolName, Stage, Verdict
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

OnVerdict = Callable[[int, Verdict], None]
"""(index of the candidate, its verdict), as soon as it is known."""
Progress = Callable[[int, int], None]
"""(verdicts known, candidates)"""

_NOT_RUNNING = "The evaluator is not running: use it as `with ForwardEvaluator(...) as evaluator`."
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

    def __enter__(self) -> ForwardEvaluator:
        self._lock = TimingLock(self.device)
        self._warm.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_session()
        self._warm.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def evaluate(
        self,
        candidates: Sequence[Candidate],
        on_verdict: OnVerdict | None = None,
        progress: Progress | None = None,
    ) -> list[Verdict]:
        """One verdict per candidate, in order. Candidates of one task are evaluated together, whatever their order.

        Raises UserError for a candidate of an unknown task, outside the context manager, or if a reference cannot run;
        no candidate can make it raise.
        """
        lock = self._lock
        if lock is None:
            raise UserError(_NOT_RUNNING)
        groups: dict[str, list[int]] = {}
        for index, candidate in enumerate(candidates):
            if candidate.task_key not in self._tasks:
                raise UserError(f"No task {candidate.task_key!r} in this evaluator: give it to ForwardEvaluator.")
            groups.setdefault(candidate.task_key, []).append(index)
        verdicts: dict[int, Verdict] = {}
        for task_key, indices in groups.items():
            for index in indices:
                candidate = candidates[index]
                key = (task_key, candidate.fingerprint)
                if key not in self._known:
                    with lock.running(), threads(1):
                        self._known[key] = self._evaluate(self._tasks[task_key], candidate, lock)
                verdicts[index] = self._known[key]
                if on_verdict is not None:
                    on_verdict(index, verdicts[index])
                if progress is not None:
                    progress(len(verdicts), len(candidates))
        return [verdicts[index] for index in range(len(candidates))]

    def empty_round_trip(self) -> float:
        """Seconds that the evaluator's channel adds to every timed call, of candidate and reference alike (median)."""
        if self._lock is None:
            raise UserError(_NOT_RUNNING)
        with self._lock.running(), self._lock.measuring():
            return empty_round_trip(self._warm, self.settings)

    def _session_of(self, task: Task) -> TaskSession:
        if self._session is None or self._session.task.key != task.key:
            self._end_session()
            self._session = TaskSession(task, self.settings, self._warm)
        return self._session

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _evaluate(self, task: Task, candidate: Candidate, lock: TimingLock) -> Verdict:
        session = self._session_of(task)
        stages = Stages()
        outcomes: dict[ProtocolName, Outcome] = {}
        for protocol in (ProtocolName.SOUND, ProtocolName.PUBLISHED):
            if protocol not in self.settings.protocols:
                continue
            earlier = outcomes.get(ProtocolName.SOUND)
            if earlier is not None and earlier.calls == 0 and earlier.error not in _ALLOWED_WHEN_PUBLISHED:
                outcomes[protocol] = earlier  # it never returned the right kind of tensor: other rules change nothing
            else:
                outcomes[protocol] = self._run(protocol, session, candidate.source, lock, stages)
        leading = outcomes.get(ProtocolName.SOUND) or outcomes[ProtocolName.PUBLISHED]
        sound, published = outcomes.get(ProtocolName.SOUND), outcomes.get(ProtocolName.PUBLISHED)
        return Verdict(
            task_key=task.key,
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
        self, protocol: ProtocolName, session: TaskSession, source: str, lock: TimingLock, stages: Stages
    ) -> Outcome:
        run = SoundProtocol if protocol is ProtocolName.SOUND else PublishedProtocol
        for attempt in range(2):
            try:
                return run(session, source, lock, stages).run()
            except ReferenceLost:
                time.sleep(0.1 * attempt)
        return failed(Stage.TIMING, ErrorKind.CRASH, "Twice, the reference's process ended while this one ran.", 1)
