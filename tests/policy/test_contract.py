"""What every policy promises, whatever runs the model: `TransformersPolicy` in the ordinary suite, vLLM in its own.

The plain transformers model, one forward pass per text, is the truth for log-probabilities; `TransformersPolicy` is it
for streams, which are the same numbers on the same model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np
import peft
import pytest
import torch
from policy_truth import PROMPTS, assert_true_logprobs, token_ids
from transformers import AutoModelForCausalLM

from vegtts_core.errors import UserError
from vegtts_core.policy import load_policy
from vegtts_core.policy.embedded import EMBEDDED_ADAPTER
from vegtts_core.policy.load import load_vllm
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.types import SamplingParameters, StopReason
from vegtts_core.policy.vllm.parameters import VllmParameters
from vegtts_core.scaffolds.types import Message, Prompt, Role

WARM = SamplingParameters(temperature=0.7, max_new_tokens=12)
UNICODE = Prompt(
    "unicode",
    (
        Message(Role.USER, "Répète en japonais et avec des émojis : « ça va ? » 😀"),
        Message(Role.ASSISTANT, "元気ですか 😀🎉 元気"),
    ),
)


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def subject(request: pytest.FixtureRequest, policy: Any) -> Iterator[Any]:
    """The policy that is held to the contract: the embedded model, without an adapter."""
    if request.param == "transformers":
        yield policy
        return
    with closing(load_vllm("embedded", None, "float32", "cpu", VllmParameters(), adapters=True)) as engine:
        yield engine


def test_logprobs_are_the_plain_models(subject, reference):
    groups = subject.sample(PROMPTS, 5, WARM, seed=1)
    assert len(set(subject.prompt_tokens(PROMPTS))) == len(PROMPTS)  # ragged prompts
    assert len({len(completion.token_ids) for group in groups for completion in group}) > 2  # rows left early
    assert_true_logprobs(subject, reference, PROMPTS, groups, token_ids(groups), WARM.temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_scores_are_the_plain_models(subject, reference, temperature):
    ids = token_ids(subject.sample(PROMPTS, 4, WARM, seed=2))
    ids[0].append(())
    ids[1] = [*ids[1], ids[1][0]]
    scores = subject.score(PROMPTS, ids, temperature)
    assert scores[0][-1].logprobs == scores[0][-1].sampling_logprobs == ()
    assert scores[1][-1] == scores[1][0]
    ids[0], scores[0] = ids[0][:-1], scores[0][:-1]
    assert_true_logprobs(subject, reference, PROMPTS, scores, ids, temperature)


def test_what_is_sampled_scores_as_it_was_sampled(subject):
    groups = subject.sample(PROMPTS, 3, WARM, seed=6)
    scores = subject.score(PROMPTS, token_ids(groups), WARM.temperature)
    for written, scored in zip(chain(*groups), chain(*scores), strict=True):
        np.testing.assert_allclose(scored.logprobs, written.logprobs, atol=1e-3)
        np.testing.assert_allclose(scored.sampling_logprobs, written.sampling_logprobs, atol=1e-3)


def test_nothing_to_score(subject):
    assert subject.score([], []) == [] and subject.score(PROMPTS[:1], [[]]) == [[]]
    ((score,),) = subject.score(PROMPTS[:1], [[()]])
    assert score.logprobs == ()


def test_seeds_repeat_and_differ(subject):
    first = subject.sample(PROMPTS, 4, WARM, seed=5)
    again = subject.sample(PROMPTS, 4, WARM, seed=5)
    assert token_ids(again) == token_ids(first)
    for one, two in zip(chain(*first), chain(*again), strict=True):
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=1e-4)  # an engine may reuse a prompt it has seen
        assert (one.text, one.stop_reason) == (two.text, two.stop_reason)
    assert token_ids(subject.sample(PROMPTS, 4, WARM, seed=6)) != token_ids(first)


def test_the_k_streams_are_distinct(subject):
    (group,) = subject.sample(PROMPTS[2:], 16, SamplingParameters(1.0, 16), seed=5)
    assert len({completion.token_ids for completion in group}) == 16


def test_a_seed_means_the_same_everywhere(subject, policy):
    """The streams are those of `TransformersPolicy` (rounding may flip a draw on the edge of two tokens)."""
    ours = list(chain(*token_ids(subject.sample(PROMPTS, 16, WARM, seed=7))))
    truth = list(chain(*token_ids(policy.sample(PROMPTS, 16, WARM, seed=7))))
    assert sum(a == b for a, b in zip(ours, truth, strict=True)) >= len(truth) - 1


def test_a_completion_depends_on_neither_k_nor_neighbours(subject):
    first = token_ids(subject.sample(PROMPTS, 4, WARM, seed=5))
    assert token_ids(subject.sample(PROMPTS[2:], 2, WARM, seed=5))[0] == first[2][:2]


def test_equal_prompts_of_one_call_are_drawn_apart(subject):
    one, two = token_ids(subject.sample([PROMPTS[2], PROMPTS[2]], 3, WARM, seed=5))
    assert one != two


def test_greedy_is_generates_greedy(subject, reference):
    groups = subject.sample(PROMPTS[1:], 2, SamplingParameters(0.0, 10), seed=0)
    for prompt, group in zip(PROMPTS[1:], groups, strict=True):
        ids = torch.tensor([prompt_token_ids(subject.tokenizer, prompt)])
        with torch.no_grad():
            whole = reference.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10)
        expected = whole[0, ids.shape[1] :].tolist()
        for completion in group:
            assert list(completion.token_ids) == expected[: len(completion.token_ids)]
            assert set(completion.sampling_logprobs) == {0.0}
            if completion.stop_reason is not StopReason.STOP_STRING:
                assert len(completion.token_ids) == len(expected)


def test_stop_strings_cut_the_text_and_keep_the_tokens(subject):
    (group,) = subject.sample(PROMPTS[:1], 8, SamplingParameters(0.7, 30), seed=4)
    stopped = [completion for completion in group if completion.stop_reason is StopReason.STOP_STRING]
    assert stopped
    for completion in stopped:
        written = subject.tokenizer.decode(completion.token_ids)
        assert "\n" not in completion.text and "```" not in completion.text
        assert written.startswith(completion.text) and len(written) > len(completion.text)
        before = subject.tokenizer.decode(completion.token_ids[:-1])
        assert "\n" not in before and "```" not in before


def test_end_of_sequence_is_counted_and_not_shown(subject):
    question = Prompt("eos", (Message(Role.USER, "What is the capital of France? Answer in one word."),))
    (group,) = subject.sample([question], 4, SamplingParameters(0.2, 40), seed=0)
    ended = [completion for completion in group if completion.stop_reason is StopReason.EOS]
    assert ended and subject.eos_ids == {2}
    for completion in ended:
        assert completion.token_ids[-1] == 2 and 2 not in completion.token_ids[:-1]
        assert len(completion.logprobs) == len(completion.sampling_logprobs) == len(completion.token_ids) < 40
        assert completion.text == subject.tokenizer.decode(completion.token_ids[:-1])


@pytest.mark.parametrize("most", [1, 5])
def test_length_is_a_limit(subject, most):
    (group,) = subject.sample([UNICODE], 3, SamplingParameters(0.7, most), seed=0)
    for completion in group:
        assert completion.stop_reason is StopReason.LENGTH
        assert len(completion.token_ids) == len(completion.logprobs) == len(completion.sampling_logprobs) == most


def test_unicode_goes_in_and_comes_out(subject):
    """Whatever bytes the tokens are, the text is what follows the prompt's."""
    (group,) = subject.sample([UNICODE], 8, SamplingParameters(1.0, 24), seed=3)
    ids = prompt_token_ids(subject.tokenizer, UNICODE)
    before = subject.tokenizer.decode(ids, skip_special_tokens=True)
    assert before.endswith("😀🎉 元気")
    for completion in group:
        whole = subject.tokenizer.decode([*ids, *completion.token_ids], skip_special_tokens=True)
        assert whole == before + completion.text
    assert any(not completion.text.isascii() for completion in group)


def test_progress_counts_every_token(subject):
    reports: list[tuple[int, int]] = []
    groups = subject.sample(PROMPTS, 6, WARM, seed=9, progress=lambda *report: reports.append(report))
    lengths = [len(completion.token_ids) for group in groups for completion in group]
    assert reports[-1] == (sum(lengths), 0)
    assert reports == sorted(reports, key=lambda report: (report[0], -report[1])) and len(reports) > 5


def test_the_adapter_is_on_and_off(subject, policy, embedded_folder):
    """The shipped adapter: another model's log-probabilities while it is on, the base model's once it is off."""
    plain = AutoModelForCausalLM.from_pretrained(embedded_folder, dtype=torch.float32)
    truth = peft.PeftModel.from_pretrained(plain, str(EMBEDDED_ADAPTER)).eval()
    if subject is policy:
        adapted = load_policy(adapter="embedded")
    else:
        subject.use_adapter("embedded")
        adapted = subject
    identity = adapted.identity
    groups = adapted.sample(PROMPTS, 3, WARM, seed=0)
    assert_true_logprobs(adapted, truth, PROMPTS, groups, token_ids(groups), WARM.temperature)
    if subject is not policy:
        subject.use_adapter(None)
    without = subject.score(PROMPTS, token_ids(groups), WARM.temperature)
    assert abs(without[0][0].logprobs[0] - groups[0][0].logprobs[0]) > 1e-2
    with truth.disable_adapter():
        assert_true_logprobs(subject, truth, PROMPTS, without, token_ids(groups), WARM.temperature)
    assert identity.adapter_sha256 and subject.identity.adapter_sha256 is None
    assert identity.weights_sha256 == subject.identity.weights_sha256 == policy.identity.weights_sha256


def test_parameters_that_make_no_sense(subject):
    for k, sampling in ((0, WARM), (1, SamplingParameters(-1.0)), (1, SamplingParameters(1.0, 0))):
        with pytest.raises(UserError, match="cannot be sampled"):
            subject.sample(PROMPTS, k, sampling, seed=0)
    with pytest.raises(UserError, match="give one per prompt"):
        subject.score(PROMPTS, [])
    with pytest.raises(UserError, match="at least 0"):
        subject.score([], [], temperature=-1.0)


def test_a_prompt_beyond_the_context(subject):
    prompt = Prompt("long", (Message(Role.USER, "word " * 8000),))
    (length,) = subject.prompt_tokens([prompt])
    with pytest.raises(UserError, match=f"{length} tokens, and with 500 new ones exceeds the 8192"):
        subject.sample([prompt], 1, SamplingParameters(1.0, 500), seed=0)
