"""Timing selected candidates again on fresh data: the best of many is, in part, the luckiest of many.

Whoever picks the fastest of K measurements has picked one that erred upwards. So before a table uses what was selected,
it is measured once more: new secret seeds, new inputs and weights, new processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.types import Decision, Measurement, Verdict
from vegtts_core.scaffolds.types import Candidate


@dataclass(frozen=True)
class Retiming:
    """A candidate's verdict when it was selected, and the one from fresh data, which is the one to report."""

    candidate: Candidate
    selected: Verdict
    verdict: Verdict

    @property
    def shrinkage(self) -> float:
        """Speedup when selected over speedup on fresh data, in the leading protocol; NaN unless both were correct."""
        before, after = leading(self.selected), leading(self.verdict)
        if before is None or after is None or not (before.correct and after.correct):
            return float("nan")
        return before.speedup / after.speedup

    @property
    def confirmed(self) -> bool:
        """Whether it is still called faster."""
        after = leading(self.verdict)
        return after is not None and after.decision is Decision.FASTER


def leading(verdict: Verdict) -> Measurement | None:
    """The sound protocol's measurement where there is one, else the published one's."""
    return verdict.sound or verdict.published


def retime(evaluator: ForwardEvaluator, candidates: Sequence[Candidate]) -> list[Retiming]:
    """Measure candidates again, in order. Those that were not evaluated yet are evaluated first.

    Raises UserError as ``evaluator.evaluate`` does.
    """
    selected = evaluator.evaluate(candidates)
    verdicts = evaluator.evaluate(candidates, fresh=True)
    return [Retiming(*each) for each in zip(candidates, selected, verdicts, strict=True)]
