"""From a completion to a filling: lines ``name = value``, each held against the hole it names.

    y = x / (1.f + fabsf(x))
    block = 256

A completion may continue a fence that the prompt opened, language tag included, or bring its own. Within it every line
is a comment (``//``), blank, or ``name = value`` with an optional semicolon; nothing is guessed.
"""

from __future__ import annotations

import re

from vegtts_core.kernels.templates.expressions import Malformed, parse_expression
from vegtts_core.kernels.templates.types import (
    ChoiceHole,
    Expression,
    ExpressionHole,
    Filling,
    Hole,
    Template,
    Value,
    ValueType,
)
from vegtts_core.scaffolds.types import Refusal, RefusalKind

#: Longer than any honest filling.
MAX_CHARACTERS = 8_000
MAX_LINES = 60

_FENCE = re.compile(r"```[\w+-]*[ \t]*(?:\n|\Z)|```")
#: What stands behind the fence that the prompt opened, before the line's end: many models write one.
_TAG = re.compile(r"[A-Za-z+-]{1,12}[ \t]*\n")
_LINE = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)\s*(.*?)\s*;?\s*", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d{1,12}", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SHOWN = 60  # characters of a line that a reason quotes


def parse_filling(template: Template, completion: str) -> Filling | Refusal:
    """The values of all holes, defaults included, or why the completion is refused. Never raises on any text."""
    if len(completion) > MAX_CHARACTERS or completion.count("\n") > MAX_LINES:
        return Refusal(
            RefusalKind.TOO_LONG,
            f"The completion has {len(completion)} characters; at most {MAX_CHARACTERS} in {MAX_LINES} lines are read.",
        )
    given: dict[str, Value] = {}
    for line in _lines(completion):
        match = _LINE.fullmatch(line)
        if match is None or not match[2]:
            return Refusal(RefusalKind.SYNTAX, f"The line {line[:_SHOWN]!r} is not of the form name = value.")
        name, text = match[1], match[2]
        hole = template.hole(name)
        if hole is None:
            names = ", ".join(hole.name for hole in template.holes)
            return Refusal(RefusalKind.FORBIDDEN, f"{name[:_SHOWN]!r} is not a hole of this template; it has {names}.")
        if name in given:
            return Refusal(RefusalKind.SYNTAX, f"The hole {name!r} is filled twice.")
        try:
            given[name] = value_of(template, hole, text)
        except Malformed as error:
            return Refusal(RefusalKind.FORBIDDEN, f"{name} = {text[:_SHOWN]}: {error}.")
    if not given:
        return Refusal(RefusalKind.EMPTY, "The completion fills no hole.")
    for hole in template.holes:
        if hole.name not in given:
            if hole.default is None:
                return Refusal(RefusalKind.SYNTAX, f"The hole {hole.name!r} is not filled and has no default.")
            given[hole.name] = value_of(template, hole, str(hole.default))
    return {hole.name: given[hole.name] for hole in template.holes}


def value_of(template: Template, hole: Hole, text: str) -> Value:
    """The value that ``text`` gives ``hole``. Raises `Malformed` where it is of the wrong type or out of range."""
    if isinstance(hole, ExpressionHole):
        return parse_expression(text, hole.type, _names(template, hole))
    words = isinstance(hole, ChoiceHole) and isinstance(hole.choices[0], str)
    if not (_WORD if words else _INTEGER).fullmatch(text):
        raise Malformed(f"it takes {'a word' if words else 'an integer'}, not an expression")
    value = text if words else int(text)
    if isinstance(hole, ChoiceHole):
        if value not in hole.choices:
            raise Malformed(f"it must be one of {', '.join(map(str, hole.choices))}")
    elif not hole.low <= int(value) <= hole.high:
        raise Malformed(f"it must be from {hole.low} to {hole.high}")
    return value


def written(filling: Filling) -> str:
    """A filling as lines, one spelling for all that mean the same."""
    return "\n".join(f"{name} = {v.text if isinstance(v, Expression) else v}" for name, v in filling.items())


def _names(template: Template, hole: ExpressionHole) -> dict[str, ValueType]:
    constants = {
        name: ValueType.INT if isinstance(value, int) else ValueType.FLOAT for name, value in template.constants.items()
    }
    return constants | dict(hole.variables)


def _lines(completion: str) -> list[str]:
    """The lines that count: before the first fence if there is a filling, else between the first two fences."""
    text = completion.replace("\r\n", "\n")
    if tag := _TAG.match(text):
        text = text[tag.end() :]
    parts = _FENCE.split(text)
    part = next((part for part in parts if "=" in part), parts[0])
    lines = [re.sub(r"//.*", "", line).strip() for line in part.split("\n")]
    return [line for line in lines if line]
