"""Passes of an update on a GPU hold as many tokens as its memory does, by the shapes of the model alone."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from vegtts_core.plan.model_facts import ModelFacts, model_facts
from vegtts_core.training.pass_memory import (
    PASS_TOKENS,
    UPDATE_SHARE,
    activation_bytes,
    pass_tokens,
    tokens_that_fit,
)

GIB = 2**30
H100 = int(79.18 * GIB)


@pytest.fixture(scope="module")
def qwen():
    """The study's policy: the run whose update did not fit had 16384 tokens to a pass of it."""
    return ModelFacts("Qwen", "its config.json", 1_543_714_304, 28, 1536, 8960, 12, 2, 128, 151_936, (), True)


def test_what_ran_out_of_memory_is_not_tried_again(qwen):
    ranks, kept = 16 * 4, int(6.5 * GIB)
    assert activation_bytes(qwen, ranks, PASS_TOKENS["cuda"], 0) > H100 - kept
    most = tokens_that_fit(qwen, ranks, kept, H100)
    assert 4096 < most < 12_000
    assert kept + activation_bytes(qwen, ranks, most, 0) < UPDATE_SHARE * H100


def test_a_small_model_takes_the_most_and_a_small_card_takes_one_group(qwen):
    small = model_facts("embedded")
    assert small is not None
    assert tokens_that_fit(small, 112.0, GIB, H100) == PASS_TOKENS["cuda"]
    assert tokens_that_fit(qwen, 64.0, int(6.5 * GIB), 8 * GIB) == 0


def test_a_cpu_shares_no_pass():
    shape = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**shape, num_attention_heads=2))
    assert pass_tokens(model) == 0 and pass_tokens(torch.nn.Linear(2, 2)) == 0


@pytest.mark.gpu
def test_the_largest_pass_fits():
    """A model so wide that 16384 tokens would not: one update of as many tokens as are said to fit."""
    from vegtts_core.training.logprobs import grouped_logprobs

    shape = {"vocab_size": 1024, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 12}
    config = LlamaConfig(**shape, num_attention_heads=32, num_key_value_heads=8)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    most = pass_tokens(model)
    assert 0 < most < PASS_TOKENS["cuda"]
    generator = torch.Generator().manual_seed(0)
    prompt, *completions = (
        torch.randint(1024, (length,), generator=generator).tolist() for length in [400] + [80] * ((most - 400) // 80)
    )
    ((logprobs, _),) = grouped_logprobs(model, [prompt], [completions])
    logprobs.sum().backward()
    assert torch.cuda.max_memory_allocated() < UPDATE_SHARE * torch.cuda.get_device_properties(0).total_memory
