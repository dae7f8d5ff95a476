"""Prompts become token ids, and token ids become text again, one token at a time.

It knows tokenizers and stop strings; it knows no model and no probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from vegtts_core.errors import UserError
from vegtts_core.scaffolds.types import Prompt, Role

#: Tokens of the prompt that precede a completion when it is decoded: some tokenizers drop a leading space otherwise.
CONTEXT = 6
#: What half of a character decodes to.
UNFINISHED = "\ufffd"


def render(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """The text that the model sees: the chat template, or the plain concatenation of contents without one.

    When the last message is the assistant's it stays open, character for character, for the model to continue.
    Otherwise the template opens the assistant's turn. Without a chat template, messages are joined by one newline
    (after the last one only if it is not the assistant's): such a model has no roles. Raises UserError for a prompt
    without messages and for messages that the template refuses.
    """
    if not prompt.messages:
        raise UserError(f"Prompt {prompt.id!r} has no messages: give it at least one.")
    continued = prompt.messages[-1].role is Role.ASSISTANT
    if tokenizer.chat_template is None:
        return "\n".join(message.content for message in prompt.messages) + ("" if continued else "\n")
    messages: list[dict[str, Any]] = [
        {"role": message.role.value, "content": message.content} for message in prompt.messages
    ]
    if continued and not messages[-1]["content"]:
        # An empty beginning is the same as none; transformers cannot mark its end.
        messages, continued = messages[:-1], False
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not continued, continue_final_message=continued
        )
    except Exception as error:  # jinja errors, raise_exception() of the template, ValueError of transformers
        raise UserError(
            f"The model's chat template refuses prompt {prompt.id!r} ({str(error).splitlines()[0]}): "
            "use roles in the order that the model was trained on."
        ) from error
    text = str(text)
    if continued and not text.endswith(messages[-1]["content"]):
        # Some templates strip contents; the scaffold's prefix (often an indent) must reach the model as written.
        stripped = messages[-1]["content"].rstrip()
        text = text.rstrip()
        if not text.endswith(stripped):
            raise UserError(
                f"The model's chat template changes the assistant's beginning in prompt {prompt.id!r}: "
                "use a prompt that ends with the user's message."
            )
        text += messages[-1]["content"][len(stripped) :]
    return text


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Token ids of the rendered prompt. A template writes its own special tokens; without one the tokenizer does."""
    text = render(tokenizer, prompt)
    ids = tokenizer(text, add_special_tokens=tokenizer.chat_template is None, verbose=False)["input_ids"]
    if not ids:
        raise UserError(f"Prompt {prompt.id!r} is empty: give its messages some content.")
    return [int(index) for index in ids]  # type: ignore[union-attr]


class Endings:
    """Which tokens may complete a stop string: those whose own text has the last character of one, or half a character.

    A token's text is what it adds to itself, as some tokenizers drop a space in front of the first. Decoded once per
    token; all other tokens need not be decoded when they come.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop = [string for string in stop if string]
        self._last = {string[-1] for string in self.stop} | {UNFINISHED}
        self._known: dict[int, bool] = {}

    def may_end(self, token: int) -> bool:
        """Whether a stop string may be complete with ``token``."""
        known = self._known.get(token)
        if known is None:
            known = bool(self.stop) and not self._last.isdisjoint(self.decode([token, token]))
            self._known[token] = known
        return known

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``, special tokens left out."""
        return str(
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)  # type: ignore
        )


class CompletionText:
    """The text of one completion as its tokens arrive, and whether a stop string has appeared in it.

    Tokens are decoded after the prompt's last few, so that the text is what follows the prompt exactly. ``stop``
    strings are looked for in the text, not among the tokens: a token may begin or end anywhere inside one. Tokens that
    cannot complete one wait until one comes that can, or until the text is asked for: decoding takes longer than
    drawing a token on a GPU. ``endings`` is shared by the completions of one prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt_ids: Sequence[int],
        stop: Sequence[str],
        endings: Endings | None = None,
    ) -> None:
        self._endings = endings or Endings(tokenizer, stop)
        self._window = list(prompt_ids[-CONTEXT:])
        self._shown: str | None = None
        self._waiting: list[int] = []
        self._text = ""
        self._tail = ""

    def add(self, token: int) -> bool:
        """Take one token; True if a stop string is now in the text (which is then cut before it)."""
        self._waiting.append(token)
        if not self._endings.may_end(token):
            return False
        checked = len(self._text)
        text = self.text
        places = [
            place
            for string in self._endings.stop
            if (place := text.find(string, max(0, checked - len(string) + 1))) >= 0
        ]
        if not places:
            return False
        self._text, self._tail = text[: min(places)], ""
        return True

    @property
    def text(self) -> str:
        """Everything written so far (a character that is not whole yet shows as U+FFFD)."""
        if self._waiting:
            self._read()
        return self._text + self._tail

    def _read(self) -> None:
        """Decode the tokens that wait."""
        decode = self._endings.decode
        if self._shown is None:
            self._shown = decode(self._window)
        self._window += self._waiting
        self._waiting = []
        shown = decode(self._window)
        if shown.endswith(UNFINISHED):
            # Perhaps half of a character: it is read again with the next token.
            self._tail = shown[len(self._shown) :]
            return
        self._text += shown[len(self._shown) :]
        self._tail = ""
        self._shown = shown
        if len(self._window) > 3 * CONTEXT:
            self._window = self._window[-CONTEXT:]
            self._shown = decode(self._window)
