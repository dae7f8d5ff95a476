"""How `TransformersPolicy` shares its work: prefixes, passes and waves change speed alone, and draws are exact."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from policy_truth import PROMPTS, assert_true_logprobs, token_ids
from scipy.stats import chisquare

from vegtts_core.policy import TransformersPolicy
from vegtts_core.policy.engine import AttentionPath
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.types import SamplingParameters

WARM = SamplingParameters(temperature=0.7, max_new_tokens=12)


@pytest.fixture(scope="module")
def repeated(policy, reference) -> TransformersPolicy:
    return TransformersPolicy(reference, policy.tokenizer, policy.identity, path=AttentionPath.REPEATED_CACHE)


def test_embedded_model_shares_its_prefix(policy):
    assert policy.attention_path is AttentionPath.SHARED_PREFIX
    assert policy.identity.versions["attention_path"] == "shared_prefix"


def test_scores_do_not_depend_on_the_size_of_a_pass(policy, monkeypatch):
    ids = token_ids(policy.sample(PROMPTS[:1], 6, WARM, seed=3))
    whole = policy.score(PROMPTS[:1], ids)
    monkeypatch.setattr("vegtts_core.policy.scoring.MAX_LOGITS", {"cpu": 49152 * 20})
    for a, b in zip(whole[0], policy.score(PROMPTS[:1], ids)[0], strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_repeated_cache_gives_the_same(policy, repeated, reference):
    assert repeated.attention_path is AttentionPath.REPEATED_CACHE
    groups = repeated.sample(PROMPTS, 4, WARM, seed=1)
    assert_true_logprobs(repeated, reference, PROMPTS, groups, token_ids(groups), WARM.temperature)
    shared = policy.score(PROMPTS, token_ids(groups))
    scores = repeated.score(PROMPTS, token_ids(groups))
    for ours, theirs in zip(chain(*shared), chain(*scores), strict=True):
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)


def test_first_token_has_the_models_distribution(policy, reference):
    prompt, temperature, draws = PROMPTS[2], 0.8, 2000
    (group,) = policy.sample([prompt], draws, SamplingParameters(temperature, 1), seed=11)
    ids = prompt_token_ids(policy.tokenizer, prompt)
    with torch.no_grad():
        logits = reference(torch.tensor([ids])).logits[0, -1].double()
    expected = (logits / temperature).softmax(-1).numpy() * draws
    observed = np.bincount([completion.token_ids[0] for completion in group], minlength=len(expected))
    common = expected >= 5
    assert common.sum() >= 3
    test = chisquare([*observed[common], observed[~common].sum()], [*expected[common], expected[~common].sum()])
    assert test.pvalue > 1e-3


def test_prompt_is_computed_once_and_finished_rows_leave(policy):
    """Tokens that pass through the model: each prompt once, and each completion's tokens but the last once."""
    seen = 0

    def count(_module, args, _output):
        nonlocal seen
        seen += args[0].numel()

    hook = policy.base.get_input_embeddings().register_forward_hook(count)
    try:
        groups = policy.sample(PROMPTS, 6, WARM, seed=9)
    finally:
        hook.remove()
    lengths = [len(completion.token_ids) for group in groups for completion in group]
    assert seen == sum(policy.prompt_tokens(PROMPTS)) + sum(length - 1 for length in lengths)


def test_waves_share_one_prefix(policy, monkeypatch):
    """More completions than fit at a time are written in waves after one computation of the prompt."""
    whole = token_ids(policy.sample(PROMPTS[2:], 5, WARM, seed=5))
    calls = []
    prefill = policy._engine.prefill
    monkeypatch.setattr(policy._engine, "prefill", lambda prompts: calls.append(len(prompts)) or prefill(prompts))
    monkeypatch.setattr("vegtts_core.policy.transformers_policy.MAX_ROWS", {"cpu": 2})
    assert token_ids(policy.sample(PROMPTS[2:], 5, WARM, seed=5)) == whole
    assert calls == [1]
