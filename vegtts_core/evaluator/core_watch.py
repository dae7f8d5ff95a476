"""Whether two cores are still where they were: a host may move those of a virtual machine while it runs.

Cores that share a cache hand each other a word in a fraction of the time that others need, and memory answers two
cores at two caches faster than two at one. On such a machine a call of two threads that copies memory takes 1.3 ms
now and 0.8 ms ten seconds later, one that computes takes as long as before or longer, and the ratio of the two, which
is a speedup, changes with it. So pairs of calls count only while the cores are as near to each other as they have
been seen: home. If they do not come back within a while, home is where they are.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from vegtts_core.evaluator.native import round_trip
from vegtts_core.evaluator.processes import Process
from vegtts_core.evaluator.runner import Watch
from vegtts_core.kernels.cpp import cache_folder, cpu_model

#: Cores are elsewhere if a round trip takes so many times as long as at home: it is four times, or the same.
ELSEWHERE = 2.0
#: Seconds to wait for them, per evaluation; they stay away for ten or twenty.
_PATIENCE = 45.0
_LOOK_SECONDS = 0.05
#: Cores that are looked at, beside the first one.
_MOST_OTHERS = 7


class Home:
    """The nearest that the first of some cores has been to each of the others: seconds of a round trip."""

    def __init__(self, cores: Sequence[int], file: Path | None) -> None:
        """``file`` keeps it for the next process; None: for nobody."""
        self._first, *self._others = cores[: 1 + _MOST_OTHERS]
        self._file = file
        self._nearest = [float("inf")] * len(self._others)
        if file is not None:
            with suppress(OSError, ValueError, TypeError):
                known = [float(each) for each in json.loads(file.read_text(encoding="utf-8"))]
                self._nearest = known if len(known) == len(self._others) and min(known) > 0 else self._nearest

    def is_here(self) -> bool:
        """Whether all are about as near now; where they are nearer than ever, that is home from now on."""
        now = self._distances()
        nearest = [min(pair) for pair in zip(now, self._nearest, strict=True)]
        if any(new < old / ELSEWHERE for new, old in zip(nearest, self._nearest, strict=True)):
            self._remember(nearest)
        self._nearest = nearest
        return all(distance <= ELSEWHERE * home for distance, home in zip(now, nearest, strict=True))

    def adopt(self) -> None:
        """Home is where they are now."""
        self._nearest = self._distances()
        self._remember(self._nearest)

    def _distances(self) -> list[float]:
        found = [round_trip(self._first, other) for other in self._others]
        return found if min(found, default=0.0) > 0 else [1.0] * len(found)  # not to be used: always the same

    def _remember(self, distances: list[float]) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text(json.dumps(distances), encoding="utf-8")


@cache
def home_of(cores: tuple[int, ...]) -> Home:
    """The one of these cores, kept in the cache folder."""
    name = hashlib.sha256(f"{cpu_model()} {cores}".encode()).hexdigest()[:16]
    return Home(cores, cache_folder() / "cores" / f"{name}.json")


class CoreWatch(Watch):
    """Discards pairs during which the cores of a process were not at home."""

    def __init__(self, process: Process, home: Home) -> None:
        self._process, self._home = process, home
        self._patience = _PATIENCE
        self._is_here = False

    def await_steady(self) -> float:
        """Wait until they are at home, as long as patience lasts, then take them for at home; seconds waited.

        The process's limit on wall time moves by as much.
        """
        if self._is_here:
            return 0.0
        start = time.monotonic()
        while not self._home.is_here():
            if time.monotonic() - start > self._patience:
                self._home.adopt()
                break
            time.sleep(_LOOK_SECONDS)
        self._is_here = True
        waited = time.monotonic() - start
        self._patience = max(0.0, self._patience - waited)
        self._process.grant(waited)
        return waited

    def counts(self) -> bool:
        """Whether the pair that has just been taken, which began at home, counts."""
        self._is_here = self._home.is_here()
        return self._is_here
