"""Drawing by inversion: exact on any weights, never a token of probability 0."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.policy.randomness import draw, token_logprobs, uniforms

LOGITS = st.lists(st.floats(-30, 30, width=32) | st.just(float("-inf")), min_size=1, max_size=700)


@settings(deadline=None, max_examples=200)
@given(LOGITS, st.floats(0.05, 3), st.integers(0, 2**32 - 1))
def test_draw_inverts_the_cumulative_distribution(values, temperature, number):
    logits = torch.tensor([[*values, 0.0]])
    u = (number + 0.5) / 2**32
    tokens, plain, tempered = draw(logits, temperature, torch.tensor([u], dtype=torch.float64))
    token = int(tokens[0])
    exact = (logits[0].double() / temperature).softmax(-1)
    below, above = exact[:token].sum().item(), exact[: token + 1].sum().item()
    assert below - 1e-5 <= u <= above + 1e-5
    assert exact[token] > 0
    np.testing.assert_allclose(plain[0], logits[0].log_softmax(-1)[token], atol=1e-5)
    np.testing.assert_allclose(tempered[0], exact[token].log(), atol=2e-5 / temperature)
    for a, b in zip((plain, tempered), token_logprobs(logits, tokens, temperature), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_greedy_is_a_point_mass():
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    tokens, plain, tempered = draw(logits, 0.0, torch.tensor([0.99], dtype=torch.float64))
    assert tokens.tolist() == [1] and tempered.tolist() == [0.0] and plain[0] < 0
    assert token_logprobs(logits, torch.tensor([2]), 0.0)[1].tolist() == [float("-inf")]


def test_large_vocabularies_are_drawn_in_parts(monkeypatch):
    logits, numbers = torch.randn(10, 300), torch.rand(10, dtype=torch.float64)
    whole = draw(logits, 0.5, numbers)
    monkeypatch.setattr("vegtts_core.policy.randomness.MAX_ELEMENTS", 900)
    for a, b in zip(whole, draw(logits, 0.5, numbers), strict=True):
        torch.testing.assert_close(a, b)


def test_uniforms_are_keyed_by_what_they_should_be():
    base = uniforms(1, [5, 6], 0, range(4), 8)
    assert np.all((base > 0) & (base < 1))
    np.testing.assert_array_equal(base[:2], uniforms(1, [5, 6], 0, range(2), 8))
    np.testing.assert_array_equal(base[:, :3], uniforms(1, [5, 6], 0, range(4), 3))
    for other in ((2, [5, 6], 0), (1, [5, 7], 0), (1, [5, 6], 1), (-1, [5, 6], 0)):
        assert not np.any(uniforms(*other, range(4), 8) == base)
