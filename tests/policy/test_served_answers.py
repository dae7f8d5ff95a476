"""From a server's JSON to completions, and from raw log-probabilities to tempered ones."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.policy.served.answers import BadAnswer, Choice, read_tokens
from vegtts_core.policy.served.parameters import ServedParameters
from vegtts_core.policy.served.tempering import TOLERANCE, tempered
from vegtts_core.policy.types import Completion, SamplingParameters, StopReason
from vegtts_core.scaffolds.types import Message, Prompt, Role

PROMPT = Prompt("p", (Message(Role.USER, "?"),), stop=("```",))
PARAMETERS = ServedParameters()


def finished(piece: dict[str, Any], opening: str = "", temperature: float = 1.0) -> Completion:
    choice = Choice()
    choice.add(piece, 5)
    return choice.completion(PROMPT, PARAMETERS, SamplingParameters(temperature, 9), opening)


def chat(text: str, tokens: list[tuple[str, list[int]]], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    content = [{"token": name, "bytes": data, "logprob": -0.5, "top_logprobs": []} for name, data in tokens]
    return {"message": {"content": text}, "logprobs": {"content": content}, "finish_reason": finish, **more}


def test_a_character_split_across_tokens_is_whole_in_the_text() -> None:
    smile = list("🙂".encode())
    one = finished(chat("🙂", [("bytes:\\xf0\\x9f", smile[:2]), ("bytes:\\x99\\x82", smile[2:])]))
    assert (one.text, len(one.logprobs), one.token_ids) == ("🙂", 2, ())


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": []}, {"content": None}, {"tokens": [], "token_logprobs": []}]
)
def test_an_empty_completion_is_one(logprobs: Any) -> None:
    for text in ("", None):
        one = finished({"message": {"content": text}, "logprobs": logprobs, "finish_reason": "stop"})
        assert one == Completion((), "", StopReason.EOS, (), ())


@pytest.mark.parametrize("logprobs", [None, {}, {"content": []}, {"tokens": None, "token_logprobs": None}])
def test_text_without_log_probabilities_is_refused(logprobs: Any) -> None:
    with pytest.raises(UserError, match="no token log-probabilities"):
        finished({"text": "yes", "logprobs": logprobs, "finish_reason": "stop"})


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (chat("x", [("x", [120])], "length"), StopReason.LENGTH),
        (chat("x", [("x", [120])]), StopReason.EOS),
        (chat("x", [("x", [120])], stop_reason="```"), StopReason.STOP_STRING),
        (chat("x", [("x", [120])], stop_reason=None), StopReason.EOS),
        (chat("x", [("x", [120])], stop_reason=2), StopReason.EOS),
        # Nobody says why it stopped, but the stop string is among the tokens, or in the text.
        (chat("x", [("x`", [120, 96]), ("``", [96, 96])]), StopReason.STOP_STRING),
        (chat("x```", [("x```", [120, 96, 96, 96])], "length"), StopReason.STOP_STRING),
    ],
)
def test_stop_reasons(piece: dict[str, Any], reason: StopReason) -> None:
    one = finished(piece)
    assert (one.stop_reason, one.text) == (reason, "x")


def test_what_was_asked_to_open_the_answer_is_taken_off_it() -> None:
    piece = chat("```python\ndef f(x):\n    return x\n```\nDone.", [("…", [46])])
    assert finished(piece, "```python\ndef f(x):").text == "\n    return x\n"
    assert finished(chat("return x", [("…", [46])]), "```python\ndef f(x):").text == "return x"


@pytest.mark.parametrize("finish", ["abort", "tool_calls"])
def test_an_answer_broken_off_is_none(finish: str) -> None:
    with pytest.raises(BadAnswer, match=finish):
        finished(chat("x", [("x", [120])], finish))
    with pytest.raises(UserError, match="withheld"):
        finished(chat("x", [("x", [120])], "content_filter"))


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(
                st.sampled_from(
                    ["content", "tokens", "token_logprobs", "top_logprobs", "token", "logprob", "delta", "text"]
                ),
                v,
            )
        ),
    )
)
def test_nonsense_is_a_bad_answer_and_nothing_else(value: Any) -> None:
    for piece in ({"logprobs": value}, {"delta": value}, {"text": value}, {"message": {"content": value}}):
        with contextlib.suppress(BadAnswer):
            Choice().add(piece, 5)


@given(
    st.lists(st.floats(-12, 12), min_size=2, max_size=40),
    st.sampled_from([0.05, 0.25, 0.5, 0.7, 0.95]),
    st.integers(0, 20),
    st.data(),
)
def test_tempered_is_right_or_unknown(logits: list[float], temperature: float, top: int, data: st.DataObject) -> None:
    raw = np.array(logits) - np.logaddexp.reduce(logits)
    true = raw / temperature - np.logaddexp.reduce(raw / temperature)
    token = data.draw(st.integers(0, len(logits) - 1))
    listed = [i for i in np.argsort(-raw, kind="stable")[:top] if i != token]
    for whole, names in ((True, listed), (False, listed[1:])):  # the second list lacks its best entry
        value = tempered(float(raw[token]), [float(raw[i]) for i in names], whole, temperature)
        assert math.isnan(value) or -1e-6 <= value - true[token] <= TOLERANCE + 1e-6
    everything = [float(raw[i]) for i in range(len(logits)) if i != token]
    exact = tempered(float(raw[token]), everything, True, temperature)
    # Probability that rounding alone may hide counts where the likeliest token is hardly more likely.
    assert exact == pytest.approx(true[token], abs=TOLERANCE) or math.isnan(exact)


def test_a_usual_list_pins_a_tempered_log_probability_down() -> None:
    raw = np.log([0.7, 0.2, 0.05, 0.02, 0.01] + [0.02 / 1000] * 1000)
    true = raw[1] / 0.25 - np.logaddexp.reduce(raw / 0.25)
    assert tempered(raw[1], [raw[0], *raw[2:5]], True, 0.25) == pytest.approx(true, abs=1e-4)
    assert math.isnan(tempered(raw[1], [], False, 0.25))
    assert math.isnan(tempered(raw[1], list(raw[2:5]), True, 1.5))


def test_a_list_by_text_is_whole_only_if_nothing_can_be_missing() -> None:
    def token(top: dict[str, float], logprob: float = -1.0) -> bool:
        return read_tokens({"tokens": ["a"], "token_logprobs": [logprob], "top_logprobs": [top]}, 3)[0].whole

    assert token({"a": -1.0, "b": -2.0, "c": -3.0})
    assert not token({"a": -1.0, "b": -2.0})  # two tokens of one text were merged
    assert token({"b": -0.5, "c": -0.9, "d": -1.5, "a": -4.0}, -4.0)
    assert not token({"b": -0.5, "c": -0.9, "a": -4.0}, -4.0)
    assert not token({})
