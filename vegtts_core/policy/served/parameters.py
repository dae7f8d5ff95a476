"""How a served model is reached and asked.

What only says how the server is reached (address, key variable, time-outs, concurrency) stays out of a run's identity
and manifest: a run goes on when its server has moved, and a manifest names no host.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from vegtts_core.errors import UserError
from vegtts_core.parameters import Parameters

Dialect = Literal["vllm", "llama.cpp", "openai"]


class ServedParameters(Parameters):
    """A server and how it is asked; defaults fit vLLM's own server on this machine."""

    base_url: str = Field(default="http://127.0.0.1:8000/v1", exclude=True)
    """Address up to and including the version, for example ``https://api.together.xyz/v1``."""
    key_variable: str = Field(default="OPENAI_API_KEY", exclude=True)
    """Name of the environment variable that holds the key; where it is not set, no key is sent."""
    api: Literal["chat", "completions"] = "chat"
    """``chat``: the server applies its chat template; ``completions``: the prompt is rendered here (``tokenizer``)."""
    tokenizer: str | None = None
    """``completions``: the model's tokenizer (``embedded``, a folder or a hub id); token ids are sent and known, and
    given completions can be scored. Without it messages are joined by newlines, for models without roles."""
    dialect: Literal["auto"] | Dialect = "auto"
    """Which fields beyond OpenAI's the server knows; ``auto`` asks its list of models whose it is."""
    opening: Literal["auto", "continue", "ask"] = "auto"
    """``chat``, where the prompt opens the answer: ``continue`` sends the opening for the model to go on from (vLLM,
    llama.cpp), ``ask`` asks for an answer that begins with it and takes it off the text (its tokens count)."""
    reported: Literal["raw", "tempered"] = "raw"
    """What the server's log-probabilities are: the model's own, or those after temperature (vLLM's ``logprobs_mode``
    ``processed_logprobs``)."""
    top_logprobs: int = Field(default=5, ge=1, le=20)
    """Alternatives per token; from them follow tempered log-probabilities wherever they pin them down."""
    choices_per_request: int = Field(default=1, ge=1)
    """Above 1, a prompt is paid once for so many completions, where the server knows ``n``."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, for example ``{reasoning_effort: low}``; they are written to the manifest."""
    provider: str = ""
    """What the manifest calls the server, for example ``together``."""
    stream: bool = Field(default=True, exclude=True)
    """Take answers token by token, so that a connection cut in mid-answer loses only what was not finished."""
    concurrency: int = Field(default=8, ge=1, exclude=True)
    """Requests at a time."""
    requests_per_minute: float | None = Field(default=None, gt=0, exclude=True)
    attempts: int = Field(default=10, ge=1, exclude=True)
    """Attempts in a row that may bring nothing."""
    backoff_seconds: float = Field(default=1.0, gt=0, exclude=True)
    """The longest first pause; it doubles with every attempt, up to a minute, and is drawn at random below that."""
    longest_wait_seconds: float = Field(default=600.0, gt=0, exclude=True)
    """A server that asks to wait longer ends the command."""
    connect_seconds: float = Field(default=10.0, gt=0, exclude=True)
    silence_seconds: float = Field(default=300.0, gt=0, exclude=True)
    """An answer that brings nothing for so long is given up."""

    # UserError, not ValueError: pydantic's own message would show the value, and the value may hold a key.
    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UserError(
                "Parameter base_url holds more than an address: put the key into the environment variable that "
                "key_variable names, and give the address alone."
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("Parameter base_url is not an address: give one such as http://127.0.0.1:8000/v1.")
        return value.rstrip("/")

    @field_validator("key_variable")
    @classmethod
    def _name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise UserError(
                "Parameter key_variable is not the name of an environment variable (capitals, digits, underscores): "
                "export the key under a name such as OPENAI_API_KEY and give that name."
            )
        return value

    @model_validator(mode="after")
    def _rendered_once(self) -> ServedParameters:
        if self.tokenizer is not None and self.api == "chat":
            raise UserError("Parameter tokenizer has no use with api chat: leave it out, or use api completions.")
        return self
