"""From candidates to verdicts: isolated processes, secret inputs, an error budget, paired timing."""

from __future__ import annotations

from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.settings import EvaluatorSettings, Limits, Precision, PublishedSettings, SoundSettings
from vegtts_core.evaluator.types import Decision, ErrorKind, Evaluator, Measurement, ProtocolName, Stage, Verdict

__all__ = [
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
    "SoundSettings",
    "Stage",
    "Verdict",
]
