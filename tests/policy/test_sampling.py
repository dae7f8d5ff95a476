"""What is sampled has the distribution and the log-probabilities of the model, whatever shares a batch with it."""

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
from vegtts_core.policy.types import SamplingParameters, StopReason

WARM = SamplingParameters(temperature=0.7, max_new_tokens=12)


@pytest.fixture(scope="module")
def repeated(policy, reference) -> TransformersPolicy:
    return TransformersPolicy(reference, policy.tokenizer, policy.identity, path=AttentionPath.REPEATED_CACHE)


def test_embedded_model_shares_its_prefix(policy):
    assert policy.attention_path is AttentionPath.SHARED_PREFIX
    assert policy.identity.versions["attention_path"] == "shared_prefix"


def test_logprobs_are_the_plain_models(policy, reference):
    groups = policy.sample(PROMPTS, 5, WARM, seed=1)
    assert len(set(policy.prompt_tokens(PROMPTS))) == len(PROMPTS)  # ragged prompts
    assert len({len(completion.token_ids) for group in groups for completion in group}) > 2  # rows left early
    assert_true_logprobs(policy, reference, PROMPTS, groups, token_ids(groups), WARM.temperature)


def test_scores_are_the_plain_models(policy, reference):
    ids = token_ids(policy.sample(PROMPTS, 4, WARM, seed=2))
    ids[0].append(())
    ids[1] = [*ids[1], ids[1][0]]
    scores = policy.score(PROMPTS, ids, temperature=0.5)
    assert scores[0][-1].logprobs == ()
    assert scores[1][-1] == scores[1][0]
    ids[0], scores[0] = ids[0][:-1], scores[0][:-1]
    assert_true_logprobs(policy, reference, PROMPTS, scores, ids, 0.5)


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


def test_seeds_repeat_and_differ(policy):
    first = policy.sample(PROMPTS, 4, WARM, seed=5)
    assert policy.sample(PROMPTS, 4, WARM, seed=5) == first
    assert token_ids(policy.sample(PROMPTS, 4, WARM, seed=6)) != token_ids(first)
    assert len(set(token_ids(first)[2])) > 1


def test_a_completion_depends_on_neither_k_nor_neighbours(policy):
    first = token_ids(policy.sample(PROMPTS, 4, WARM, seed=5))
    assert token_ids(policy.sample(PROMPTS[2:], 2, WARM, seed=5))[0] == first[2][:2]


def test_equal_prompts_of_one_call_are_drawn_apart(policy):
    one, two = token_ids(policy.sample([PROMPTS[2], PROMPTS[2]], 3, WARM, seed=5))
    assert one != two


def test_greedy_is_generates_greedy(policy, reference):
    groups = policy.sample(PROMPTS[1:], 2, SamplingParameters(0.0, 10), seed=0)
    for prompt, group in zip(PROMPTS[1:], groups, strict=True):
        ids = torch.tensor([prompt_token_ids(policy.tokenizer, prompt)])
        with torch.no_grad():
            whole = reference.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10)
        expected = whole[0, ids.shape[1] :].tolist()
        for completion in group:
            assert list(completion.token_ids) == expected[: len(completion.token_ids)]
            assert set(completion.sampling_logprobs) == {0.0}
            if completion.stop_reason is not StopReason.STOP_STRING:
                assert len(completion.token_ids) == len(expected)


def test_stop_strings_cut_the_text_and_keep_the_tokens(policy):
    (group,) = policy.sample(PROMPTS[:1], 8, SamplingParameters(0.7, 30), seed=4)
    stopped = [completion for completion in group if completion.stop_reason is StopReason.STOP_STRING]
    assert stopped
    for completion in stopped:
        written = policy.tokenizer.decode(completion.token_ids)
        assert "\n" not in completion.text and "```" not in completion.text
        assert written.startswith(completion.text) and len(written) > len(completion.text)
        before = policy.tokenizer.decode(completion.token_ids[:-1])
        assert "\n" not in before and "```" not in before


def test_end_of_sequence_is_counted_and_not_shown(policy):
    (group,) = policy.sample([PROMPTS[1]], 4, SamplingParameters(0.2, 40), seed=0)
    ended = [completion for completion in group if completion.stop_reason is StopReason.EOS]
    for completion in ended:
        assert completion.token_ids[-1] in policy.eos_ids
        assert "<|im_end|>" not in completion.text
    assert policy.eos_ids == {2}
    assert all(
        len(completion.token_ids) == len(completion.logprobs) == len(completion.sampling_logprobs)
        for completion in group
    )


def test_prompt_is_computed_once_and_finished_rows_leave(policy):
    """Tokens that pass through the model: each prompt once, and each completion's tokens but the last once."""
    seen = 0

    def count(_module, args, _output):
        nonlocal seen
        seen += args[0].numel()

    reports: list[tuple[int, int]] = []
    hook = policy.base.get_input_embeddings().register_forward_hook(count)
    try:
        groups = policy.sample(PROMPTS, 6, WARM, seed=9, progress=lambda *report: reports.append(report))
    finally:
        hook.remove()
    lengths = [len(completion.token_ids) for group in groups for completion in group]
    assert seen == sum(policy.prompt_tokens(PROMPTS)) + sum(length - 1 for length in lengths)
    assert reports[-1] == (sum(lengths), 0)
    assert reports[0] == (len(lengths), reports[0][1]) and reports == sorted(reports, key=lambda report: report[0])


def test_waves_share_one_prefix(policy, monkeypatch):
    """More completions than fit at a time are written in waves after one computation of the prompt."""
    whole = token_ids(policy.sample(PROMPTS[2:], 5, WARM, seed=5))
    calls = []
    prefill = policy._engine.prefill
    monkeypatch.setattr(policy._engine, "prefill", lambda prompts: calls.append(len(prompts)) or prefill(prompts))
    monkeypatch.setattr("vegtts_core.policy.transformers_policy.MAX_ROWS", {"cpu": 2})
    assert token_ids(policy.sample(PROMPTS[2:], 5, WARM, seed=5)) == whole
    assert calls == [1]
