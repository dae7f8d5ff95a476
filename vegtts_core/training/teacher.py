"""The teacher of self-distillation (SDPO): what it is shown, and the advantages that follow (section 3.6, E.1).

The teacher is a policy that scores the student's own tokens, from a prompt that knows more than the student's did. This
module builds that prompt and subtracts log-probabilities; it knows nothing of models, nor of who the teacher is.

**The context** holds, in this order: the original prompt; a correct solution of the same batch, if one is wanted and
exists; what running the student's attempt gave; "Correctly solve the original question." All of it joins the last
message of the user, after the question, so that the assistant's opening stays last: the tokens that are scored follow
it, as they did for the student.

**Never the student's code.** A solution is another rollout's (`choose_solution`). Error messages, though, quote code:
the lines that compilers print, the line of a traceback, a scaffold's "the line '...' is not of the form". Such excerpts
are cut, and what is left is held against the completion: of every run of more than ``LONGEST_QUOTE`` words and signs
that both share, nothing is shown, unless the prompt or the chosen solution has that run as well. Names on their own
stay, because an error that names nothing says nothing.

**Prompt-only.** Without solution and feedback the context differs from the student's by the closing instruction alone,
about 6 tokens; table C.1 counts as many (313K teacher tokens beside 311K for 320 rollouts). Whatever the paper's
prompt-only variant learns, it learns from that sentence: with ``closing`` off too, the prompt is the student's own, and
a live teacher (the student's own weights) then has advantages, loss and gradient of exactly 0.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field

from vegtts_core.errors import UserError
from vegtts_core.evaluator.types import ProtocolName, Stage
from vegtts_core.parameters import Parameters
from vegtts_core.scaffolds.types import Message, Prompt, Role

CLOSING = "Correctly solve the original question."
LONGEST_QUOTE = 2
"""Words and signs in a row that an error message may share with the student's completion: ``y = x`` is three."""
HIDDEN = "…"
"""What stands where a quotation was."""

_TOKEN = re.compile(r"\\[nrt]|(\w+|[^\w\s])")  # group 1; a tab that repr() wrote as \t is spacing
_CARETS = re.compile(r"\s*[~^][~^\s]*")
_MARGIN = re.compile(r"\s*\d*\s*\|")
_FRAME = re.compile(r'\s*File ".*", line \d+')


class SelfDistillationParameters(Parameters):
    """What the teacher is shown, and how strongly it is followed.

    ``beta`` scales the advantages (1 in the paper); ``clip`` bounds their size, None does not.
    ``feedback`` and ``solution``: whether the context has them; both false is the paper's prompt-only variant.
    ``closing``: whether it ends with the closing instruction.
    ``longest_quote``: see `LONGEST_QUOTE`; 0 hides every word of the completion.
    """

    beta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    feedback: bool = True
    solution: bool = True
    closing: bool = True
    longest_quote: int = Field(default=LONGEST_QUOTE, ge=0)


@dataclass(frozen=True)
class Feedback:
    """What running an attempt gave: its outcome, not its code.

    ``compiled`` is None where it never came to that (the completion was refused). ``speedup`` (no unit) and ``runtime``
    (seconds) are None where it was not timed. ``error`` is the kind, ``reason`` the message, both empty if it is
    correct. ``completion`` is what the student wrote: it is never shown, and serves to find it in ``reason``.
    """

    compiled: bool | None
    correct: bool
    speedup: float | None = None
    runtime: float | None = None
    error: str = ""
    reason: str = ""
    completion: str = field(default="", repr=False)

    @classmethod
    def of(cls, row: Mapping[str, Any], protocol: ProtocolName = ProtocolName.SOUND) -> Feedback:
        """From a row of the samples table, under ``protocol``. The runtime is the median of its timed calls."""
        correct = bool(_known(row.get(f"{protocol}_correct")))
        stage = row["stage"]
        seconds = _known(row.get(f"{protocol}_candidate_seconds"))
        timed = correct and seconds is not None and len(seconds) > 0
        return cls(
            compiled=None if stage == Stage.SCAFFOLD else stage != Stage.COMPILE,
            correct=correct,
            speedup=_known(row.get(f"{protocol}_speedup")) if correct else None,
            runtime=float(np.median(seconds)) if timed else None,  # type: ignore[arg-type]
            error="" if correct else str(_known(row.get("error")) or ""),
            reason="" if correct else str(_known(row.get("reason")) or ""),
            completion=str(row["completion"]),
        )


def teacher_prompt(
    prompt: Prompt,
    feedback: Feedback | None,
    solution: str | None,
    closing: bool = True,
    longest_quote: int = LONGEST_QUOTE,
) -> Prompt:
    """The teacher's context for one rollout of ``prompt`` (see the module); stop strings stay.

    ``solution`` is shown as it is: take it from `choose_solution`. With nothing to add it is ``prompt`` itself; else
    its id is the hash of its messages, as a scaffold's is. Raises UserError for a prompt in which no user speaks.
    """
    places = [place for place, message in enumerate(prompt.messages) if message.role is Role.USER]
    if not places:
        raise UserError(f"Prompt {prompt.id!r} has no message of the user, so there is no question to add feedback to.")
    added = f"\n\nA correct solution:\n\n```\n{solution}\n```" if solution is not None else ""
    end = f"\n\n{CLOSING}" if closing else ""
    if feedback is not None:
        outcome = _outcome(feedback)
        known = [*(message.content for message in prompt.messages), solution or ""]
        reason = " ".join(without_excerpts(feedback.reason).split())
        reason = _without_quotes(outcome, reason, end, feedback.completion, known, longest_quote)
        added += outcome + reason if reason else outcome.rstrip(": ")
    added += end
    if not added:
        return prompt
    messages = list(prompt.messages)
    question = messages[places[-1]]
    messages[places[-1]] = Message(question.role, question.content + added)
    digest = hashlib.sha256(repr([(m.role.value, m.content) for m in messages]).encode()).hexdigest()
    return Prompt(digest[:16], tuple(messages), prompt.stop)


def teacher_prompt_for(
    prompt: Prompt,
    rows: Sequence[Mapping[str, Any]],
    index: int,
    parameters: SelfDistillationParameters,
    protocol: ProtocolName = ProtocolName.SOUND,
) -> Prompt:
    """The teacher's context for rollout ``index`` of a batch, with what ``parameters`` want shown.

    ``rows`` are the batch's rows of the samples table, ``prompt`` what rollout ``index`` was sampled from.
    """
    feedback = Feedback.of(rows[index], protocol) if parameters.feedback else None
    solution = choose_solution(rows, index, protocol) if parameters.solution else None
    return teacher_prompt(prompt, feedback, solution, parameters.closing, parameters.longest_quote)


def choose_solution(
    rows: Sequence[Mapping[str, Any]], index: int, protocol: ProtocolName = ProtocolName.SOUND
) -> str | None:
    """The body of the fastest correct rollout of the same task that is another candidate than rollout ``index``.

    A copy of the student's candidate (equal fingerprint, or the same words) is its own code and is passed over. Equal
    speedups: the first in the batch. None if there is no other correct one.
    """
    own = rows[index]
    written = {tuple(_tokens(str(own.get(name)))) for name in ("body", "completion") if _known(own.get(name))}
    best: tuple[float, str] | None = None
    for row in rows:
        body = _known(row.get("body"))
        if row["task"] != own["task"] or not _known(row.get(f"{protocol}_correct")) or not body:
            continue
        if row["fingerprint"] == own.get("fingerprint") or tuple(_tokens(body)) in written:
            continue
        speedup = _known(row.get(f"{protocol}_speedup"))
        speedup = -math.inf if speedup is None else float(speedup)
        if best is None or speedup > best[0]:
            best = speedup, str(body)
    return best[1] if best else None


def token_advantages(
    teacher_logprobs: Sequence[float] | np.ndarray,
    student_logprobs: Sequence[float] | np.ndarray,
    beta: float,
    clip: float | None = None,
) -> np.ndarray:
    """A = beta (log p_teacher - log p_student) per token, in nats: float64, of the arguments' common shape.

    Both are log-probabilities of the same tokens at the same temperature: the one at which the student is trained.
    ``clip`` bounds the result to [-clip, clip]. Raises ValueError for unequal shapes and values that are not finite.
    """
    teacher = np.asarray(teacher_logprobs, dtype=np.float64)
    student = np.asarray(student_logprobs, dtype=np.float64)
    if teacher.shape != student.shape:
        raise ValueError(f"The teacher scored tokens of shape {teacher.shape}, the student {student.shape}.")
    if not (np.isfinite(teacher).all() and np.isfinite(student).all()):
        raise ValueError("A log-probability is not finite.")
    result = beta * (teacher - student)
    return result if clip is None else np.clip(result, -clip, clip)


def teacher_tokens(context_tokens: Sequence[int], completion_tokens: Sequence[int]) -> int:
    """Tokens that the teacher processed, as table C.1 counts them: per rollout its context and the completion."""
    return sum(context + own for context, own in zip(context_tokens, completion_tokens, strict=True))


def without_excerpts(text: str) -> str:
    """``text`` without the lines in which compilers and tracebacks show source code.

    These are lines behind a margin (``12 | y = x;``), lines of carets with the line above them, and the indented lines
    below a traceback's ``File "...", line 3``. What they say of it stays.
    """
    lines = text.splitlines()
    kept: list[str] = []
    in_frame = False
    for place, line in enumerate(lines):
        pointed_at = place + 1 < len(lines) and _CARETS.fullmatch(lines[place + 1])
        if _FRAME.match(line):
            kept.append(line)
            in_frame = True
        elif in_frame and line.startswith("    "):
            continue
        else:
            in_frame = False
            if not (_MARGIN.match(line) or _CARETS.fullmatch(line) or pointed_at):
                kept.append(line)
    return "\n".join(kept)


def _outcome(feedback: Feedback) -> str:
    """The outcome as lines; the last one ends where the error's message belongs."""
    compiled = {None: "not tried, the answer was refused", True: "yes", False: "no"}[feedback.compiled]
    lines = [f"Compiled: {compiled}", f"Correct: {'yes' if feedback.correct else 'no'}"]
    if feedback.speedup is not None:
        lines.append(f"Speedup over the reference: {feedback.speedup:.3g}x")
    if feedback.runtime is not None:
        lines.append(f"Runtime: {feedback.runtime * 1e3:.4g} ms")
    if feedback.error or feedback.reason:
        lines.append(f"Error{f' ({feedback.error})' if feedback.error else ''}: ")
    return "\n\nAn earlier attempt was run, with this outcome:\n\n" + "\n".join(f"- {line}" for line in lines)


def _without_quotes(before: str, message: str, after: str, code: str, known: Iterable[str], longest: int) -> str:
    """``message`` without runs of more than ``longest`` tokens of ``code`` that no text of ``known`` has.

    ``before`` and ``after`` stand around it: a run may begin or end in them.
    """
    written, public = _joined(_tokens(code)), [_joined(_tokens(text)) for text in known]
    spans = _quoted(before, message, after, written, public, longest)
    if not spans:
        return message
    text, end = "", 0
    for start, stop in spans:
        text += message[end:start] + HIDDEN
        end = stop
    text += message[end:]
    # The code may hold the mark itself; then what was cut may read as a quotation again, and nothing is shown.
    return "" if _quoted(before, text, after, written, public, longest) else text


def _quoted(
    before: str, message: str, after: str, code: str, known: Sequence[str], longest: int
) -> list[tuple[int, int]]:
    """Where ``message`` quotes ``code`` (both `_joined`): spans of characters, in order and apart from one another."""
    places = [match for match in _TOKEN.finditer(before + message + after) if match[1]]
    tokens = [match[1] for match in places]
    hidden = [False] * len(tokens)
    for first in range(len(tokens)):
        stop = first
        while stop < len(tokens) and _joined(tokens[first : stop + 1]) in code:
            stop += 1
        run = _joined(tokens[first:stop])
        if stop - first > longest and not any(run in text for text in known):
            hidden[first:stop] = [True] * (stop - first)
    spans: list[tuple[int, int]] = []
    joined = False
    for match, hide in zip(places, hidden, strict=True):
        start, end = match.start() - len(before), match.end() - len(before)
        hide = hide and start >= 0 and end <= len(message)
        if hide and joined:
            spans[-1] = (spans[-1][0], end)
        elif hide:
            spans.append((start, end))
        joined = hide
    return spans


def _joined(tokens: Sequence[str]) -> str:
    """A text in which a run of tokens is found as a substring; no token holds a line break."""
    return "\n" + "\n".join(tokens) + "\n"


def _tokens(text: str) -> list[str]:
    """Words and signs, spacing gone: code that differs in layout alone is the same."""
    return [match[1] for match in _TOKEN.finditer(text) if match[1]]


def _known(value: Any) -> Any:
    """None for what is missing: pandas writes it as NaN, pyarrow as None."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value
