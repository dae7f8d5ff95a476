"""Honest candidates pass under both protocols, and what is recorded of them is complete."""

from __future__ import annotations

import math

import pytest
from making import reference, with_forward

from vegtts_core.evaluator import ForwardEvaluator, Stage
from vegtts_core.tasks import Task

HONEST = {
    "matmul, transposed twice": ("1", "return (B.T @ A.T).T"),
    "matmul in two halves": ("1", "h = A.shape[1] // 2\nreturn A[:, :h] @ B[:h] + A[:, h:] @ B[h:]"),
    "scalar on the other side": ("5", "return torch.mul(s, A)"),
    "relu by clamp": ("19", "return x.clamp(min=0)"),
    "relu by where": ("19", "return torch.where(x > 0, x, torch.zeros_like(x))"),
    "relu in place on a copy": ("19", "y = x.clone()\nreturn y.relu_()"),
    "gelu rewritten": ("88", "return x * torch.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))"),
    "gelu by torch": ("88", "return F.gelu(x, approximate='tanh')"),
    "argmax by max": ("51", "return x.max(dim=self.dim).indices"),
    "loss by norm": ("94", "return ((predictions - targets) ** 2).sum() / predictions.numel()"),
    "attention spelled out": (
        "97",
        "return torch.softmax(Q @ K.transpose(-1, -2) / Q.shape[-1] ** 0.5, -1) @ V",
    ),
}


@pytest.mark.parametrize("key", ["1", "5", "19", "33", "94", "97"])
def test_the_reference_itself_passes(evaluator: ForwardEvaluator, tasks: dict[str, Task], key: str) -> None:
    (verdict,) = evaluator.evaluate([reference(tasks[key])])
    assert (verdict.error, verdict.reason, verdict.stage) == (None, "", Stage.REWARD)
    assert verdict.published is not None and verdict.sound is not None
    for measurement in (verdict.published, verdict.sound):
        assert measurement.correct and measurement.reward == measurement.speedup > 0
        assert measurement.decision is not None
    # Twice as many where chance made six pairs say that it is faster, which new processes then have to confirm.
    assert len(verdict.sound.reference_seconds) == len(verdict.sound.candidate_seconds)
    assert len(verdict.sound.candidate_seconds) in (6, 12)
    assert len(verdict.published.candidate_seconds) == 5
    assert verdict.sound.speedup_low <= verdict.sound.speedup <= verdict.sound.speedup_high
    assert 0 <= verdict.sound.max_error <= 1
    assert math.isnan(verdict.published.speedup_low)
    assert set(verdict.seconds) == {Stage.COMPILE, Stage.CORRECTNESS, Stage.TIMING}
    assert verdict.device == "cpu"


@pytest.mark.parametrize("name", HONEST)
def test_honest_rewriting_passes(evaluator: ForwardEvaluator, tasks: dict[str, Task], name: str) -> None:
    key, body = HONEST[name]
    (verdict,) = evaluator.evaluate([with_forward(tasks[key], body)])
    assert verdict.error is None, verdict.reason
    assert verdict.published is not None and verdict.published.correct
