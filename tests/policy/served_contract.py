"""What a served policy keeps, whatever server is behind it: run by the suite against a small server of ours, and by
``make test-vllm`` against vLLM's own.

    check_served("http://127.0.0.1:8000/v1", policy, "embedded")
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vegtts_core.policy import TransformersPolicy
from vegtts_core.policy.render import CompletionText, prompt_token_ids
from vegtts_core.policy.served.parameters import ServedParameters
from vegtts_core.policy.served.policy import ServedPolicy
from vegtts_core.policy.served.tempering import TOLERANCE
from vegtts_core.policy.types import Completion, SamplingParameters, StopReason
from vegtts_core.scaffolds.types import Message, Prompt, Role

CONTRACT_PROMPTS = [
    Prompt(
        "continued",
        (
            Message(Role.USER, "Complete the body of forward so that it computes relu(x) + 1, in one line."),
            Message(Role.ASSISTANT, "def forward(self, x):\n    "),
        ),
        stop=("\n", "```"),
    ),
    Prompt("asked", (Message(Role.USER, "Say yes or no."),)),
    Prompt(
        "unicode",
        (Message(Role.USER, "Repeat: héllo 你好 🙂 ∑"), Message(Role.ASSISTANT, "héllo 你好 🙂 ")),
    ),
]


def check_served(
    base_url: str,
    policy: TransformersPolicy,
    atol: float = 1e-3,
    model: str = "",
    prompts: Sequence[Prompt] = CONTRACT_PROMPTS,
    steps: int = 12,
    repeats: bool = True,
) -> None:
    """Assert that the server at ``base_url``, which serves the weights of ``policy``, keeps the contract of policies.

    ``atol``: nats by which untempered log-probabilities may differ from ``policy``'s own. ``repeats``: a seed means the
    same tokens again whatever else is being computed (vLLM's batches round differently: a rare token may differ).
    """
    for api in ("completions", "chat"):
        given = ServedParameters(base_url=base_url, api=api, concurrency=4)
        served = ServedPolicy(model, given, policy.tokenizer if api == "completions" else None)
        warm = SamplingParameters(temperature=0.7, max_new_tokens=steps)
        groups = served.sample(prompts, 4, warm, seed=5)
        assert [len(group) for group in groups] == [4] * len(prompts)
        assert any(len({one.token_ids for one in group}) > 1 for group in groups)
        check_against(policy, prompts, groups, 0.7, atol)

        assert served.prompt_tokens(prompts) == policy.prompt_tokens(prompts)
        spent = served.spent()
        assert spent.requests == 4 * len(prompts) and not spent.unreported_requests
        assert spent.prompt_tokens == 4 * sum(policy.prompt_tokens(prompts))
        assert spent.completion_tokens == sum(len(one.logprobs) for group in groups for one in group)

        cool = served.sample(prompts[:1], 2, SamplingParameters(temperature=0.25, max_new_tokens=steps), seed=5)
        assert known_share(cool) > 0.5  # so that what follows does not compare nothing
        check_against(policy, prompts[:1], cool, 0.25, atol)
        if repeats:
            again = served.sample(prompts, 2, warm, seed=5)
            assert repr(again) == repr([group[:2] for group in groups])  # as text: NaN is not equal to NaN
        if api == "completions":
            check_scores(served, policy, prompts, groups, atol)


def known_share(groups: Sequence[Sequence[Completion]]) -> float:
    """Share of tokens whose tempered log-probability is known."""
    values = [value for group in groups for one in group for value in one.sampling_logprobs]
    return 1 - sum(math.isnan(value) for value in values) / len(values)


def check_against(
    policy: TransformersPolicy,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion]],
    temperature: float,
    atol: float,
) -> None:
    """Completions from elsewhere: log-probabilities are ``policy``'s, text and stop reason are those of the tokens."""
    ids = [[one.token_ids for one in group] for group in groups]
    for prompt, group, scores in zip(prompts, groups, policy.score(prompts, ids, temperature), strict=True):
        for one, score in zip(group, scores, strict=True):
            np.testing.assert_allclose(one.logprobs, score.logprobs, atol=atol)
            assert len(one.sampling_logprobs) == len(one.logprobs)
            known = [place for place, value in enumerate(one.sampling_logprobs) if not math.isnan(value)]
            np.testing.assert_allclose(
                [one.sampling_logprobs[place] for place in known],
                [score.sampling_logprobs[place] for place in known],
                atol=TOLERANCE + atol / temperature,
            )
            text = CompletionText(policy.tokenizer, prompt_token_ids(policy.tokenizer, prompt), prompt.stop)
            ended = [token in policy.eos_ids or text.add(token) for token in one.token_ids]
            # vLLM leaves out a last character that the length limit broke in two, with what it was held back with.
            broken = text.text.endswith("\ufffd") and text.text.startswith(one.text)
            assert one.text == text.text or broken, (one.text, text.text)
            assert not any(ended[:-1])
            if one.token_ids[-1] in policy.eos_ids:
                assert one.stop_reason is StopReason.EOS
            else:
                assert one.stop_reason is (StopReason.STOP_STRING if ended[-1] else StopReason.LENGTH)


def check_scores(
    served: ServedPolicy,
    policy: TransformersPolicy,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion]],
    atol: float,
) -> None:
    """Given completions have the scores that ``policy`` gives them; an empty one has an empty score."""
    ids = [[*(one.token_ids for one in group), ()] for group in groups]
    for mine, own in zip(served.score(prompts, ids), policy.score(prompts, ids), strict=True):
        assert mine[-1].logprobs == ()
        for one, other in zip(mine, own, strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=atol)
            assert one.sampling_logprobs == one.logprobs
