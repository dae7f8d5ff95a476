"""Names become policies: adapters, dtypes, hashes, and one sentence for whatever is missing."""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import peft
import pytest
import torch
from policy_truth import PROMPTS, assert_true_logprobs, token_ids
from transformers import AutoModelForCausalLM

from vegtts_core.errors import UserError
from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.cache import cache_root, file_sha256, files_sha256
from vegtts_core.policy.embedded import embedded_gguf
from vegtts_core.policy.engine import AttentionPath
from vegtts_core.policy.types import SamplingParameters

SAMPLING = SamplingParameters(temperature=0.8, max_new_tokens=8)


@pytest.fixture(scope="module")
def adapter(embedded_folder, tmp_path_factory) -> str:
    """A LoRA adapter of rank 4 whose second factor is not zero, so that it changes the model."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(embedded_folder)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(str(folder))
    return str(folder)


def test_adapter_changes_the_policy_and_its_identity(policy, reference, embedded_folder, adapter):
    adapted = load_policy(adapter=adapter)
    assert isinstance(adapted, TransformersPolicy)
    groups = adapted.sample(PROMPTS[:2], 3, SAMPLING, seed=0)
    plain = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(embedded_folder), adapter).eval()
    assert_true_logprobs(adapted, plain, PROMPTS[:2], groups, token_ids(groups), SAMPLING.temperature)
    (without,) = policy.score(PROMPTS[:1], token_ids(groups)[:1])
    assert abs(without[0].logprobs[0] - groups[0][0].logprobs[0]) > 1e-3
    assert adapted.identity.adapter_sha256 and policy.identity.adapter_sha256 is None
    assert adapted.identity.weights_sha256 == policy.identity.weights_sha256

    # A trainer's live model: the adapter stays beside the weights.
    live = TransformersPolicy(plain, policy.tokenizer, policy.identity)
    assert live.attention_path is AttentionPath.SHARED_PREFIX
    for ours, merged in zip(live.score(PROMPTS[:1], token_ids(groups)[:1])[0], groups[0], strict=True):
        np.testing.assert_allclose(ours.logprobs, merged.logprobs, atol=1e-4)


def test_bfloat16_runs_with_an_adapter_beside_it(adapter):
    loaded = load_policy(adapter=adapter, dtype="bfloat16")
    assert isinstance(loaded, TransformersPolicy)
    assert loaded.base.dtype == torch.bfloat16 and isinstance(loaded.model, peft.PeftModel)
    assert loaded.attention_path is AttentionPath.SHARED_PREFIX
    (group,) = loaded.sample(PROMPTS[1:2], 2, SAMPLING, seed=0)
    assert all(completion.logprobs and max(completion.logprobs) <= 0 for completion in group)


def test_identity_names_the_weights(policy, embedded_folder):
    identity = policy.identity
    with open(f"{embedded_folder}/model.safetensors", "rb") as stream:
        assert identity.weights_sha256 == hashlib.file_digest(stream, "sha256").hexdigest()
    assert (identity.name, identity.dtype, identity.device) == ("embedded", "float32", "cpu")
    assert identity.versions["transformers"] and identity.versions["torch"]


def test_digests_follow_the_content(tmp_path, monkeypatch):
    monkeypatch.setenv("VEGTTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vegtts_core.policy.cache.REMEMBERED_FROM", 0)
    one, two = tmp_path / "b", tmp_path / "a"
    one.write_bytes(b"first")
    two.write_bytes(b"second")
    assert file_sha256(one) == file_sha256(one) == hashlib.sha256(b"first").hexdigest()
    assert files_sha256([one]) == file_sha256(one)
    assert files_sha256([one, two]) == files_sha256([two, one]) != files_sha256([two])
    one.write_bytes(b"fresh")
    assert file_sha256(one) == hashlib.sha256(b"fresh").hexdigest()
    for note in (tmp_path / "cache" / "digests").iterdir():
        note.write_text("{")
    assert file_sha256(one) == hashlib.sha256(b"fresh").hexdigest()


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("VEGTTS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "vegtts_core"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VEGTTS_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="VEGTTS_CACHE"):
        cache_root()


def test_missing_or_altered_embedded_model(monkeypatch):
    monkeypatch.setattr("vegtts_core.policy.embedded.SHA256", "0" * 64)
    with pytest.raises(UserError, match="make setup"):
        embedded_gguf()
    monkeypatch.setattr("vegtts_core.policy.embedded.PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="make setup"):
        embedded_gguf()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "no-one/no-such-model"}, "not in the Hugging Face cache"),
        ({"name": "not a name at all//"}, "neither a folder nor a hub id"),
        ({"name": "/no/such.gguf"}, "no GGUF file"),
        ({"dtype": "float16"}, "dtype 'float16' is not known: use one of float32, bfloat16"),
        ({"device": "tpu"}, "device 'tpu' is not known"),
        ({"sampler": "magic"}, "sampler 'magic' is not known: use one of transformers, vllm"),
        ({"adapter": "/"}, "has no adapter_config.json"),
    ],
)
def test_mistakes_get_one_sentence(options, sentence, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=sentence) as caught:
        load_policy(**options)
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(UserError, match="holds no weights"):
        load_policy(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_policy(str(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_asked_for_where_there_is_none():
    with pytest.raises(UserError, match="vLLM is not installed: run `make vllm`") as caught:
        load_policy(sampler="vllm")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_asked_for_where_there_is_none():
    with pytest.raises(UserError, match="No CUDA device"):
        load_policy(device="cuda")
