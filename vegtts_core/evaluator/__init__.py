"""From candidates to verdicts: isolated processes, secret inputs, an error budget, paired timing."""

from __future__ import annotations

from vegtts_core.evaluator.types import Decision, ErrorKind, Measurement, ProtocolName, Stage, Verdict

__all__ = ["Decision", "ErrorKind", "Measurement", "ProtocolName", "Stage", "Verdict"]
