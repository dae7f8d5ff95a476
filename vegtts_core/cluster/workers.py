"""Workers on a cluster, one per device: work goes out, results come back one by one, a dead worker is replaced.

It knows actors and deaths; it knows neither candidates nor policies. A worker's death costs the item that it was at:
results that had come are kept, the rest of its portion is handed out again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from vegtts_core.cluster import place
from vegtts_core.cluster.connection import devices, node_alive
from vegtts_core.errors import UserError

#: How often the cluster is looked at while nothing comes back, in seconds.
_LOOK = 5.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class Lost:
    """In place of a result: the item's worker died ``deaths`` times, its node alive."""

    deaths: int


@dataclass(eq=False)
class _Worker:
    actor: Any
    node: str = ""


class Workers:
    """At most ``count`` actors at a time. A context manager: leaving it ends them.

    ``make`` makes an actor that takes 1 of resource ``kind``. Its method ``start`` prepares it and returns what
    `vegtts_core.cluster.place.take` says.
    """

    def __init__(
        self, ray: Any, kind: str, count: int, deaths: int, make: Callable[[], Any], report: Report | None = None
    ) -> None:
        self._ray, self._kind, self._count, self._deaths, self._make = ray, kind, count, deaths, make
        self._report = report or (lambda message: None)
        self._starting: dict[Any, _Worker] = {}
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, deque[int]]] = {}
        self._failed_starts = 0
        self._told = False
        self.facts: list[dict[str, Any]] = []
        """What each worker that started runs on, in order of their coming."""

    def __enter__(self) -> Workers:
        self._fill()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        everyone = [*self._starting.values(), *self._idle, *(worker for worker, _ in self._busy.values())]
        for worker in everyone:
            self._end(worker)
        self._starting, self._idle, self._busy = {}, [], {}

    def run(
        self, portions: Sequence[Sequence[int]], work: Callable[[Any, Sequence[int]], Any]
    ) -> Iterator[tuple[int, Any]]:
        """(item, its result or `Lost`), as they come, for every item of every portion.

        ``work(actor, items)`` calls a streaming method that yields one result per item, in order. Raises UserError
        that a worker raises, and if no node with a device is left.
        """
        waiting = deque(deque(portion) for portion in portions if portion)
        died: Counter[int] = Counter()
        try:
            while waiting or self._busy:
                self._fill()
                while waiting and self._idle:
                    worker, portion = self._idle.pop(), waiting.popleft()
                    self._busy[work(worker.actor, tuple(portion))] = worker, portion
                for one in self._ready():
                    if one in self._starting:
                        self._started(one)
                        continue
                    worker, portion = self._busy[one]
                    result = self._result(one, worker)
                    if result is None:
                        del self._busy[one]
                        died[portion[0]] += node_alive(self._ray, worker.node)
                        self._end(worker)
                        if died[portion[0]] >= self._deaths:
                            yield (item := portion.popleft()), Lost(died[item])
                        if portion:
                            waiting.appendleft(portion)
                        continue
                    item = portion.popleft()
                    if not portion:
                        del self._busy[one]
                        self._idle.append(worker)
                    yield item, result
        finally:  # whoever stopped listening has no use for what is still going on
            for worker, _ in self._busy.values():
                self._end(worker)
            self._busy = {}

    def _fill(self) -> None:
        while len(self._starting) + len(self._idle) + len(self._busy) < self._count:
            worker = _Worker(self._make())
            self._starting[worker.actor.start.remote()] = worker

    def _ready(self) -> list[Any]:
        ready, _ = self._ray.wait([*self._starting, *self._busy], num_returns=1, timeout=_LOOK)
        if not ready and not self._busy:
            if not devices(self._ray, self._kind):
                raise UserError(
                    f"The Ray cluster has lost its last node with {self._kind}: start one and start again; everything "
                    "that came back is kept."
                )
            if not self._told and not self._idle:
                self._told = True
                self._report("Waiting for workers to start on the cluster, or for others to leave its devices.")
        return ready

    def _started(self, one: Any) -> None:
        worker = self._starting.pop(one)
        try:
            facts = self._ray.get(one)
        except self._ray.exceptions.RayTaskError as error:
            self._end(worker)
            raise _cause(error) from None
        except self._ray.exceptions.RayError as error:
            self._end(worker)
            self._failed_starts += 1
            if self._failed_starts >= max(3, self._count):
                said = " ".join(str(error).split())
                raise UserError(
                    f"{self._failed_starts} workers in a row died while they started ({said[:200]}): look at the "
                    "nodes' memory and at Ray's logs there."
                ) from None
            return
        self._idle.append(worker)
        place.check_same(place.versions(), facts["versions"])
        self._failed_starts = 0
        worker.node = facts["node"]
        self.facts.append(facts)

    def _result(self, one: Any, worker: _Worker) -> Any:
        """The next result; None if the worker is dead, or gone out of reach with the result."""
        try:
            return self._ray.get(next(one))
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except (self._ray.exceptions.RayError, StopIteration):
            return None

    def _end(self, worker: _Worker) -> None:
        self._ray.kill(worker.actor, no_restart=True)


def _cause(error: Any) -> BaseException:
    """What the worker raised: a sentence for the user as such, anything else with its remote traceback."""
    return UserError(str(error.cause)) if isinstance(error.cause, UserError) else error
