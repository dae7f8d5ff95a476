"""Steps of fixed shapes give what plain steps give, whoever leaves when, and are recorded anew when they must be.

The same code runs on a GPU, where recording makes CUDA graphs (`test_cuda_graphs`); here the recorded function itself
is called again.
"""

from __future__ import annotations

import logging
from itertools import chain

import numpy as np
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft.tuners.tuners_utils import BaseTunerLayer
from policy_truth import PROMPTS, assert_true_logprobs, token_ids
from static_engines import CONFIGS, Counting, policy_of, random_model, recorded_by

from vegtts_core.policy import arena as arenas
from vegtts_core.policy.arena import ROW_BUCKETS, Extent, row_bucket, token_room
from vegtts_core.policy.decode import vacancies
from vegtts_core.policy.engine import SharedPrefixEngine
from vegtts_core.policy.graphs import PlainCapture
from vegtts_core.policy.static_session import MAX_SHAPES, StaticSession
from vegtts_core.policy.trial import try_static
from vegtts_core.policy.types import SamplingParameters

WARM = SamplingParameters(0.9, 14)


@pytest.fixture
def small_shapes(monkeypatch):
    """Shapes that a few rows and tokens pass through."""
    monkeypatch.setattr("vegtts_core.policy.static_session.STEPS_BEFORE_CAPTURE", 1)
    monkeypatch.setattr("vegtts_core.policy.arena.ROW_BUCKETS", (1, 2, 3, 4, 6, 8, 12, 16))
    for name in ("arena.SUFFIX_BLOCK", "static_session.SUFFIX_BLOCK", "attention.SUFFIX_BLOCK"):
        monkeypatch.setattr(f"vegtts_core.policy.{name}", 2)
    for name in ("arena.PREFIX_BLOCK", "static_session.PREFIX_BLOCK"):
        monkeypatch.setattr(f"vegtts_core.policy.{name}", 4)


def assert_same(found, expected, atol=1e-4):
    assert token_ids(found) == token_ids(expected)
    for one, two in zip(chain(*found), chain(*expected), strict=True):
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=atol)
        np.testing.assert_allclose(one.sampling_logprobs, two.sampling_logprobs, atol=2 * atol)
        assert (one.text, one.stop_reason) == (two.text, two.stop_reason)


def test_shapes_are_few_and_fit():
    for rows in range(1, 2000):
        assert rows <= row_bucket(rows) <= max(8, 2 * rows)
    assert len({row_bucket(rows) for rows in range(1, 1025)}) == len(ROW_BUCKETS) + 1
    for tokens in range(1, 5000):
        assert tokens <= token_room(tokens, 64) < tokens * 1.5 + 64 and token_room(tokens, 64) % 64 == 0
    assert len({token_room(tokens, 64) for tokens in range(1, 1025)}) == 8
    extent = Extent.of([3, 130], 13, 65)
    assert extent == (2, 256, 16, 128)
    assert extent.covers(Extent.of([256], 16, 128)) and not extent.covers(Extent.of([1], 17, 1))


@st.composite
def courses(draw):
    """Prompt lengths, rows of each prompt, and after each step who goes on."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    prompt_of_row = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=14))
    steps = draw(st.integers(1, 9))
    going = []
    rows = len(prompt_of_row)
    for _ in range(steps):
        running = draw(st.lists(st.booleans() | st.just(True), min_size=rows, max_size=rows))
        going.append(running if any(running) else [True] * rows)
        rows = sum(going[-1])
    return lengths, prompt_of_row, going


VOCABULARY = 97
MODELS = {name: random_model(name, torch.float64, VOCABULARY) for name in CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(courses(), st.sampled_from([0.0, 0.7, 1.0]), st.integers(0, 99))
def test_any_course_is_the_plain_one(name, small_shapes, course, temperature, seed):
    lengths, prompt_of_row, going = course
    random = np.random.default_rng(seed)
    with torch.no_grad():
        engine = SharedPrefixEngine(shared(MODELS[name]))
        engine.record(PlainCapture())
        prefix = engine.prefill([random.integers(VOCABULARY, size=length).tolist() for length in lengths])
        plain = engine.open(prefix, list(prompt_of_row))
        fixed = engine.decode(prefix, list(prompt_of_row), len(going))
        assert isinstance(fixed, StaticSession)
        tokens = random.integers(VOCABULARY, size=len(prompt_of_row)).tolist()
        for running in going:
            numbers = random.uniform(size=len(tokens))
            expected, found = (session.advance(tokens, numbers, temperature) for session in (plain, fixed))
            np.testing.assert_array_equal(found[:, 0], expected[:, 0])
            np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-4)
            targets, sources, count = vacancies(running)
            tokens = expected[:, 0].astype(int).tolist()
            if count < len(tokens):
                plain.leave(targets, sources, count)
                fixed.leave(targets, sources, count)
                for target, source in zip(targets, sources, strict=True):
                    tokens[target] = tokens[source]
                tokens = tokens[:count]


def shared(model):
    model.set_attn_implementation("vegtts_shared_prefix")
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_completions_are_the_plain_ones(name, tokenizer, small_shapes):
    policy = policy_of(random_model(name), tokenizer)
    expected = policy.sample(PROMPTS, 5, WARM, seed=3)
    capture = Counting()
    decoding = recorded_by(policy, capture)
    assert_same(policy.sample(PROMPTS, 5, WARM, seed=3), expected)
    assert capture.recorded > 1 and decoding.kept_bytes > 0
    assert_true_logprobs(policy, random_model(name), PROMPTS, expected, token_ids(expected), WARM.temperature)
    for group, single in zip(expected, PROMPTS, strict=True):
        assert_same(policy.sample([single], 5, WARM, seed=3), [group])


def test_the_embedded_model_writes_the_same(policy, tokenizer):
    """Completions of many lengths, with stop strings, over several shapes of rows."""
    sampling = SamplingParameters(0.7, 24)
    expected = policy.sample(PROMPTS, 12, sampling, seed=8)
    try:
        capture = Counting()
        recorded_by(policy, capture)
        assert_same(policy.sample(PROMPTS, 12, sampling, seed=8), expected)
        assert capture.recorded >= 2
    finally:
        policy._engine.static = None


def test_bfloat16_stays_near_the_plain_model(tokenizer, small_shapes):
    policy = policy_of(random_model("qwen2", torch.bfloat16), tokenizer)
    recorded_by(policy, Counting())
    groups = policy.sample(PROMPTS, 4, SamplingParameters(1.0, 10), seed=3)
    assert_true_logprobs(
        policy, random_model("qwen2", torch.bfloat16), PROMPTS, groups, token_ids(groups), 1.0, atol=0.3
    )


def test_waves_and_later_calls_record_nothing_anew(tokenizer, monkeypatch):
    policy = policy_of(random_model(), tokenizer)
    policy.eos_ids = frozenset()
    capture = Counting()
    decoding = recorded_by(policy, capture)
    expected = policy.sample(PROMPTS[2:], 8, WARM, seed=1)
    monkeypatch.setattr("vegtts_core.policy.transformers_policy.MAX_ROWS", {"cpu": 8})
    for _ in range(3):
        policy.sample(PROMPTS[2:], 24, WARM, seed=1)
    arena = decoding._arena
    assert capture.recorded == 1
    assert_same(policy.sample(PROMPTS[2:], 8, WARM, seed=1), expected)
    policy.sample(PROMPTS[2:], 6, SamplingParameters(0.9, 5), seed=1)  # smaller: in the same arena
    assert capture.recorded == 1 and decoding._arena is arena
    policy.sample(PROMPTS[2:], 8, SamplingParameters(0.5, 14), seed=1)
    assert capture.recorded == 2 and decoding._arena is arena  # the temperature is part of what is recorded


def test_nothing_unfinished_is_read(tokenizer):
    """Rows and room that were used before may hold anything."""
    policy = policy_of(random_model(), tokenizer)
    decoding = recorded_by(policy, Counting())
    expected = policy.sample(PROMPTS, 5, WARM, seed=3)
    arena = decoding._arena
    assert arena is not None
    for tensor in chain(*(store.values() for store in arena.stored())):
        tensor.fill_(torch.nan)
    assert_same(policy.sample(PROMPTS, 5, WARM, seed=3), expected)
    assert decoding._arena is arena


def test_an_update_in_place_is_seen_and_records_nothing(tokenizer):
    model = peft.get_peft_model(
        random_model(), peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    policy = policy_of(model, tokenizer)
    policy.eos_ids = frozenset()
    capture = Counting()
    recorded_by(policy, capture)
    before = policy.sample(PROMPTS[:1], 4, WARM, seed=2)
    recorded = capture.recorded
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    model(torch.arange(9)[None]).logits.square().mean().backward()
    optimizer.step()
    after = policy.sample(PROMPTS[:1], 4, WARM, seed=2)
    assert capture.recorded == recorded and capture.cleared == 1
    assert token_ids(after) != token_ids(before)
    policy._engine.static = None  # type: ignore[attr-defined]
    assert_same(after, policy.sample(PROMPTS[:1], 4, WARM, seed=2))


def switched_off(model):
    model.disable_adapter_layers()


def rescaled(model):
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.scaling["default"] *= 3


def replaced(model):
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.lora_A["default"].weight = torch.nn.Parameter(module.lora_A["default"].weight.detach() * 2)


def in_tf32(_model):
    torch.set_float32_matmul_precision("high")


@pytest.mark.parametrize("change", [switched_off, rescaled, replaced, in_tf32])
def test_another_model_is_recorded_anew(change, tokenizer):
    lora = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = peft.get_peft_model(random_model(), lora)
    policy = policy_of(model, tokenizer)
    policy.eos_ids = frozenset()
    capture = Counting()
    decoding = recorded_by(policy, capture)
    policy.sample(PROMPTS[:1], 4, WARM, seed=2)
    recorded, arena = capture.recorded, decoding._arena
    precision = torch.get_float32_matmul_precision()
    try:
        change(model)
        found = policy.sample(PROMPTS[:1], 4, WARM, seed=2)
        assert capture.recorded == 2 * recorded and decoding._arena is not arena
        policy._engine.static = None  # type: ignore[attr-defined]
        assert_same(found, policy.sample(PROMPTS[:1], 4, WARM, seed=2))
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("fails", [1, 2])
def test_what_cannot_be_recorded_is_computed_plainly(fails, tokenizer, small_shapes, caplog):
    policy = policy_of(random_model(), tokenizer)
    expected = policy.sample(PROMPTS, 5, WARM, seed=3)
    capture = Counting(fails)
    recorded_by(policy, capture)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_same(policy.sample(PROMPTS, 5, WARM, seed=3), expected)
    assert [record.message for record in caplog.records] == ["LlamaForCausalLM decodes without CUDA graphs: no luck"]
    assert capture.recorded == fails


def test_hooks_are_not_left_out(tokenizer, caplog):
    policy = policy_of(random_model(), tokenizer)
    expected = policy.sample(PROMPTS, 3, WARM, seed=3)
    capture = Counting()
    recorded_by(policy, capture)
    seen = []
    hook = policy.base.get_input_embeddings().register_forward_hook(lambda *_: seen.append(1))
    assert_same(policy.sample(PROMPTS, 3, WARM, seed=3), expected)
    hook.remove()
    assert len(seen) > 10 and capture.recorded == 0 and "forward hooks" in caplog.text
    assert_same(policy.sample(PROMPTS, 3, WARM, seed=3), expected)
    assert capture.recorded


def test_room_that_does_not_fit_is_not_asked_for(tokenizer, monkeypatch, caplog):
    policy = policy_of(random_model(), tokenizer)
    expected = policy.sample(PROMPTS, 3, WARM, seed=3)
    recorded_by(policy, Counting())

    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("vegtts_core.policy.static_session.Arena", full)
    assert_same(policy.sample(PROMPTS, 3, WARM, seed=3), expected)
    assert "memory" in caplog.text


def test_shapes_are_forgotten_in_the_end(tokenizer):
    policy = policy_of(random_model(), tokenizer)
    decoding = recorded_by(policy, Counting())
    for number in range(MAX_SHAPES + 3):
        policy.sample(PROMPTS[1:2], 2, SamplingParameters(0.5 + number / 100, 6), seed=3)
    assert len(decoding._steps) == MAX_SHAPES
    decoding.drop()
    assert decoding.kept_bytes == 0 and not decoding._steps


def test_a_session_ends_where_the_next_begins(tokenizer):
    engine = policy_of(random_model(), tokenizer)._engine
    engine.record(PlainCapture())  # type: ignore[attr-defined]
    with torch.no_grad():
        prefix = engine.prefill([[1, 2, 3]])
        first = engine.decode(prefix, [0, 0], 3)
        engine.decode(prefix, [0] * 20, 3)
        with pytest.raises(AssertionError, match="another session"):
            first.advance([1, 2], np.array([0.5, 0.5]), 1.0)


def test_a_model_that_reads_the_mask_is_found(monkeypatch, tokenizer, caplog):
    """The trial of a recorded step sees what the trial of the shared prefix does not."""
    model = random_model()
    engine = policy_of(model, tokenizer)._engine
    assert isinstance(engine, SharedPrefixEngine)
    engine.record(PlainCapture())
    prompts, prompt_of_row, endings = [[1, 2, 3], [4, 5]], [0, 1, 1], [[6, 7], [8, 9], [10, 11]]
    with torch.no_grad():
        prefix = engine.prefill(prompts)
        session = engine.open(prefix, prompt_of_row)
        steps = [prefix.logits[prompt_of_row]]
        steps += [session.step(torch.tensor(column)[:, None])[:, 0] for column in zip(*endings, strict=True)]
        expected = torch.stack(steps, 1).log_softmax(-1)
        try_static(model, engine, prefix, prompt_of_row, endings, expected)
        assert engine.static is not None and engine.static.kept_bytes == 0
        forward = arenas.Arena.step

        def spoilt(self, run, shape):
            forward(self, lambda *args, **options: run(args[0] + 1, args[1], **options), shape)

        monkeypatch.setattr(arenas.Arena, "step", spoilt)
        try_static(model, engine, prefix, prompt_of_row, endings, expected)
    assert engine.static is None and "of a fixed shape" in caplog.text
