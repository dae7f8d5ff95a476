"""Small random models of several families: the right engine is chosen, and either gives the plain model's numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from policy_truth import PROMPTS, assert_true_logprobs, token_ids
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from vegtts_core.policy import TransformersPolicy
from vegtts_core.policy.decode import vacancies
from vegtts_core.policy.engine import AttentionPath
from vegtts_core.policy.types import PolicyIdentity, SamplingParameters

SHARED, REPEATED = AttentionPath.SHARED_PREFIX, AttentionPath.REPEATED_CACHE
SIZE = {
    "vocab_size": 49152,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,  # wide enough for attention to matter
    "pad_token_id": None,
}
MODELS: dict[str, tuple[PreTrainedConfig, AttentionPath]] = {
    "llama-gqa": (LlamaConfig(**SIZE, num_key_value_heads=2), SHARED),
    "qwen2": (Qwen2Config(**SIZE, num_key_value_heads=1), SHARED),
    "mistral-sliding-window": (MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=8), REPEATED),
    "qwen2-sliding-window": (
        Qwen2Config(**SIZE, num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1),
        REPEATED,
    ),
    "gemma2-soft-capping": (
        Gemma2Config(**SIZE, num_key_value_heads=2, head_dim=8, sliding_window=8, attn_logit_softcapping=5.0),
        REPEATED,
    ),
    "gpt-oss-sinks": (
        GptOssConfig(
            **SIZE, num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=8
        ),
        REPEATED,
    ),
    "gpt2": (
        GPT2Config(vocab_size=49152, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=2),
        SHARED,
    ),
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype).eval()


def identity() -> PolicyIdentity:
    return PolicyIdentity("random", "", None, "float32", "cpu", {})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_logprobs_are_the_plain_models(name, device, tokenizer, monkeypatch):
    monkeypatch.setattr("vegtts_core.policy.engine.CHUNK", 16)  # prompts take several chunks
    monkeypatch.setattr("vegtts_core.policy.attention.SUFFIX_BLOCK", 4)  # and suffixes several blocks
    config, path = MODELS[name]
    plain = random_model(config).to(device)
    policy = TransformersPolicy(random_model(config).to(device), tokenizer, identity())
    assert policy.attention_path is path
    sampling = SamplingParameters(temperature=0.9, max_new_tokens=14)
    groups = policy.sample(PROMPTS, 4, sampling, seed=3)
    ids = token_ids(groups)
    assert_true_logprobs(policy, plain, PROMPTS, groups, ids, sampling.temperature)
    assert_true_logprobs(policy, plain, PROMPTS, policy.score(PROMPTS, ids, 0.5), ids, 0.5)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_stays_near_the_plain_model(device, tokenizer):
    config, path = MODELS["llama-gqa"]
    plain = random_model(config, torch.bfloat16).to(device)
    policy = TransformersPolicy(random_model(config, torch.bfloat16).to(device), tokenizer, identity())
    assert policy.attention_path is path
    groups = policy.sample(PROMPTS, 4, SamplingParameters(1.0, 10), seed=3)
    assert_true_logprobs(policy, plain, PROMPTS, groups, token_ids(groups), 1.0, atol=0.3)


@pytest.mark.parametrize("device", DEVICES)
def test_seeds_repeat(device, tokenizer):
    policy = TransformersPolicy(random_model(MODELS["llama-gqa"][0]).to(device), tokenizer, identity())
    sampling = SamplingParameters(1.0, 10)
    assert policy.sample(PROMPTS, 4, sampling, seed=3) == policy.sample(PROMPTS, 4, sampling, seed=3)


def test_model_serves_other_calls_as_before(tokenizer):
    """A policy's model still takes padded batches with an attention mask: trainers use it beside the policy."""
    plain = random_model(MODELS["llama-gqa"][0])
    model = random_model(MODELS["llama-gqa"][0]).train()
    policy = TransformersPolicy(model, tokenizer, identity())
    policy.sample(PROMPTS, 2, SamplingParameters(1.0, 4), seed=0)
    assert model.training and all(module.training for module in model.modules())
    tokens = torch.randint(49152, (2, 9))
    mask = torch.ones_like(tokens)
    mask[0, :4] = 0  # padded on the left
    torch.testing.assert_close(
        model(tokens, attention_mask=mask).logits[:, 4:], plain(tokens, attention_mask=mask).logits[:, 4:]
    )


def test_prefix_is_stored_once(tokenizer):
    policy = TransformersPolicy(random_model(MODELS["llama-gqa"][0]), tokenizer, identity())
    with torch.no_grad():
        prefix = policy._engine.prefill([[1, 2, 3], [4, 5, 6, 7]])
        session = policy._engine.open(prefix, [0] * 8 + [1] * 8)
        session.step(torch.ones(16, 1, dtype=torch.long))
    assert {tuple(keys.shape) for keys in prefix.state.keys.values()} == {(2, 2, 4, 8)}
    assert session._suffix.prefix is prefix.state  # type: ignore[attr-defined]


def test_vacancies_keep_rows_dense():
    running = [False, True, True, False, True, False, True]
    targets, sources, count = vacancies(running)
    rows = list(range(len(running)))
    for target, source in zip(targets, sources, strict=True):
        rows[target] = source
    assert count == 4 and sorted(rows[:count]) == [1, 2, 4, 6]
    assert vacancies([True, True]) == ([], [], 2) and vacancies([False]) == ([], [], 0)
