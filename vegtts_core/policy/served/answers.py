"""Answers: a server's JSON, whole or in pieces, becomes completions. Knows the wire format; knows no HTTP.

Log-probabilities come in two forms (OpenAI's for chat and its older one for completions); servers mix them, so the
form is told from the answer, not from the API that was asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.policy.served.parameters import ServedParameters
from vegtts_core.policy.served.tempering import tempered
from vegtts_core.policy.types import Completion, CompletionScore, SamplingParameters, StopReason
from vegtts_core.scaffolds.types import Prompt

#: How vLLM writes a token's id in place of its text.
AS_ID = "token_id:"


class BadAnswer(Exception):
    """The answer is not what the API promises; asking again may help."""


@dataclass(frozen=True)
class Token:
    """One token as reported: ``logprob`` (nats), those of ``others`` listed beside it, its id where told, its text.

    ``whole``: no token that is not listed is more likely than all of ``others``.
    """

    logprob: float
    others: tuple[float, ...]
    whole: bool
    id: int | None
    data: bytes

    def pair(self, parameters: ServedParameters, temperature: float) -> tuple[float, float]:
        """(untempered, tempered) log-probability; NaN for what the server cannot tell."""
        if parameters.reported == "tempered":
            return (self.logprob if temperature == 1 else math.nan), self.logprob
        return self.logprob, tempered(self.logprob, self.others, self.whole, temperature)


def read_tokens(logprobs: Any, asked: int) -> list[Token]:
    """Tokens of a choice's ``logprobs``, ``asked`` alternatives each. Raises BadAnswer for another form.

    A token without a log-probability (the first of an echoed prompt) has NaN.
    """
    if not logprobs:
        return []
    try:
        if "content" in logprobs:
            return [_chat_token(entry, asked) for entry in logprobs["content"] or ()]
        values = logprobs["token_logprobs"] or ()
        lists = logprobs.get("top_logprobs") or [None] * len(values)
        return [
            _token(text, value, list((top or {}).items()), asked, None, None)
            for text, value, top in zip(logprobs["tokens"] or (), values, lists, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"log-probabilities in an unknown form ({type(error).__name__})") from None


def _chat_token(entry: dict[str, Any], asked: int) -> Token:
    top = [(other["token"], other["logprob"]) for other in entry.get("top_logprobs") or ()]
    return _token(entry["token"], entry["logprob"], top, asked, entry.get("id"), entry.get("bytes"))


def _token(text: str, value: float | None, top: list[tuple[str, float]], asked: int, number: Any, data: Any) -> Token:
    logprob = math.nan if value is None else float(value)
    others = [float(other) for _, other in top]
    place = next((place for place, (name, other) in enumerate(top) if name == text and other == value), None)
    if place is not None:
        del others[place]
    # Different tokens may share one text, and a list by text then lacks some: it is whole only if none can be missing.
    least = asked - 1 if others and logprob >= min(others) else asked
    if number is None and text.startswith(AS_ID):
        number = int(text.removeprefix(AS_ID))
    plain = bytes(data) if data is not None else text.encode(errors="surrogatepass")
    return Token(logprob, tuple(others), bool(others) and len(others) >= least, number, plain)


@dataclass
class Choice:
    """One completion as it arrives."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    stopped_by: Any = None
    tells_stop: bool = False

    def add(self, piece: dict[str, Any], asked: int) -> int:
        """Take one piece (or the whole) of a choice; returns the number of tokens in it. Raises BadAnswer."""
        if self.finish is not None:
            return 0
        try:
            said = piece.get("delta") or piece.get("message")
            text = said.get("content") if said is not None else piece.get("text")
        except AttributeError:
            raise BadAnswer("choices in an unknown form") from None
        if text is not None and not isinstance(text, str):
            raise BadAnswer("choices in an unknown form")
        tokens = read_tokens(piece.get("logprobs"), asked)
        self.text += text or ""
        self.tokens += tokens
        if "stop_reason" in piece:
            self.tells_stop, self.stopped_by = True, piece["stop_reason"]
        self.finish = piece.get("finish_reason")
        return len(tokens)

    def completion(
        self, prompt: Prompt, parameters: ServedParameters, sampling: SamplingParameters, opening: str = ""
    ) -> Completion:
        """The finished choice. ``opening`` is what the answer was asked to begin with.

        Raises UserError where there is text and no log-probability, and for an answer that the server withheld;
        BadAnswer for one that it broke off.
        """
        if self.finish not in ("stop", "length", "eos"):
            if self.finish == "content_filter":
                raise UserError("The server withheld an answer (content_filter): use a server without such a filter.")
            raise BadAnswer(f"an answer that ended with {self.finish!r}")
        if self.text and not self.tokens:
            raise UserError(
                "The server's answers have no token log-probabilities (logprobs is empty): use a server, a model or "
                "an api (chat, completions) that returns them, such as vLLM's or llama.cpp's own server."
            )
        text = self.text
        if opening and text.lstrip().startswith(opening.strip()):
            text = text.lstrip()[len(opening.strip()) :]
        places = [place for string in prompt.stop if string and (place := text.find(string)) >= 0]
        pairs = [token.pair(parameters, sampling.temperature) for token in self.tokens]
        ids = [token.id for token in self.tokens if token.id is not None]
        return Completion(
            token_ids=tuple(ids) if len(ids) == len(self.tokens) else (),
            text=text[: min(places)] if places else text,
            stop_reason=self._stop_reason(prompt.stop, bool(places)),
            logprobs=tuple(raw for raw, _ in pairs),
            sampling_logprobs=tuple(cooled for _, cooled in pairs),
        )

    def _stop_reason(self, strings: Sequence[str], cut: bool) -> StopReason:
        """A server that does not say what stopped it is believed to have met EOS, unless a stop string was written."""
        if cut or isinstance(self.stopped_by, str):
            return StopReason.STOP_STRING
        if self.finish == "length":
            return StopReason.LENGTH
        written = b"".join(token.data for token in self.tokens).decode(errors="replace")
        if not self.tells_stop and any(string and string in written for string in strings):
            return StopReason.STOP_STRING
        return StopReason.EOS


def read_score(
    answer: Any, total: int, length: int, parameters: ServedParameters, temperature: float
) -> CompletionScore:
    """Score of the last ``length`` of ``total`` echoed tokens. Raises BadAnswer where they are not all there."""
    try:
        tokens = read_tokens(answer["choices"][0]["logprobs"], parameters.top_logprobs)
    except (KeyError, TypeError, IndexError):
        raise BadAnswer("an answer without choices") from None
    scored = tokens[total - length :]
    if len(tokens) != total or any(math.isnan(token.logprob) for token in scored):
        raise BadAnswer("an answer without the log-probabilities of its prompt")
    return CompletionScore(
        tuple(token.logprob for token in scored),
        tuple(_given(token, temperature) for token in scored),
    )


def _given(token: Token, temperature: float) -> float:
    """As `tempered`, for a token that was not drawn: at temperature 0 only the most likely one has probability 1."""
    if temperature == 0 and token.others and token.logprob < max(token.others):
        return -math.inf
    return tempered(token.logprob, token.others, token.whole, temperature)
