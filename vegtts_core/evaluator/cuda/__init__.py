"""The evaluator on a GPU: device memory shared with processes that hold nothing but it, events, a watch on clocks."""

from __future__ import annotations

from vegtts_core.evaluator.cuda.evaluator import CudaEvaluator

__all__ = ["CudaEvaluator"]
