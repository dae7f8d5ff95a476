"""Small random models whose steps are recorded: by calls of the recorded function itself, or as CUDA graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from vegtts_core.policy import TransformersPolicy
from vegtts_core.policy.graphs import CannotCapture, PlainCapture
from vegtts_core.policy.static_session import StaticDecoding
from vegtts_core.policy.types import PolicyIdentity

SIZE = {
    "vocab_size": 49152,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "pad_token_id": None,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZE, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SIZE, num_key_value_heads=1),
    "gpt2": GPT2Config(vocab_size=49152, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=2),
}


def random_model(name: str = "llama", dtype: torch.dtype = torch.float32, vocabulary: int = 49152) -> PreTrainedModel:
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[name])
    config.vocab_size = vocabulary
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def policy_of(model: Any, tokenizer: Any, **options: Any) -> TransformersPolicy:
    return TransformersPolicy(model, tokenizer, PolicyIdentity("random", "", None, "float32", "cpu", {}), **options)


class Counting(PlainCapture):
    """Counts what is recorded; ``fails`` says from which recording on it refuses."""

    def __init__(self, fails: int | None = None) -> None:
        self.recorded = 0
        self.cleared = 0
        self._fails = fails

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        if self._fails is not None and self.recorded >= self._fails:
            raise CannotCapture("no luck")
        return function

    def clear(self) -> None:
        self.cleared += 1


def recorded_by(policy: TransformersPolicy, capture: PlainCapture) -> StaticDecoding:
    """Let ``capture`` record the policy's steps."""
    policy._engine.record(capture)  # type: ignore[attr-defined]
    return policy._engine.static  # type: ignore[attr-defined]
