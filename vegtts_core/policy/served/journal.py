"""What was asked of a server and what came back, on disk before anything else happens: nothing is paid for twice.

Lines are of three kinds: ``asked`` (a request leaves), ``choice`` (one finished completion), ``ended`` (a request is
over, with the server's usage if it came to that). A key stands for a prompt with its parameters and seed. The journal
knows no HTTP; without a path it only remembers.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vegtts_core.policy.types import Completion, StopReason, Usage
from vegtts_core.runs.files import append_line, read_lines


class Journal:
    """One run's requests. One process writes it at a time (a run's folder is locked)."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._choices: dict[str, dict[int, Completion]] = {}
        self._open: dict[str, set[str]] = {}
        self._usage: dict[str, Usage] = {}
        self._prompt_tokens: dict[str, int] = {}
        for line in read_lines(path) if path else []:
            self._take(line)

    def asked(self, key: str) -> str:
        """A request is about to leave; returns its name."""
        request = uuid.uuid4().hex[:16]
        self._write({"kind": "asked", "key": key, "request": request})
        return request

    def choice(self, key: str, sample: int, completion: Completion) -> None:
        """A completion has arrived."""
        self._write({"kind": "choice", "key": key, "sample": sample, "completion": dataclasses.asdict(completion)})

    def ended(self, key: str, request: str, usage: dict[str, Any] | None, refused: bool) -> None:
        """A request is over: with the server's ``usage``, without (cut off), or ``refused`` (and so not charged)."""
        self._write({"kind": "ended", "key": key, "request": request, "usage": usage, "refused": refused})

    def choices(self, key: str) -> dict[int, Completion]:
        """Completions by sample."""
        return dict(self._choices.get(key, {}))

    def take_usage(self, keys: Iterable[str]) -> Usage:
        """What requests under ``keys`` cost, once: asked again, it is 0. Those of a killed process are not reported."""
        total = Usage()
        for key in keys:
            unfinished = len(self._open.pop(key, ()))
            total += self._usage.pop(key, Usage()) + Usage(requests=unfinished, unreported_requests=unfinished)
        return total

    def prompt_tokens(self, key: str) -> int | None:
        """The length of the prompt, as the server counted it."""
        return self._prompt_tokens.get(key)

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            append_line(self._path, line)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        key = line["key"]
        if line["kind"] == "asked":
            self._open.setdefault(key, set()).add(line["request"])
        elif line["kind"] == "choice":
            self._choices.setdefault(key, {})[line["sample"]] = _completion(line["completion"])
        else:
            self._open[key].discard(line["request"])
            if line["refused"]:
                return
            usage = _usage(line["usage"])
            self._usage[key] = self._usage.get(key, Usage()) + usage
            if usage.prompt_tokens:
                self._prompt_tokens[key] = usage.prompt_tokens


def _completion(value: dict[str, Any]) -> Completion:
    return Completion(
        token_ids=tuple(value["token_ids"]),
        text=value["text"],
        stop_reason=StopReason(value["stop_reason"]),
        logprobs=tuple(value["logprobs"]),
        sampling_logprobs=tuple(value["sampling_logprobs"]),
    )


def _usage(reported: Any) -> Usage:
    """The ``usage`` object of an answer; anything else is a request whose cost was not reported."""
    if not isinstance(reported, dict) or not isinstance(reported.get("prompt_tokens"), int):
        return Usage(requests=1, unreported_requests=1)
    return Usage(
        requests=1,
        prompt_tokens=reported["prompt_tokens"],
        cached_prompt_tokens=(reported.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        completion_tokens=reported.get("completion_tokens") or 0,
    )
