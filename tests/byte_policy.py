"""A policy of bytes: a tokenizer whose tokens are characters' bytes, and a tiny random Llama over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from vegtts_core.scaffolds.types import Message, Prompt, Role
from vegtts_core.training.slots import Slot

VOCABULARY = 256


class ByteTokenizer:
    """As much of a tokenizer as prompts and records need."""

    chat_template = None
    pad_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


def byte_model(dtype: torch.dtype = torch.float64) -> Any:
    """Random weights, wide enough for a context to matter."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        pad_token_id=None,
        max_position_embeddings=4096,
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype).train()


class NamedTask:
    """As much of a task as a slot needs."""

    def __init__(self, key: str) -> None:
        self.key = key


def slot(key: str, question: str) -> Slot:
    """A slot of scaffold ``forward`` whose prompt asks ``question`` and opens the answer."""
    messages = (Message(Role.USER, question), Message(Role.ASSISTANT, "def forward(x):"))
    return Slot(NamedTask(key), "forward", Prompt(key, messages, ()))  # type: ignore[arg-type]


def rollout(key: str, sample: int, body: str, speedup: float | None, reason: str = "no.") -> dict[str, Any]:
    """A row of the samples table; ``speedup`` None is an incorrect rollout."""
    correct = speedup is not None
    return {
        "task": key,
        "scaffold": "forward",
        "sample": sample,
        "prompt_id": key,
        "completion": body,
        "body": body,
        "fingerprint": body,
        "token_ids": list(body.encode()),
        "tokens": len(body.encode()),
        "logprobs": [-1.0] * len(body.encode()),
        "sampling_logprobs": [-1.0] * len(body.encode()),
        "stage": "reward" if correct else "correctness",
        "error": None if correct else "exception",
        "reason": "" if correct else reason,
        "sound_correct": correct,
        "sound_speedup": speedup,
        "sound_candidate_seconds": [1e-3, 3e-3, 2e-3] if correct else None,
        "reward": speedup or 0.0,
    }
