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


class CompletionText:
    """The text of one completion as its tokens arrive, and whether a stop string has appeared in it.

    Tokens are decoded after the prompt's last few, so that the text is what follows the prompt exactly. ``stop``
    strings are looked for in the text, not among the tokens: a token may begin or end anywhere inside one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = [string for string in stop if string]
        self._window = list(prompt_ids[-CONTEXT:])
        self._shown = self._decode(self._window)
        self._text = ""
        self._tail = ""

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)  # type: ignore
        )

    def add(self, token: int) -> bool:
        """Take one token; True if a stop string is now in the text (which is then cut before it)."""
        checked = len(self._text)
        self._window.append(token)
        shown = self._decode(self._window)
        if shown.endswith("\ufffd"):
            # Perhaps half of a character: it is read again with the next token.
            self._tail = shown[len(self._shown) :]
        else:
            self._text += shown[len(self._shown) :]
            self._tail = ""
            self._shown = shown
            if len(self._window) > 3 * CONTEXT:
                self._window = self._window[-CONTEXT:]
                self._shown = self._decode(self._window)
        text = self.text
        places = [
            place for string in self._stop if (place := text.find(string, max(0, checked - len(string) + 1))) >= 0
        ]
        if not places:
            return False
        self._text, self._tail = text[: min(places)], ""
        return True

    @property
    def text(self) -> str:
        """Everything written so far (a character that is not whole yet shows as U+FFFD)."""
        return self._text + self._tail
