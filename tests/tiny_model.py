"""A tiny random model with the embedded model's tokenizer: it writes nonsense, quickly."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from vegtts_core.policy.embedded import embedded_gguf
from vegtts_core.policy.gguf import converted_folder


def save_tiny_policy(folder: Path) -> Path:
    """The model in ``folder``, as save_pretrained writes it."""
    tokenizer = AutoTokenizer.from_pretrained(converted_folder(embedded_gguf()))
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=8192,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
