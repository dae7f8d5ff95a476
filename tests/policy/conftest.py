"""The real embedded model, once per session; plain transformers beside it, the reference for log-probabilities."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.embedded import embedded_gguf
from vegtts_core.policy.gguf import converted_folder


@pytest.fixture(scope="session")
def embedded_folder() -> str:
    return str(converted_folder(embedded_gguf()))


@pytest.fixture(scope="session")
def policy() -> TransformersPolicy:
    loaded = load_policy()
    assert isinstance(loaded, TransformersPolicy)
    return loaded


@pytest.fixture(scope="session")
def reference(embedded_folder: str) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(embedded_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def tokenizer(embedded_folder: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(embedded_folder)
