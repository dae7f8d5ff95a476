"""Evaluators on the devices of a Ray cluster, behind the interface of one. It knows candidates; it knows no runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from vegtts_core.cluster import place
from vegtts_core.cluster.connection import connect, require_devices, resource
from vegtts_core.cluster.parameters import RayParameters
from vegtts_core.cluster.workers import Lost, Report, Workers
from vegtts_core.errors import UserError
from vegtts_core.evaluator.choice import evaluator_for
from vegtts_core.evaluator.floors import device_ceilings
from vegtts_core.evaluator.forward import ForwardEvaluator, OnVerdict, Progress
from vegtts_core.evaluator.outcome import failed
from vegtts_core.evaluator.pool import PORTION, named, portions
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import ErrorKind, Stage, Verdict
from vegtts_core.kernels.ceilings import Ceilings
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, get_task


class RayEvaluators:
    """One evaluator per device of the cluster; a measurement holds 1 of the device's resource.

    A candidate whose worker died ``deaths`` times while it was evaluated gets a verdict: `ErrorKind.CRASH`.
    """

    def __init__(
        self,
        scaffold: str,
        device: str,
        tasks: Sequence[Task],
        settings: EvaluatorSettings,
        parameters: RayParameters,
        report: Report | None = None,
    ) -> None:
        """Raises UserError for tasks that a node cannot make from their number, and as `connect`."""
        self.device, self.settings = device, settings
        self._deaths = parameters.deaths
        kind = resource(device)
        names = named(tasks, "set pool to local")
        ray = connect(parameters, parameters.devices or settings.workers)
        count = min(require_devices(ray, kind, parameters.address), parameters.devices or 1 << 30)
        take = {"num_gpus": 1} if kind == "GPU" else {"resources": {kind: 1}}
        if device == "cpu" and count > settings.workers:  # they may share a node, and then its memory
            settings = settings.model_copy(update={"workers": count})
        remote = ray.remote(num_cpus=0, max_restarts=0, **take)(EvaluationWorker)
        self._count = count
        self._workers = Workers(
            ray, kind, count, parameters.deaths, lambda: remote.remote(scaffold, device, names, settings), report
        )
        self._running = False

    def __enter__(self) -> RayEvaluators:
        self._workers.__enter__()
        self._running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        self._workers.__exit__(kind, error, trace)

    def evaluate(
        self,
        candidates: Sequence[Candidate],
        on_verdict: OnVerdict | None = None,
        progress: Progress | None = None,
        fresh: bool = False,
    ) -> list[Verdict]:
        """As `ForwardEvaluator.evaluate`; verdicts come in any order. Equal candidates should be handed in once."""
        if not self._running:
            raise UserError("The evaluators are not running: use them as `with RayEvaluators(...) as evaluator`.")
        verdicts: dict[int, Verdict] = {}

        def work(actor: Any, items: Sequence[int]) -> Any:
            portion = [candidates[item] for item in items]
            return actor.evaluate.options(num_returns="streaming").remote(portion, fresh)

        size = max(1, min(PORTION, -(-len(candidates) // self._count)))
        for index, result in self._workers.run(portions(candidates, size), work):
            verdicts[index] = self._crash(candidates[index], result) if isinstance(result, Lost) else result
            if on_verdict is not None:
                on_verdict(index, verdicts[index])
            if progress is not None:
                progress(len(verdicts), len(candidates))
        return [verdicts[index] for index in range(len(candidates))]

    def ceilings(self) -> Ceilings:
        """What a device of the cluster can do at most, measured by one worker. Nodes should be alike."""

        def work(actor: Any, _: Sequence[int]) -> Any:
            return actor.ceilings.options(num_returns="streaming").remote()

        ((_, found),) = self._workers.run([[0]], work)
        if isinstance(found, Lost):
            raise UserError("Workers of the cluster died while they measured its memory: look at the nodes' memory.")
        return found

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What each worker that started runs on (`place.take`)."""
        return self._workers.facts

    def _crash(self, candidate: Candidate, lost: Lost) -> Verdict:
        reason = f"Its evaluator's process was killed {lost.deaths} times while it was evaluated."
        outcome = failed(Stage.CORRECTNESS, ErrorKind.CRASH, reason, 0)
        measured = {protocol.value: outcome.measurement for protocol in self.settings.protocols}
        return Verdict(
            task_key=candidate.task_key,
            fingerprint=candidate.fingerprint,
            device=self.device,
            stage=outcome.stage,
            error=outcome.error,
            reason=reason,
            published=measured.get("published"),
            sound=measured.get("sound"),
            seconds={},
        )


class EvaluationWorker:
    """On a node: an evaluator on a device of its own."""

    def __init__(
        self, scaffold: str, device: str, tasks: Sequence[tuple[str, str]], settings: EvaluatorSettings
    ) -> None:
        self._given = scaffold, device, tasks, settings
        self._evaluator: ForwardEvaluator | None = None

    def start(self) -> dict[str, Any]:
        """Take a device and start the evaluator; what it runs on."""
        scaffold, device, tasks, settings = self._given
        facts = place.take(resource(device), device)
        self._evaluator = evaluator_for(scaffold, device, [get_task(key, size) for key, size in tasks], settings)
        self._evaluator.__enter__()
        return facts

    def evaluate(self, candidates: Sequence[Candidate], fresh: bool) -> Iterator[Verdict]:
        """Verdicts of candidates of one task, in order, each as soon as it is known."""
        assert self._evaluator is not None
        for _, verdict in self._evaluator.stream(candidates, fresh):
            yield verdict

    def ceilings(self) -> Iterator[Ceilings]:
        """What this node's device can do at most."""
        yield device_ceilings(self._given[1], self._given[-1].threads)
