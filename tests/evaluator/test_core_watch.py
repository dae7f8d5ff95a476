"""Pairs count while cores are as near to each other as at home, and nobody waits for that for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import QUICK, reference

from vegtts_core.evaluator import ForwardEvaluator, core_watch, native
from vegtts_core.evaluator.core_watch import CoreWatch, Home
from vegtts_core.tasks import Task

NEAR, FAR = 80e-9, 380e-9


class Granted:
    """Of a process, what a watch asks of it."""

    seconds = 0.0

    def grant(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def distances(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next round trips take; the last one goes on for ever."""
    following = [NEAR]
    monkeypatch.setattr(
        core_watch, "round_trip", lambda one, other: following.pop(0) if len(following) > 1 else following[0]
    )
    return following


@pytest.fixture
def ways() -> Iterator[tuple[int, int]]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    yield cores[0], cores[1]


@pytest.mark.timing  # these run alone: else each worker of pytest has one core
def test_a_word_goes_from_core_to_core_and_back(ways: tuple[int, int]) -> None:
    before = os.sched_getaffinity(0)
    assert 1e-9 < native.round_trip(*ways) < 1e-4
    assert os.sched_getaffinity(0) == before
    assert native.round_trip(ways[0], 1023) < 0  # no such core: nobody waits for it
    with pytest.raises(ValueError, match="not two"):
        native.round_trip(3, 3)


def test_home_is_the_nearest_that_was_seen_and_is_kept(distances: list[float], tmp_path: Path) -> None:
    file = tmp_path / "cores" / "here.json"
    home = Home((0, 1), file)
    distances[:] = [FAR, 1.2 * FAR, NEAR, 1.5 * NEAR, FAR, 0.9 * NEAR]
    assert [home.is_here() for _ in range(6)] == [True, True, True, True, False, True]
    distances[:] = [FAR]
    assert not Home((0, 1), file).is_here()
    assert Home((0, 1), None).is_here() and Home((0, 1, 2), file).is_here()  # nothing known of these
    file.write_text("[0, what")
    assert Home((0, 1), file).is_here()


def test_every_core_has_to_be_where_it_was(distances: list[float]) -> None:
    home = Home((0, 1, 2), None)
    distances[:] = [NEAR, FAR, NEAR, NEAR, FAR, NEAR]
    assert [home.is_here() for _ in range(3)] == [True, True, False]


def test_cores_that_may_not_be_used_are_always_at_home(distances: list[float]) -> None:
    distances[:] = [-1.0, NEAR]
    home = Home((0, 1), None)
    assert home.is_here() and home.is_here()


def test_pairs_away_from_home_do_not_count_and_are_waited_out(distances: list[float]) -> None:
    process = Granted()
    watch = CoreWatch(process, Home((0, 1), None))  # type: ignore[arg-type]
    assert watch.await_steady() < 0.05 and watch.counts()
    distances[:] = [FAR]
    assert watch.await_steady() == 0.0  # it was just looked at
    assert not watch.counts()
    distances[:] = [FAR, FAR, NEAR]
    waited = watch.await_steady()
    assert waited >= 2 * 0.05 and process.seconds == pytest.approx(waited, abs=0.01)
    assert watch.counts()


def test_patience_ends_where_they_are(distances: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_watch, "_PATIENCE", 0.12)
    home = Home((0, 1), None)
    assert home.is_here()
    distances[:] = [FAR]
    watch = CoreWatch(Granted(), home)  # type: ignore[arg-type]
    assert 0.1 < watch.await_steady() < 1
    assert watch.counts() and home.is_here()


@pytest.mark.timing
def test_a_candidate_is_timed_at_home_only(
    tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch, ways: tuple[int, int]
) -> None:
    asked: list[bool] = []
    is_here = Home.is_here

    def away_now_and_then(self: Home) -> bool:
        is_here(self)
        asked.append(len(asked) % 5 != 3)
        return asked[-1]

    monkeypatch.setattr(Home, "is_here", away_now_and_then)
    settings = QUICK.model_copy(update={"threads": 2})
    with ForwardEvaluator([tasks["1"]], settings) as evaluator:
        (verdict,) = evaluator.evaluate([reference(tasks["1"])])
    assert verdict.sound is not None and verdict.sound.correct
    assert verdict.sound.discarded_pairs >= 1
    assert len(asked) > len(verdict.sound.reference_seconds)
