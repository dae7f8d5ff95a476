"""A served policy against a server that misbehaves: the result of a quiet day, and nothing is paid for twice."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import string
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from byte_policy import ByteTokenizer, byte_model
from served_contract import check_served
from served_server import MODEL, Brain, Served, serving

from vegtts_core.errors import UserError
from vegtts_core.policy import TransformersPolicy, load_policy
from vegtts_core.policy.served.parameters import ServedParameters
from vegtts_core.policy.served.policy import ServedPolicy
from vegtts_core.policy.types import Completion, PolicyIdentity, SamplingParameters, StopReason, Usage
from vegtts_core.scaffolds.types import Message, Prompt, Role

WARM = SamplingParameters(temperature=0.5, max_new_tokens=6)
KEY = "sk-test-0123456789abcdef"
#: What a policy of random bytes writes soon.
SOON = tuple(string.ascii_letters + string.digits + string.punctuation)
PROMPTS = [
    Prompt("one", (Message(Role.USER, "question"), Message(Role.ASSISTANT, "answer: ")), stop=SOON),
    Prompt("two", (Message(Role.USER, "another question"),)),
]


class Bytes(ByteTokenizer):
    eos_token_id = 0

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return super().decode([index for index in ids if index])


@pytest.fixture(scope="module")
def tiny() -> TransformersPolicy:
    identity = PolicyIdentity(MODEL, "", None, "float32", "cpu", {})
    model = byte_model(torch.float32)
    with torch.no_grad():  # surer of itself than random weights are, as a trained model is
        model.lm_head.weight.mul_(4)
    return TransformersPolicy(model, Bytes(), identity)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def brain(tiny: TransformersPolicy) -> Brain:
    return Brain(tiny)


@pytest.fixture
def served(brain: Brain) -> Iterator[Served]:
    with serving(brain) as server:
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def same(mine: Any, other: Any) -> bool:
    """Equal, NaN included: a log-probability may be unknown."""
    return repr(mine) == repr(other)


def client(served: Served, journal: Path | None = None, **given: Any) -> ServedPolicy:
    """Completions with the tokenizer unless chat is asked for; impatient enough for a test."""
    defaults: dict[str, Any] = {"api": "completions", "backoff_seconds": 0.02, "attempts": 4, "silence_seconds": 60.0}
    parameters = ServedParameters(base_url=served.base_url, **(defaults | given))
    return ServedPolicy(MODEL, parameters, Bytes() if parameters.api == "completions" else None, journal)  # type: ignore


@pytest.fixture(scope="module")
def quiet(brain: Brain) -> list[list[Completion]]:
    """What a server that behaves gives: 4 samples a prompt."""
    with serving(brain) as server:
        return client(server).sample(PROMPTS, 4, WARM, seed=1)


def test_the_contract(served: Served, tiny: TransformersPolicy) -> None:
    check_served(served.base_url, tiny, atol=1e-4, model=MODEL)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_every_dialect_streamed_or_whole_gives_the_same(brain: Brain, api: str) -> None:
    found = []
    for dialect in ("vllm", "llama.cpp", "openai"):
        for stream in (True, False):
            with serving(brain, dialect) as server:
                policy = client(server, api=api, stream=stream, opening="continue")
                found.append(policy.sample(PROMPTS, 2, WARM, seed=1))
                assert policy.identity.versions["dialect"] == dialect
                assert ("token_ids" not in str(server.bodies)) == (dialect != "vllm")
            if dialect == "openai":
                found[-1] = [
                    [dataclasses.replace(one, token_ids=known.token_ids) for one, known in zip(*pair, strict=True)]
                    for pair in zip(found[-1], found[0], strict=True)
                    if all(one.token_ids == () for one in pair[0])
                ]
    same = [[[(o.token_ids, o.text, o.stop_reason, o.logprobs) for o in group] for group in each] for each in found]
    assert all(each == same[0] for each in same[1:])
    reasons = {one.stop_reason for group in found[0] for one in group}
    assert {StopReason.STOP_STRING, StopReason.LENGTH} <= reasons


FAULTS = ["429", "500", "503", "closed", "not JSON", "no choices", "cut"]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [(fault, stream) for fault in FAULTS for stream in (True, False)]
    + [("silent", True), ("error in mid-stream", True)],
)
def test_a_fault_costs_one_request(served: Served, quiet: list, fault: str, stream: bool) -> None:
    served.faults.append(fault)
    begun = time.monotonic()
    patience = 2.0 if fault == "silent" else 60.0
    policy = client(served, stream=stream, concurrency=1, silence_seconds=patience)
    assert same(policy.sample(PROMPTS, 4, WARM, seed=1), quiet)
    assert len(served.bodies) == 8 + 1
    if fault == "429":
        assert time.monotonic() - begun >= 0.4


def test_many_faults_at_once_and_the_order_of_arrival_do_not_matter(served: Served, quiet: list) -> None:
    served.faults.extend(["", "500", "cut", "closed", "429", "not JSON", "", "cut", "503"])
    seen: list[tuple[int, int]] = []
    policy = client(served, concurrency=5)
    assert same(policy.sample(PROMPTS, 4, WARM, seed=1, progress=lambda *now: seen.append(now)), quiet)
    assert seen[0] == (0, 8) and seen[-1][1] == 0
    assert [running for _, running in seen] == sorted((running for _, running in seen), reverse=True)


@pytest.mark.parametrize(("fault", "asked"), [("one choice", [4, 3]), ("cut", [4, None]), ("a choice too many", [4])])
def test_only_missing_choices_are_asked_for_again(served: Served, quiet: list, fault: str, asked: list) -> None:
    served.faults.append(fault)
    policy = client(served, choices_per_request=4)
    assert same(policy.sample(PROMPTS[:1], 4, WARM, seed=1), quiet[:1])
    numbers = [body.get("n", 1) for body in served.bodies]
    if fault == "cut":
        # Streams end at different lengths: those that were finished before the cut are not asked for again.
        assert numbers[0] == 4 and 1 <= sum(numbers[1:]) < 4
        assert policy.spent().unreported_requests == 1
    else:
        assert numbers == asked


def test_what_came_before_an_end_is_not_paid_for_again(served: Served, quiet: list, tmp_path: Path) -> None:
    journal = tmp_path / "requests.jsonl"
    served.faults.extend(["", "", "", "401"])
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        client(served, journal, concurrency=1).sample(PROMPTS, 4, WARM, seed=1)
    assert len(served.bodies) == 4
    with journal.open("a") as file:
        file.write('{"kind": "choice", "key"')  # a writer killed in mid-line
    again = client(served, journal, concurrency=1)
    assert same(again.sample(PROMPTS, 4, WARM, seed=1), quiet)
    assert len(served.bodies) == 4 + 5
    spent = again.spent()
    assert spent.requests == 8 and spent.unreported_requests == 0
    assert spent.prompt_tokens == served.counted["prompt"] == 4 * sum(again.prompt_tokens(PROMPTS))
    assert spent.completion_tokens == served.counted["completion"]
    assert again.spent() == Usage()
    # Done: a third process asks for nothing but more samples, and another seed shares nothing.
    assert same(client(served, journal).sample(PROMPTS, 4, WARM, seed=1), quiet)
    assert len(served.bodies) == 9
    more = client(served, journal).sample(PROMPTS[:1], 5, WARM, seed=1)
    assert same(more[0][:4], quiet[0]) and len(served.bodies) == 10
    assert client(served, journal).sample(PROMPTS[:1], 4, WARM, seed=2) != quiet[:1]


def test_equal_prompts_of_a_call_have_streams_of_their_own(served: Served) -> None:
    first, second = client(served).sample([PROMPTS[1], PROMPTS[1]], 4, WARM, seed=1)
    assert first != second
    assert len({body["seed"] for body in served.bodies}) == 8


def test_a_server_without_log_probabilities_costs_one_request(served: Served) -> None:
    served.faults.extend(["no logprobs"] * 8)
    with pytest.raises(UserError, match=r"no token log-probabilities.*use a server"):
        client(served).sample(PROMPTS[1:], 8, WARM, seed=1)
    assert len(served.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("401", "refuses the key in OPENAI_API_KEY"),
        ("400 with the key", "refuses the request"),
        ("429 for an hour", "asks to wait for 5400 s"),
        ("redirect", "sends elsewhere"),
        ("500", "in 4 attempts"),
    ],
)
def test_a_refusal_is_one_sentence_and_never_shows_the_key(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, sentence: str
) -> None:
    caplog.set_level(logging.DEBUG)
    served.faults.extend([fault] * 4)
    policy = client(served, tmp_path / "requests.jsonl")
    with pytest.raises(UserError, match=sentence) as raised:
        policy.sample(PROMPTS, 4, WARM, seed=1)
    assert served.keys[0] == f"Bearer {KEY}"
    shown = [
        str(raised.value),
        repr(raised.value),
        caplog.text,
        repr(policy),
        repr(vars(policy)),
        str(policy.parameters),
    ]
    shown += [path.read_text() for path in tmp_path.iterdir()] + [policy.parameters.model_dump_json()]
    assert "\n" not in shown[0] and len(caplog.records)
    assert all(KEY not in text for text in shown)
    assert policy.spent() == Usage()


def test_no_key_is_sent_where_there_is_none(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OTHER_KEY", "other")
    client(served).sample(PROMPTS[:1], 1, WARM, seed=1)
    client(served, key_variable="OTHER_KEY").sample(PROMPTS[:1], 1, WARM, seed=1)
    assert served.keys == [None, "Bearer other"]
    served.faults.append("401")
    with pytest.raises(UserError, match="without a key, as there is none in OPENAI_API_KEY"):
        client(served).sample(PROMPTS[:1], 1, WARM, seed=1)


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": f"http://me:{KEY}@127.0.0.1:8000/v1"},
        {"base_url": f"https://example.org/v1?key={KEY}"},
        {"base_url": "127.0.0.1:8000"},
        {"key_variable": KEY},
        {"api": "chat", "tokenizer": "embedded"},
    ],
)
def test_parameters_that_hold_a_key_or_make_no_sense_are_refused_unshown(given: dict[str, str]) -> None:
    with pytest.raises(UserError) as raised:
        ServedParameters.checked(given)
    assert KEY not in str(raised.value)


def test_nothing_that_names_a_host_enters_a_runs_identity() -> None:
    here, there = ServedParameters(), ServedParameters(base_url="http://elsewhere:9/v1", concurrency=2)
    assert here.model_dump() == there.model_dump()
    assert "elsewhere" not in json.dumps(there.model_dump())


def test_requests_keep_their_distance(served: Served) -> None:
    begun = time.monotonic()
    client(served, requests_per_minute=600).sample(PROMPTS[:1], 4, WARM, seed=1)
    assert time.monotonic() - begun >= 0.3


def test_prompts_are_counted_by_the_server_where_there_is_no_tokenizer(
    served: Served, tiny: TransformersPolicy
) -> None:
    policy = client(served, api="chat")
    assert policy.prompt_tokens(PROMPTS) == tiny.prompt_tokens(PROMPTS)
    assert [body["max_tokens"] for body in served.bodies] == [1, 1]
    policy.sample(PROMPTS, 1, WARM, seed=1)
    assert policy.prompt_tokens(PROMPTS) == tiny.prompt_tokens(PROMPTS)
    assert len(served.bodies) == 4
    served.faults.append("no usage")
    with pytest.raises(UserError, match="usage is missing"):
        client(served, api="chat").prompt_tokens(PROMPTS[:1])


def test_scoring_needs_an_echo(served: Served) -> None:
    served.faults.append("no logprobs")
    with pytest.raises(UserError, match="cannot score given completions"):
        client(served).score(PROMPTS[:1], [[[65, 66]]])
    with pytest.raises(UserError, match=r"set served\.api and served\.tokenizer"):
        client(served, api="chat").score(PROMPTS[:1], [[[65, 66]]])


def test_an_opening_is_continued_or_asked_for(brain: Brain) -> None:
    with serving(brain, "openai") as server:
        client(server, api="chat").sample(PROMPTS[:1], 1, WARM, seed=1)
    last = server.bodies[0]["messages"][-1]
    assert last["role"] == "user" and last["content"].startswith("question") and last["content"].endswith("answer: ")
    assert "stop" not in server.bodies[0]
    with serving(brain, "vllm") as server:
        client(server, api="chat").sample(PROMPTS, 1, WARM, seed=1)
    assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "answer: "}
    assert [body.get("continue_final_message") for body in server.bodies] == [True, None]


def test_the_only_model_needs_no_name_and_a_wrong_one_is_told(served: Served) -> None:
    parameters = ServedParameters(base_url=served.base_url)
    identity = ServedPolicy("", parameters).identity
    assert identity.name == f"served:{MODEL}" and identity.versions["vllm"] == "0.0-test"
    assert "127.0.0.1" not in str(identity)
    with pytest.raises(UserError, match=f"has no model wrong, only {MODEL}"):
        _ = ServedPolicy("wrong", parameters).identity


def test_nobody_there(served: Served) -> None:
    parameters = ServedParameters(base_url="http://127.0.0.1:9/v1", attempts=2, backoff_seconds=0.01)
    with pytest.raises(UserError, match="nothing answers there"):
        ServedPolicy(MODEL, parameters).sample(PROMPTS, 1, WARM, seed=1)


def test_temperature_0_and_1_are_known_exactly(served: Served) -> None:
    greedy = client(served).sample(PROMPTS[1:], 1, SamplingParameters(0.0, 4), seed=1)[0][0]
    assert greedy.sampling_logprobs == (0.0,) * 4 and all(value < 0 for value in greedy.logprobs)
    plain = client(served).sample(PROMPTS[1:], 1, SamplingParameters(1.0, 4), seed=1)[0][0]
    assert plain.sampling_logprobs == plain.logprobs
    # One alternative says little, and nothing is pretended.
    warm = client(served, top_logprobs=1).sample(PROMPTS[1:], 1, SamplingParameters(0.9, 4), seed=1)[0][0]
    assert any(math.isnan(value) for value in warm.sampling_logprobs)
    assert not any(math.isnan(value) for value in warm.logprobs)


def test_training_and_adapters_need_weights_here(served: Served) -> None:
    from vegtts_core.policy.load import LoraParameters, load_trainable

    with pytest.raises(UserError, match="name a folder, a GGUF file or a hub id instead of a server"):
        load_trainable(f"served:{MODEL}", None, LoraParameters(), "cpu", 0)
    with pytest.raises(UserError, match="load it there"):
        load_policy(f"served:{MODEL}", adapter="embedded")
    parameters = ServedParameters(base_url=served.base_url, api="completions", tokenizer="embedded")
    loaded = load_policy("served", served=parameters)
    assert isinstance(loaded, ServedPolicy) and loaded.prompt_tokens(PROMPTS) != [0, 0]
