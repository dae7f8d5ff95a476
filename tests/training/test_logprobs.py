"""Packed rows give the plain computation's log-probabilities, entropies and gradients, for whatever model they take."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from vegtts_core.errors import UserError
from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.training import logprobs
from vegtts_core.training.logprobs import PromptPath, completion_logprobs, grouped_logprobs, prompt_path
from vegtts_core.training.precision import matmul_precision

PACKED, PLAIN = PromptPath.PACKED, PromptPath.PLAIN
VOCABULARY = 211
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,  # wide enough for attention to matter
    "pad_token_id": None,
}
LLAMA = LlamaConfig(**SIZE, num_key_value_heads=2)
QWEN2 = Qwen2Config(**SIZE, num_key_value_heads=1)
MODELS: dict[str, tuple[PreTrainedConfig, PromptPath]] = {
    "llama": (LLAMA, PACKED),
    "qwen2": (QWEN2, PACKED),
    "gpt2": (
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            attn_pdrop=0,
            embd_pdrop=0,
            resid_pdrop=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        PACKED,
    ),
    "mistral-sliding-window": (MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=8), PLAIN),
    "gemma2-soft-capping": (
        Gemma2Config(**SIZE, num_key_value_heads=2, head_dim=8, sliding_window=8, attn_logit_softcapping=5.0),
        PLAIN,
    ),
    "granite-scaled-logits": (GraniteConfig(**SIZE, num_key_value_heads=2, logits_scaling=3.0), PLAIN),
}
PROMPT = 13
LENGTHS = {
    "unequal": (5, 1, 7, 4),
    "with an empty one": (3, 0, 6),
    "equal": (4, 4, 4),
    "one completion": (6,),
    "one token": (1,),
    "one token each": (1, 1),
}
#: A row by fused parts, by parts of products, or by one call under a mask (what a small row gets on a GPU).
WAYS = ("fused", "products", "masked")


@pytest.fixture
def exact_norms(monkeypatch):
    """Norms in the model's dtype: transformers' own pass through float32, and float64 gradients with them."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    for norm in (LlamaRMSNorm, Qwen2RMSNorm):
        monkeypatch.setattr(norm, "forward", forward)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    set_way(monkeypatch, request.param)


def set_way(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr("vegtts_core.training.shared_prompt.MASKED_TOKENS", {"cpu": 4096} if way == "masked" else {})
    if way == "products":
        monkeypatch.setattr("vegtts_core.training.shared_prompt._fused", lambda query: False)
        monkeypatch.setattr("vegtts_core.training.shared_prompt.MAX_SCORES", 200)  # several pieces


def random_model(config: PreTrainedConfig, dtype: torch.dtype, lora: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
    if lora:
        adapter = peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        model = peft.get_peft_model(model, adapter).to(dtype)
    return model.train()


def random_tokens(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (length,), generator=random).tolist() for length in lengths]


def plain(model: Any, prompt: list[int], completions: list[list[int]], temperature: float) -> list[torch.Tensor]:
    """(log-probabilities, entropies) stacked (2, length) per completion, each a full sequence of its own."""
    result = []
    for ids in completions:
        logits = model(input_ids=torch.tensor([prompt + ids]), use_cache=False).logits[0]
        logs = (logits / temperature).log_softmax(-1)[len(prompt) - 1 : len(prompt) - 1 + len(ids)]
        chosen = logs.gather(-1, torch.tensor(ids, dtype=torch.long)[:, None])[:, 0]
        result.append(torch.stack([chosen, -(logs.exp() * logs).sum(-1)]))
    return result


def gradient(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_plain(
    model: Any,
    reference: Any,
    prompt: list[int],
    completions: list[list[int]],
    temperature: float,
    tolerance: float,
    found: tuple[torch.Tensor, torch.Tensor | None] | None = None,
) -> None:
    """Values and gradients of a random combination are the plain ones, relative to their norms."""
    logprobs, entropies = found or completion_logprobs(model, prompt, completions, temperature, entropy=True)
    assert entropies is not None and logprobs.dtype == entropies.dtype == reference.dtype
    assert logprobs.shape == entropies.shape == (len(completions), max(map(len, completions)))
    expected = plain(reference, prompt, completions, temperature)
    both = torch.stack([logprobs, entropies], 1)
    weights = torch.randn(both.shape, dtype=both.dtype, generator=torch.Generator().manual_seed(1))
    for row, true in zip(both, expected, strict=True):
        size = true.shape[1]
        assert (row[:, :size] - true).norm() <= tolerance * true.norm()
        assert not row[:, size:].any()
    true_gradient = gradient(
        reference,
        sum((weight[:, : true.shape[1]] * true).sum() for weight, true in zip(weights, expected, strict=True)),
    )
    own_gradient = gradient(model, (weights * both).sum())
    assert own_gradient.shape == true_gradient.shape
    assert (own_gradient - true_gradient).norm() <= tolerance * true_gradient.norm()


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("config", [LLAMA, QWEN2], ids=["llama", "qwen2"])
def test_float64_is_plain(config, lora, lengths, exact_norms, way):
    model = random_model(config, torch.float64, lora)
    prompt, *completions = random_tokens([PROMPT, *lengths])
    assert prompt_path(model) is PACKED
    assert_plain(model, copy.deepcopy(model), prompt, completions, 0.25, 1e-8)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_float32_is_plain_whichever_path(name, lora, temperature):
    config, path = MODELS[name]
    model = random_model(config, torch.float32, lora)
    reference = copy.deepcopy(model)
    prompt, *completions = random_tokens([PROMPT, *LENGTHS["unequal"], 0])
    assert prompt_path(model) is path
    assert_plain(model, reference, prompt, completions, temperature, 1e-5)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    st.sampled_from(WAYS),
    st.integers(0, 99),
)
def test_any_lengths(prompt_length, lengths, way, seed):
    model = random_model(LLAMA, torch.float32, lora=True)
    prompt, *completions = random_tokens([prompt_length, *lengths], seed)
    with pytest.MonkeyPatch.context() as patch:
        set_way(patch, way)
        assert_plain(model, copy.deepcopy(model), prompt, completions, 0.5, 1e-5)


@pytest.mark.parametrize("together", [0, 200], ids=["one by one", "in one pass"])
def test_groups_of_unequal_size(together, way, monkeypatch):
    monkeypatch.setattr("vegtts_core.training.pass_memory.PASS_TOKENS", {"cpu": together})
    model = random_model(LLAMA, torch.float32, lora=True)
    prompts = random_tokens([9, 4, 11, 3])
    groups = [random_tokens(lengths, seed=2) for lengths in ((3, 5), (2,), (0, 1, 6, 6), (0, 0))]
    found = grouped_logprobs(model, prompts, groups, 0.5, entropy=True)
    for prompt, group, scores in zip(prompts[:3], groups, found, strict=False):
        logprobs, entropies = completion_logprobs(model, prompt, group, 0.5, entropy=True)
        torch.testing.assert_close(scores, (logprobs, entropies), atol=1e-5, rtol=1e-5)
    assert all(each is not None and each.shape == (2, 0) for each in found[3])
    reference = copy.deepcopy(model)
    (logprobs, _), (others, _), *_ = found
    loss = sum(plain(reference, prompts[0], [ids], 0.5)[0][0].sum() for ids in groups[0])
    loss = loss + 2 * plain(reference, prompts[1], groups[1], 0.5)[0][0].sum()
    true_gradient = gradient(reference, loss)
    assert (gradient(model, logprobs.sum() + 2 * others.sum()) - true_gradient).norm() <= 1e-5 * true_gradient.norm()


def test_equal_completions_are_computed_once_and_all_have_gradients():
    model = random_model(LLAMA, torch.float32, lora=True)
    prompt, first, second = random_tokens([PROMPT, 4, 6])
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, ids, __: seen.append(ids[0].numel()))  # type: ignore
    prompt_path(model)
    seen.clear()
    completion_logprobs(model, prompt, [first, second, first, first])
    assert seen == [PROMPT + 3 + 5]
    assert_plain(model, copy.deepcopy(model), prompt, [first, second, first, first], 1.0, 1e-5)


def test_logits_in_pieces_computed_again(monkeypatch):
    for place in ("logprobs", "selected_scores"):
        monkeypatch.setattr(f"vegtts_core.training.{place}.MAX_LOGITS", {"cpu": 3 * VOCABULARY})
    monkeypatch.setattr("vegtts_core.training.selected_scores.KEPT_LOGITS", {"cpu": 0})
    for name in ("llama", "mistral-sliding-window"):
        model = random_model(MODELS[name][0], torch.float32, lora=False)
        prompt, *completions = random_tokens([PROMPT, *LENGTHS["unequal"]])
        assert_plain(model, copy.deepcopy(model), prompt, completions, 0.5, 1e-5)


def test_gradient_checkpointing(way):
    model: Any = random_model(LLAMA, torch.float32, lora=False)
    reference = copy.deepcopy(model)
    model.gradient_checkpointing_enable()
    prompt, *completions = random_tokens([PROMPT, *LENGTHS["unequal"]])
    assert_plain(model, reference, prompt, completions, 0.5, 1e-5)


def test_without_gradients_and_with_the_adapter_off():
    model: Any = random_model(LLAMA, torch.float32, lora=True)
    reference = copy.deepcopy(model)
    prompt, *completions = random_tokens([PROMPT, *LENGTHS["unequal"]])
    with torch.no_grad(), model.disable_adapter():
        logprobs, entropies = completion_logprobs(model, prompt, completions, 0.5)
    assert entropies is None and not logprobs.requires_grad
    with torch.no_grad(), reference.disable_adapter():
        expected = plain(reference, prompt, completions, 0.5)
    for row, true in zip(logprobs, expected, strict=True):
        torch.testing.assert_close(row[: true.shape[1]], true[0])
    assert model.training and all(module.training for module in model.modules())
    assert not torch.allclose(logprobs[0, :2], completion_logprobs(model, prompt, completions, 0.5)[0][0, :2])


def test_entropies_without_log_probabilities_have_gradients():
    model = random_model(LLAMA, torch.float32, lora=False)
    reference = copy.deepcopy(model)
    prompt, *completions = random_tokens([PROMPT, 5, 2])
    _, entropies = completion_logprobs(model, prompt, completions, 0.5, entropy=True)
    assert entropies is not None
    true_gradient = gradient(reference, sum(each[1].sum() for each in plain(reference, prompt, completions, 0.5)))
    assert (gradient(model, entropies.sum()) - true_gradient).norm() <= 1e-5 * true_gradient.norm()


def test_bfloat16_is_near(way):
    model = random_model(LLAMA, torch.bfloat16, lora=False)
    prompt, *completions = random_tokens([PROMPT, *LENGTHS["unequal"]])
    logprobs, _ = completion_logprobs(model, prompt, completions)
    assert logprobs.dtype == torch.float32
    for row, true in zip(logprobs, plain(model, prompt, completions, 1.0), strict=True):
        assert (row[: true.shape[1]] - true[0]).abs().mean() < 0.1


def test_a_policy_and_a_trainer_may_share_a_model():
    policy = load_policy()
    assert isinstance(policy, TransformersPolicy)
    adapter = peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(0)
    model = peft.get_peft_model(policy.base, adapter).train()
    assert prompt_path(model) is PACKED
    prompt = policy.tokenizer("def softmax(x):\n    # numerically stable, over the last dimension\n").input_ids
    completions = [policy.tokenizer(text).input_ids for text in ("return x", "    return torch.softmax(x, -1)\n", "")]
    reference = copy.deepcopy(model)
    reference.get_base_model().set_attn_implementation("sdpa")
    assert_plain(model, reference, prompt, completions, 0.25, 1e-5)


def test_the_trial_is_made_in_float32_whatever_the_caller_allows(monkeypatch):
    """Both ways in TF32 deviate by more than any tolerance: the model would be run plainly, five times slower."""
    inside = []
    packed = logprobs._packed

    def spied(*arguments):
        inside.append(torch.get_float32_matmul_precision())
        return packed(*arguments)

    monkeypatch.setattr(logprobs, "_packed", spied)
    with matmul_precision(True, "cuda"):
        assert prompt_path(random_model(LLAMA, torch.float32, True)) is PACKED
        assert torch.get_float32_matmul_precision() == "high"
    assert inside == ["highest"]


@pytest.mark.gpu
def test_on_a_gpu_the_trial_holds_under_tf32():
    with matmul_precision(True, "cuda"):
        assert prompt_path(load_policy("embedded", device="cuda").model) is PACKED


def test_what_makes_no_sense_is_said():
    model = random_model(LLAMA, torch.float32, lora=False)
    with pytest.raises(UserError, match="Temperature 0"):
        completion_logprobs(model, [1], [[2]], 0)
    with pytest.raises(UserError, match="empty prompt"):
        completion_logprobs(model, [], [[2]])
    with pytest.raises(UserError, match="1 prompts came with 2"):
        grouped_logprobs(model, [[1]], [[[2]], [[3]]])
    assert completion_logprobs(model, [1], [])[0].shape == (0, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("longest", [0, 4096], ids=["in two parts", "masked"])
@pytest.mark.parametrize("name", MODELS)
def test_on_a_gpu_it_is_what_it_is_on_a_cpu(name, longest, monkeypatch):
    monkeypatch.setattr("vegtts_core.training.shared_prompt.MASKED_TOKENS", {"cuda": longest})
    model = random_model(MODELS[name][0], torch.float32, lora=True)
    other = copy.deepcopy(model).to("cuda")
    prompts, groups = random_tokens([9, 12]), [random_tokens(lengths, seed=2) for lengths in ((3, 5), (0, 1, 6, 6))]
    gradients = []
    for each in (model, other):
        scores = grouped_logprobs(each, prompts, groups, 0.5, entropy=True)
        gradients.append(gradient(each, sum(a.sum() + b.pow(2).sum() for a, b in scores if b is not None)).cpu())
    assert (gradients[0] - gradients[1]).norm() <= 1e-4 * gradients[0].norm()
