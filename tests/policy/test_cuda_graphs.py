"""Decode steps as CUDA graphs, on a real GPU: what they give, when they are recorded, what they keep, how they fail.

`test_static_session` holds the same sessions to the plain ones on a CPU, without graphs.
"""

from __future__ import annotations

import gc
from itertools import chain
from typing import Any

import numpy as np
import peft
import pytest
import torch
from policy_truth import PROMPTS, assert_true_logprobs, token_ids
from static_engines import policy_of, random_model

from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.graphs import CannotCapture, CudaGraphCapture
from vegtts_core.policy.types import SamplingParameters

pytestmark = pytest.mark.gpu

WARM = SamplingParameters(0.9, 20)
LORA = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False}


class Watched(CudaGraphCapture):
    """Counts recordings."""

    recorded = 0

    def __call__(self, function: Any) -> Any:
        self.recorded += 1
        return super().__call__(function)


def recording(policy: TransformersPolicy) -> Watched:
    """What records the policy's steps from now on."""
    capture = Watched(policy._engine.device)
    policy._engine.record(capture)  # type: ignore[attr-defined]
    return capture


def assert_same(found, expected, atol=1e-3):
    """The same tokens up to one draw on the edge of two, and the same log-probabilities where tokens are the same."""
    pairs = list(zip(chain(*found), chain(*expected), strict=True))
    alike = [(one, two) for one, two in pairs if one.token_ids == two.token_ids]
    assert len(alike) >= len(pairs) - 1
    for one, two in alike:
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=atol)
        assert (one.text, one.stop_reason) == (two.text, two.stop_reason)


@pytest.fixture(scope="module")
def on_gpu() -> TransformersPolicy:
    loaded = load_policy(device="cuda")
    assert isinstance(loaded, TransformersPolicy)
    return loaded


@pytest.fixture(scope="module")
def plain_on_gpu() -> TransformersPolicy:
    loaded = load_policy(device="cuda", cuda_graphs=False)
    assert isinstance(loaded, TransformersPolicy) and loaded._engine.static is None  # type: ignore[attr-defined]
    return loaded


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_the_embedded_model_writes_the_same(on_gpu, plain_on_gpu, temperature):
    """Several prompts of different lengths, rows that leave, suffixes that outgrow their first room."""
    capture = recording(on_gpu)
    sampling = SamplingParameters(temperature, 150)
    found = on_gpu.sample(PROMPTS, 40, sampling, seed=3)
    assert capture.recorded and capture.nbytes > 0
    expected = plain_on_gpu.sample(PROMPTS, 40, sampling, seed=3)
    pairs = list(zip(chain(*token_ids(found)), chain(*token_ids(expected)), strict=True))
    assert sum(one == two for one, two in pairs) >= 0.95 * len(pairs)
    assert temperature == 0 or len({len(one) for one, _ in pairs}) > 5
    scores = plain_on_gpu.score(PROMPTS, token_ids(found))
    for one, score in zip(chain(*found), chain(*scores), strict=True):
        np.testing.assert_allclose(one.logprobs, score.logprobs, atol=2e-3)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_logprobs_are_the_plain_models(name, tokenizer):
    policy = policy_of(random_model(name).cuda(), tokenizer)
    capture = recording(policy)
    groups = policy.sample(PROMPTS, 8, WARM, seed=3)
    assert capture.recorded
    assert_true_logprobs(policy, random_model(name).cuda(), PROMPTS, groups, token_ids(groups), 0.9, atol=1e-3)


def test_bfloat16(tokenizer):
    policy = policy_of(random_model("qwen2", torch.bfloat16).cuda(), tokenizer)
    capture = recording(policy)
    groups = policy.sample(PROMPTS, 8, SamplingParameters(1.0, 20), seed=3)
    assert capture.recorded
    plain = random_model("qwen2", torch.bfloat16).cuda()
    assert_true_logprobs(policy, plain, PROMPTS, groups, token_ids(groups), 1.0, atol=0.3)


def test_waves_use_the_same_graphs(tokenizer, monkeypatch):
    policy = policy_of(random_model().cuda(), tokenizer)
    policy.eos_ids = frozenset()
    capture = recording(policy)
    expected = policy.sample(PROMPTS[2:], 16, WARM, seed=1)
    assert capture.recorded == 1
    monkeypatch.setattr("vegtts_core.policy.transformers_policy.MAX_ROWS", {"cpu": 1, "cuda": 16})
    found = policy.sample(PROMPTS[2:], 32, WARM, seed=1)
    assert capture.recorded == 1
    assert_same([found[0][:16]], expected)


def test_an_update_in_place_is_seen_by_the_same_graphs(tokenizer):
    model = peft.get_peft_model(random_model(), peft.LoraConfig(**LORA)).cuda()
    policy = policy_of(model, tokenizer)
    policy.eos_ids = frozenset()
    capture = recording(policy)
    before = policy.sample(PROMPTS[:1], 8, WARM, seed=2)
    recorded = capture.recorded
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.1)
    model(torch.arange(9, device="cuda")[None]).logits.square().mean().backward()
    optimizer.step()
    after = policy.sample(PROMPTS[:1], 8, WARM, seed=2)
    assert capture.recorded == recorded
    assert token_ids(after) != token_ids(before)
    policy._engine.static = None  # type: ignore[attr-defined]
    assert_same(after, policy.sample(PROMPTS[:1], 8, WARM, seed=2))


def test_an_adapter_that_is_switched_off_is_recorded_anew(tokenizer):
    model = peft.get_peft_model(random_model(), peft.LoraConfig(**LORA)).cuda()
    policy = policy_of(model, tokenizer)
    policy.eos_ids = frozenset()
    capture = recording(policy)
    with_adapter = policy.sample(PROMPTS[:1], 8, WARM, seed=2)
    recorded = capture.recorded
    with model.disable_adapter():
        without = policy.sample(PROMPTS[:1], 8, WARM, seed=2)
    assert capture.recorded == 2 * recorded
    assert_same(policy.sample(PROMPTS[:1], 8, WARM, seed=2), with_adapter)
    assert token_ids(without) != token_ids(with_adapter)


def waits(model: torch.nn.Module, when: Any) -> None:
    """Let the model's last norm wait for the device where ``when()``."""
    norm: Any = model.model.norm  # type: ignore[union-attr]
    forward = norm.forward

    def waiting(hidden: torch.Tensor) -> torch.Tensor:
        if when():
            hidden.sum().item()
        return forward(hidden)

    norm.forward = waiting


@pytest.mark.parametrize("when", [lambda: True, torch.cuda.is_current_stream_capturing])
def test_a_model_that_waits_is_run_plainly(when, tokenizer, caplog):
    """Found before recording, and where it shows in recording alone; afterwards all is as it was."""
    expected = policy_of(random_model().cuda(), tokenizer, cuda_graphs=False).sample(PROMPTS, 8, WARM, seed=3)
    model = random_model().cuda()
    waits(model, when)
    policy = policy_of(model, tokenizer)
    for _ in range(2):
        assert_same(policy.sample(PROMPTS, 8, WARM, seed=3), expected)
    said = [record.message for record in caplog.records if "without CUDA graphs" in record.message]
    assert len(said) == 1
    assert torch.cuda.get_sync_debug_mode() == 0
    assert not torch.cuda.is_current_stream_capturing()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.nn.functional.dropout(torch.ones(1000, device="cuda"), 0.5).sum().item()  # random numbers still come
    if when is torch.cuda.is_current_stream_capturing and not _goes_back():
        pytest.xfail("after a recording that failed midway, torch keeps what is freed (H100, torch 2.11): see _mend")
    assert _goes_back()


def _goes_back() -> bool:
    """Whether memory that is freed goes back to the device."""
    held = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    reserved = torch.cuda.memory_reserved()
    del held
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved() <= reserved - (1 << 27)


def test_another_model_is_recorded_after_a_failure(tokenizer):
    capture = CudaGraphCapture(torch.device("cuda"))
    ones = torch.ones(4, device="cuda")
    with pytest.raises(CannotCapture):
        capture(lambda: ones.sum().item())
    replay = capture(lambda: _add(ones))
    replay()
    replay()
    assert ones.tolist() == [3.0] * 4


def _add(ones: torch.Tensor) -> None:
    ones.add_(1)


def test_memory_is_bounded(tokenizer, monkeypatch):
    """Twenty waves of different sizes hold no more than the first few, and a policy that rests little."""
    policy = policy_of(random_model().cuda(), tokenizer)
    capture = recording(policy)
    decoding: Any = policy._engine.static  # type: ignore[attr-defined]
    held = []
    for number in range(20):
        policy.sample(PROMPTS, 10 + 3 * (number % 4), WARM, seed=number)
        gc.collect()
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    assert max(held[8:]) <= 1.1 * max(held[:8])
    assert capture.recorded < 60
    monkeypatch.setattr("vegtts_core.policy.static_session.KEPT_SHARE", 0.0)
    policy.sample(PROMPTS, 10, WARM, seed=0)
    assert decoding.kept_bytes == 0 and not decoding._steps
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < max(held)
