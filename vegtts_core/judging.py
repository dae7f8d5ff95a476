"""From completions to judged rollouts: parse, evaluate every distinct candidate once per run, fill the rows.

Best-of-N and training share it. It writes verdicts into the run store as they come, so that a run which was killed
never evaluates a candidate again; it knows nothing of policies, rewards or steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from vegtts_core.cluster.evaluation import RayEvaluators
from vegtts_core.cluster.parameters import RayParameters
from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings, ForwardEvaluator
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.evaluator.pool import EvaluatorPool
from vegtts_core.evaluator.types import ErrorKind, ProtocolName, Stage, Verdict
from vegtts_core.runs.rows import retimed_columns, verdict_columns, verdict_from_json, verdict_to_json
from vegtts_core.runs.store import RunStore
from vegtts_core.scaffolds import Candidate, Refusal, Scaffold
from vegtts_core.tasks import Task

Key = tuple[str, str]
"""(task key, fingerprint)"""
AnyEvaluator = ForwardEvaluator | EvaluatorPool | RayEvaluators
"""One evaluator, or several behind the same methods."""


class Judge:
    """Judges the rows of one run. Rows carry ``task``, ``scaffold`` and ``completion``."""

    def __init__(
        self,
        store: RunStore,
        tasks: Iterable[Task],
        settings: EvaluatorSettings,
        device: str,
        protocol: ProtocolName,
        cluster: RayParameters | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """``protocol`` says whose reward a row carries; ``cluster``, whose devices measure (None: this machine's)."""
        self.store = store
        self.tasks = {task.key: task for task in tasks}
        self.settings = settings
        self.device = device
        self.protocol = protocol
        self.cluster = cluster
        self._report = report
        self._scaffolds: dict[str, Scaffold] = {}
        self._parsed: dict[tuple[str, str, str], Candidate | Refusal] = {}

    @cached_property
    def verdicts(self) -> dict[Key, Verdict]:
        """First verdicts by task and fingerprint: those on disk, and new ones as they come."""
        return self._on_disk("verdict")

    @cached_property
    def retimed(self) -> dict[Key, Verdict]:
        """Second verdicts, on fresh data."""
        return self._on_disk("retimed")

    def scaffold(self, name: str) -> Scaffold:
        """The scaffold of this name for the run's device. Raises UserError for unknown names."""
        if name not in self._scaffolds:
            self._scaffolds[name] = scaffold_for(name, self.device)
        return self._scaffolds[name]

    def evaluator(self, scaffold: str) -> AnyEvaluator:
        """The evaluator of the run's tasks, not yet entered; several on a cluster and where settings ask for workers.

        Raises UserError for a device without an evaluator, and for a cluster that is not there.
        """
        if self.cluster is not None:
            tasks = list(self.tasks.values())
            return RayEvaluators(scaffold, self.device, tasks, self.settings, self.cluster, self._report)
        if self.settings.workers > 1:
            if self.device == "cuda":
                raise UserError("A GPU measures one candidate at a time: set evaluator.workers to 1.")
            return EvaluatorPool(list(self.tasks.values()), self.settings)
        return evaluator_for(scaffold, self.device, self.tasks.values(), self.settings)

    def parse(self, row: Mapping[str, Any]) -> Candidate | Refusal:
        """The row's candidate, or why it has none."""
        key = row["task"], row["scaffold"], row["completion"]
        if key not in self._parsed:
            self._parsed[key] = self.scaffold(row["scaffold"]).parse(self.tasks[row["task"]], row["completion"])
        return self._parsed[key]

    def candidates(self, rows: Iterable[Mapping[str, Any]]) -> list[Candidate]:
        """The distinct candidates among ``rows``, in order of first appearance."""
        found: dict[Key, Candidate] = {}
        for row in rows:
            parsed = self.parse(row)
            if isinstance(parsed, Candidate):
                found.setdefault(_key(parsed), parsed)
        return list(found.values())

    def unjudged(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those without a verdict."""
        return [candidate for candidate in candidates if _key(candidate) not in self.verdicts]

    def not_retimed(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those that were correct and have no second evaluation yet."""
        return [
            candidate
            for candidate in candidates
            if (verdict := self.verdicts.get(_key(candidate))) is not None
            and verdict.error is None
            and _key(candidate) not in self.retimed
        ]

    def judge(
        self,
        evaluator: AnyEvaluator,
        candidates: Sequence[Candidate],
        again: bool = False,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        """Evaluate ``candidates`` (``again``: once more, on fresh data); each verdict is on disk before the next."""
        kind, known = ("retimed", self.retimed) if again else ("verdict", self.verdicts)

        def keep(_: int, verdict: Verdict) -> None:
            self.store.append_verdict({"kind": kind, "verdict": verdict_to_json(verdict)})
            known[verdict.task_key, verdict.fingerprint] = verdict
            advance()

        evaluator.evaluate(candidates, on_verdict=keep, fresh=again)

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with everything that its verdict (or refusal) says. Its candidate must have been judged."""
        parsed = self.parse(row)
        if isinstance(parsed, Refusal):
            wrong = {f"{protocol.value}_correct": False for protocol in self.settings.protocols}
            return (
                dict(row)
                | wrong
                | {
                    "stage": Stage.SCAFFOLD.value,
                    "error": ErrorKind(f"refused_{parsed.kind.value}").value,
                    "reason": parsed.reason,
                    "reward": 0.0,
                    "evaluation_seconds": 0.0,
                }
            )
        verdict = self.verdicts[_key(parsed)]
        measurement = verdict.sound if self.protocol is ProtocolName.SOUND else verdict.published
        reward = measurement.reward if measurement else 0.0
        named = {"body": parsed.body, "fingerprint": parsed.fingerprint}
        again = self.retimed.get(_key(parsed))
        return dict(row) | named | verdict_columns(verdict, reward) | (retimed_columns(again) if again else {})

    def _on_disk(self, kind: str) -> dict[Key, Verdict]:
        return {
            (record["verdict"]["task_key"], record["verdict"]["fingerprint"]): verdict_from_json(record["verdict"])
            for record in self.store.verdicts()
            if record["kind"] == kind
        }


def _key(candidate: Candidate) -> Key:
    return candidate.task_key, candidate.fingerprint
