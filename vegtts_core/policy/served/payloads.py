"""Requests: a prompt and sampling parameters become the JSON that a server understands. Knows no HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.policy.served.parameters import Dialect, ServedParameters
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.runs.files import canonical_json
from vegtts_core.scaffolds.types import Message, Prompt, Role

#: Plain temperature sampling: servers cut the distribution by defaults of their own, or of the model's, unless told.
PLAIN: dict[Dialect, dict[str, Any]] = {
    "vllm": {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "llama.cpp": {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "cache_prompt": True},
    "openai": {"top_p": 1.0},
}
#: Seeds are 31 bits: some servers keep them in a signed integer.
SEEDS = 1 << 31


def opening_of(prompt: Prompt) -> str:
    """What the prompt's last message gives of the answer; empty if that message is not the assistant's."""
    last = prompt.messages[-1]
    return last.content if last.role is Role.ASSISTANT else ""


class Payloads:
    """Bodies for one model on one server."""

    def __init__(self, parameters: ServedParameters, model: str, dialect: Dialect) -> None:
        self.parameters = parameters
        self.model = model
        self.dialect: Dialect = dialect
        asks = parameters.opening == "ask" or (parameters.opening == "auto" and dialect == "openai")
        #: Whether the answer is asked to begin with the opening, instead of being continued from it.
        self.asks_opening = parameters.api == "chat" and asks

    @property
    def path(self) -> str:
        """Where completions are asked for."""
        return "/chat/completions" if self.parameters.api == "chat" else "/completions"

    def body(self, prompt: Prompt, ids: Sequence[int] | None, sampling: SamplingParameters) -> dict[str, Any]:
        """Everything of a request but its seed and number of choices. ``ids``: the rendered prompt, where known."""
        top = self.parameters.top_logprobs
        stop = [] if self.asks_opening else [string for string in prompt.stop if string]
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_new_tokens,
            **PLAIN[self.dialect],
            **({"stop": stop} if stop else {}),
            **({"return_tokens_as_token_ids": True} if self.dialect == "vllm" else {}),
        }
        if self.parameters.api == "chat":
            body |= {"logprobs": True, "top_logprobs": top, "messages": self._messages(prompt)}
            if self.dialect == "vllm" and opening_of(prompt) and not self.asks_opening:
                body |= {"add_generation_prompt": False, "continue_final_message": True}
        else:
            body |= {"logprobs": top, "prompt": list(ids) if ids is not None else _joined(prompt)}
        return body | self.parameters.extra

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        messages = [*prompt.messages]
        opening = opening_of(prompt)
        if messages[-1].role is Role.ASSISTANT and (self.asks_opening or not opening):
            messages.pop()
            if opening and (not messages or messages[-1].role is not Role.USER):
                messages.append(Message(Role.USER, ""))
            if opening:
                question = f"{messages[-1].content}\n\nBegin your answer with exactly this text, and go on from it:\n"
                messages[-1] = Message(Role.USER, (question + opening).lstrip())
        return [{"role": message.role.value, "content": message.content} for message in messages]

    def score_body(self, prompt: Sequence[int], completion: Sequence[int]) -> dict[str, Any]:
        """A request that writes nothing and gives the log-probabilities of what it was sent."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": [*prompt, *completion],
            "echo": True,
            "max_tokens": 0,
            "logprobs": self.parameters.top_logprobs,
            "temperature": 1.0,
        }
        return body | ({"return_tokens_as_token_ids": True} if self.dialect == "vllm" else {})


def _joined(prompt: Prompt) -> str:
    # As `policy.render.render` does for a model without a chat template.
    text = "\n".join(message.content for message in prompt.messages)
    return text if prompt.messages[-1].role is Role.ASSISTANT else text + "\n"


def stream_seed(body: dict[str, Any], seed: int, occurrence: int) -> int:
    """The seed of a prompt's first sample; sample s has this plus s.

    vLLM gives choice i of a request the request's seed plus i, so samples there do not depend on how many are asked for
    at a time. ``occurrence`` counts how often the same prompt came before in the same call.
    """
    asked = {name: body[name] for name in ("model", "messages", "prompt") if name in body}
    digest = hashlib.sha256(canonical_json([seed, occurrence, asked]).encode()).digest()
    return int.from_bytes(digest[:4], "little") % SEEDS


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Raises UserError for a prompt that says nothing."""
    for prompt in prompts:
        if not any(message.content for message in prompt.messages):
            raise UserError(f"Prompt {prompt.id!r} is empty: give its messages some content.")
