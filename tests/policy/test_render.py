"""Prompts as the model was trained to see them; text that stops where its stop string begins."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.policy.render import CompletionText, Endings, prompt_token_ids, render
from vegtts_core.scaffolds.types import Message, Prompt, Role

SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
USER = Message(Role.USER, "hi")


def test_chat_opens_the_assistants_turn(tokenizer):
    expected = SYSTEM + "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert render(tokenizer, Prompt("a", (USER,))) == expected
    ids = prompt_token_ids(tokenizer, Prompt("a", (USER,)))
    assert tokenizer.decode(ids) == expected
    assert ids.count(1) == 3 and ids.count(2) == 2  # no second bos


@pytest.mark.parametrize("beginning", ["def f(x):\n    ", "x", "  indented", "two\n\n", "\n"])
def test_assistants_beginning_stays_as_written(tokenizer, beginning):
    prompt = Prompt("a", (USER, Message(Role.ASSISTANT, beginning)))
    expected = SYSTEM + "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n" + beginning
    assert render(tokenizer, prompt) == expected
    assert tokenizer.decode(prompt_token_ids(tokenizer, prompt)) == expected


def test_empty_beginning_is_none(tokenizer):
    assert render(tokenizer, Prompt("a", (USER, Message(Role.ASSISTANT, "")))) == render(
        tokenizer, Prompt("a", (USER,))
    )


def test_template_that_strips_keeps_the_beginning(tokenizer):
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}[end]{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    prompt = Prompt("a", (USER, Message(Role.ASSISTANT, "def f(x):\n    ")))
    assert render(strict, prompt) == "[user]hi[end][assistant]def f(x):\n    "


def test_model_without_template_gets_plain_text(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    assert render(bare, Prompt("a", (USER,))) == "hi\n"
    assert render(bare, Prompt("a", (USER, Message(Role.ASSISTANT, "def ")))) == "hi\ndef "


def test_what_a_template_refuses_is_the_users_error(tokenizer):
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(UserError, match="no system role"):
        render(strict, Prompt("a", (USER,)))
    with pytest.raises(UserError, match="no messages"):
        render(tokenizer, Prompt("a", ()))


def test_digits_are_split_as_in_training(tokenizer):
    assert tokenizer.tokenize("x  12") == ["x", "ĠĠ", "1", "2"]


TEXT = st.text(st.sampled_from("ab` \n`.é漢🙂"), max_size=30)


@settings(deadline=None, max_examples=150)
@given(TEXT, st.lists(st.sampled_from(["```", "`a", "\n\n", "é", "🙂.", "b b"]), max_size=3))
def test_stop_strings_wherever_tokens_end(tokenizer, text, stop):
    written = CompletionText(tokenizer, tokenizer("prompt: ")["input_ids"], stop)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for number, token in enumerate(ids):
        stopped = written.add(token)
        so_far = tokenizer.decode(ids[: number + 1], clean_up_tokenization_spaces=False)
        places = [so_far.find(string) for string in stop if string in so_far]
        assert stopped == bool(places)
        assert written.text == (so_far[: min(places)] if places else so_far)
        if stopped:
            return
    assert written.text == text


PIECES = st.lists(
    st.sampled_from(["a", "`", "``", "```", " b", "\n", "é", "漢", "🙂", "<|im_end|>", " `", ".\n"]), max_size=25
)
STOPS = st.lists(st.sampled_from(["```", "`a", "\n", "é", "🙂", " b`", "\n\n"]), max_size=3)


class EveryToken(Endings):
    """Lets no token wait."""

    def may_end(self, token):
        return True


@settings(deadline=None, max_examples=150)
@given(PIECES, STOPS, st.randoms(use_true_random=False))
def test_tokens_that_wait_change_nothing(tokenizer, pieces, stop, random):
    """Nobody asks for the text before the end; tokens are those of a text, and any at all between them."""
    ids = [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    for _ in range(3):
        ids.insert(random.randint(0, len(ids)), random.randrange(len(tokenizer)))
    prompt = tokenizer("prompt: ")["input_ids"]
    asked = CompletionText(tokenizer, prompt, stop, EveryToken(tokenizer, stop))
    waiting = CompletionText(tokenizer, prompt, stop)
    for token in ids:
        before = asked.text
        stopped = asked.add(token)
        assert waiting.add(token) == stopped
        if stopped:
            break
        assert asked.text.startswith(before.rstrip("\ufffd"))
    assert waiting.text == asked.text


def test_few_tokens_are_decoded(tokenizer, monkeypatch):
    calls = []
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda *args, **options: calls.append(args) or decode(*args, **options))
    ids = tokenizer("one two " * 50 + "```", add_special_tokens=False)["input_ids"]
    endings = Endings(tokenizer, ["```"])
    for _ in range(10):
        text = CompletionText(tokenizer, [1, 2, 3], ["```"], endings)
        assert [text.add(token) for token in ids] == [False] * (len(ids) - 1) + [True]
        assert text.text == "one two " * 50
    assert len(calls) <= len(set(ids)) + 10 * 5
