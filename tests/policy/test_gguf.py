"""GGUF files are converted once, whole or not at all, and hold the file's own weights and special tokens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from vegtts_core.errors import UserError
from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.embedded import embedded_gguf
from vegtts_core.policy.gguf import converted_folder

VOCABULARY = 1000
CONVERT = (
    "import sys; from pathlib import Path; from vegtts_core.policy.gguf import converted_folder; "
    "print(converted_folder(Path(sys.argv[1])))"
)


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> Path:
    """A Llama of two layers with the first tokens of SmolLM2's tokenizer, random float32 weights."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    source = gguf.GGUFReader(embedded_gguf()).fields
    tokens = source["tokenizer.ggml.tokens"].contents()[:VOCABULARY]
    merges = [
        merge
        for merge in source["tokenizer.ggml.merges"].contents()[:VOCABULARY]
        if {*merge.split(), merge.replace(" ", "")} <= set(tokens)
    ]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(source["tokenizer.ggml.token_type"].contents()[:VOCABULARY])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(source["tokenizer.chat_template"].contents())
    random = np.random.default_rng(0)
    shapes = {"token_embd.weight": (VOCABULARY, 32), "output_norm.weight": (32,)}
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (32,),
                "ffn_norm": (32,),
                "attn_q": (32, 32),
                "attn_k": (16, 32),
                "attn_v": (16, 32),
                "attn_output": (32, 32),
                "ffn_gate": (64, 32),
                "ffn_up": (64, 32),
                "ffn_down": (32, 64),
            }.items()
        }
    for name, shape in shapes.items():
        writer.add_tensor(name, random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VEGTTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start_conversion(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CONVERT, str(path)], stdout=subprocess.PIPE, text=True)


def test_killed_conversion_leaves_nothing_and_two_at_once_agree(tiny_gguf, empty_cache):
    killed = start_conversion(tiny_gguf)
    deadline = time.monotonic() + 60
    while not list((empty_cache / "gguf").glob("*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    store = empty_cache / "gguf"
    assert list(store.glob("*.partial")) and not list(store.glob("*.safetensors"))
    assert not [folder for folder in store.iterdir() if folder.is_dir() and folder.suffix != ".partial"]

    other = start_conversion(tiny_gguf)
    folder = converted_folder(tiny_gguf)
    assert other.communicate()[0].strip() == str(folder) and other.returncode == 0
    assert not list(store.glob("*.partial"))
    written = (folder / "model.safetensors").stat()
    assert converted_folder(tiny_gguf) == folder
    assert (folder / "model.safetensors").stat() == written


def test_any_gguf_file_becomes_a_policy(tiny_gguf, empty_cache):
    policy = load_policy(str(tiny_gguf))
    assert isinstance(policy, TransformersPolicy)
    assert policy.eos_ids == {2} and policy.tokenizer.pad_token_id == 2
    folder = next(folder for folder in (empty_cache / "gguf").iterdir() if folder.is_dir())
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    direct = AutoModelForCausalLM.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name).eval()
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(plain(tokens).logits, direct(tokens).logits)
        torch.testing.assert_close(policy.base(tokens).logits, direct(tokens).logits)


def test_embedded_weights_are_the_files_own(embedded_folder):
    converted = load_file(os.path.join(embedded_folder, "model.safetensors"))
    assert {tensor.dtype for tensor in converted.values()} == {torch.float32}
    names = {
        "model.layers.3.mlp.down_proj.weight": "blk.3.ffn_down.weight",
        "model.layers.7.self_attn.v_proj.weight": "blk.7.attn_v.weight",
        "model.norm.weight": "output_norm.weight",
    }
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(embedded_gguf()).tensors}
    for name, original in names.items():
        expected = gguf.dequantize(tensors[original].data, tensors[original].tensor_type)
        np.testing.assert_array_equal(converted[name].numpy(), expected)


def test_embedded_special_tokens(embedded_folder):
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )


def test_what_is_no_gguf_is_the_users_error(tmp_path, empty_cache):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.gguf cannot be read as a GGUF model"):
        load_policy(str(broken))
    assert not [folder for folder in (empty_cache / "gguf").iterdir() if folder.suffix == "" and folder.is_dir()]
