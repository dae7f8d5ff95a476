"""From candidates to verdicts: isolated processes, secret inputs, an error budget, paired timing."""

from __future__ import annotations

from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.settings import (
    BetweenEvaluations,
    EvaluatorSettings,
    Limits,
    Precision,
    PublishedSettings,
    Reach,
    SoundSettings,
)
from vegtts_core.evaluator.types import Decision, ErrorKind, Evaluator, Measurement, ProtocolName, Stage, Verdict

__all__ = [
    "BetweenEvaluations",
    "Decision",
    "ErrorKind",
    "Evaluator",
    "EvaluatorSettings",
    "ForwardEvaluator",
    "Limits",
    "Measurement",
    "Precision",
    "ProtocolName",
    "PublishedSettings",
    "Reach",
    "SoundSettings",
    "Stage",
    "Verdict",
]
