"""The vocabulary of scaffolds: prompt out, completion in, candidate (or refusal) out.

A scaffold knows the task; it knows nothing of models, processes or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from vegtts_core.kernels.types import Language, Launch
from vegtts_core.tasks.types import Task


class Role(StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """What a policy is asked: chat messages, rendered by the policy's own chat template.

    When the last message is the assistant's, the policy continues it (a prefix that it did not write).
    ``stop`` strings end a completion; the stop string itself is not part of the completion's text.
    """

    id: str
    messages: tuple[Message, ...]
    stop: tuple[str, ...] = ()


class RefusalKind(StrEnum):
    """Why a completion did not become a candidate."""

    EMPTY = "empty"
    """Nothing that could be a body, or a kernel, was written."""
    SYNTAX = "syntax"
    """It is not valid Python, or not in the scaffold's form."""
    FORBIDDEN = "forbidden"
    """It uses something that the scaffold does not allow."""
    TOO_LONG = "too_long"
    """It is larger than any honest answer."""


@dataclass(frozen=True)
class Refusal:
    """A completion that the scaffold turned down, and why, in one sentence."""

    kind: RefusalKind
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A completion inside its scaffold.

    ``body`` is what the policy contributed, normalised (comments and spacing gone); candidates of one task with equal
    ``fingerprint`` compute the same thing by construction and are evaluated once. ``source`` defines ``ModelNew`` in
    Python; in C++ and CUDA it is the whole translation unit, with a function ``kernel`` of the task's
    `vegtts_core.kernels.signature.KernelSignature`. ``launch`` is set for CUDA only.
    """

    task_key: str
    scaffold: str
    body: str
    source: str
    fingerprint: str
    language: Language = Language.PYTHON
    launch: Launch | None = None


class Scaffold(Protocol):
    """Turns tasks into prompts and completions into candidates."""

    name: str

    def prompt(self, task: Task, examples: Sequence[Task] = ()) -> Prompt:
        """The prompt for ``task``, with worked ``examples`` (training tasks only)."""
        ...

    def parse(self, task: Task, completion: str) -> Candidate | Refusal:
        """The candidate in ``completion``, or the reason why there is none. Never raises on any text."""
        ...
