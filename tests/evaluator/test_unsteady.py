"""A device that is not steady: pairs are taken until enough count, and where none does nothing was measured."""

from __future__ import annotations

import math

import pytest
from making import QUICK, reference

from vegtts_core.evaluator import ErrorKind, EvaluatorSettings, ForwardEvaluator, ProtocolName, Stage
from vegtts_core.evaluator.runner import Watch
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.tasks import Task


class _Unsteady(Watch):
    """Not steady in the first ``count`` pairs."""

    def __init__(self, count: float) -> None:
        self._left = count

    def counts(self) -> bool:
        self._left -= 1
        return self._left < 0


def _settings(max_pairs: int, max_seconds: float) -> EvaluatorSettings:
    sound = QUICK.sound.model_copy(update={"max_pairs": max_pairs, "max_seconds": max_seconds})
    return QUICK.model_copy(update={"sound": sound, "protocols": frozenset({ProtocolName.SOUND})})


def test_where_no_pair_counts_nothing_was_measured(tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskSession, "watch", lambda session, runner: _Unsteady(math.inf))
    with ForwardEvaluator([tasks["94"]], _settings(12, 1.1)) as evaluator:
        (verdict,) = evaluator.evaluate([reference(tasks["94"])])
    assert (verdict.error, verdict.stage) == (ErrorKind.UNSTEADY, Stage.TIMING)
    assert verdict.reason == "It was right, but the device was steady in none of 12 timed pairs of calls."
    assert verdict.sound is not None and not verdict.sound.correct and verdict.sound.reward == 0


def test_time_alone_does_not_end_it_before_enough_pairs_count(
    tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskSession, "watch", lambda session, runner: _Unsteady(9))
    with ForwardEvaluator([tasks["94"]], _settings(40, 1e-6)) as evaluator:
        (verdict,) = evaluator.evaluate([reference(tasks["94"])])
    assert verdict.error is None and verdict.sound is not None
    assert (verdict.sound.discarded_pairs % 9, len(verdict.sound.candidate_seconds) % 6) == (0, 0)
    assert verdict.sound.reward > 0 and math.isfinite(verdict.sound.speedup_high)
