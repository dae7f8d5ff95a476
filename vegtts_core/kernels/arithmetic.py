"""Arithmetic over names of sizes: what a launch line may say. Integers in, one integer out; nothing else is evaluated.

    expression = term { ("+" | "-") term }
    term       = factor { ("*" | "/" | "//" | "%") factor }      (division rounds down)
    factor     = number | name | "(" expression ")" | "-" factor
               | ("cdiv" | "min" | "max") "(" expression "," expression ")"

``cdiv(a, b)`` is a / b rounded up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(//|[-+*/%(),]))")
_FUNCTIONS: dict[str, Callable[[int, int], int]] = {"cdiv": lambda a, b: -(-a // b), "min": min, "max": max}
_DEEPEST = 50
#: Beyond every limit of a launch, and small enough that no intermediate result costs time.
_LARGEST = 1 << 63


class Malformed(Exception):
    """The text is not in the grammar, or has no value; the message says what is wrong, without a final stop."""


def evaluate(text: str, names: Mapping[str, int]) -> int:
    """The value of ``text``. Raises `Malformed`."""
    parser = _Parser(_tokens(text), names)
    value = parser.expression(0)
    if parser.here:
        raise Malformed(f"{parser.here!r} was not expected in {text.strip()!r}")
    return value


def _tokens(text: str) -> list[str]:
    tokens, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise Malformed(f"{text[place:].strip()[:1]!r} is not part of the arithmetic")
        tokens.append(match.group(0).strip())
        place = match.end()
    return tokens


class _Parser:
    """Recursive descent over ``tokens``; ``here`` is the next one, empty at the end."""

    def __init__(self, tokens: list[str], names: Mapping[str, int]) -> None:
        self._tokens = tokens
        self._place = 0
        self._names = names

    @property
    def here(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self) -> str:
        token = self.here
        self._place += 1
        return token

    def _require(self, token: str) -> None:
        found = self._take()
        if found != token:
            raise Malformed(f"{token!r} is missing" + (f" before {found!r}" if found else " at the end"))

    def expression(self, depth: int) -> int:
        if depth > _DEEPEST:
            raise Malformed("it is nested too deeply")
        value = self._term(depth)
        while self.here in ("+", "-"):
            value = _checked(value + self._term(depth) if self._take() == "+" else value - self._term(depth))
        return value

    def _term(self, depth: int) -> int:
        value = self._factor(depth)
        while self.here in ("*", "/", "//", "%"):
            operator, right = self._take(), self._factor(depth)
            if operator == "*":
                value = _checked(value * right)
            elif right == 0:
                raise Malformed("it divides by zero")
            else:
                value = value % right if operator == "%" else value // right
        return value

    def _factor(self, depth: int) -> int:
        token = self._take()
        if token == "-":
            if depth > _DEEPEST:
                raise Malformed("it is nested too deeply")
            return -self._factor(depth + 1)
        if token == "(":
            value = self.expression(depth + 1)
            self._require(")")
            return value
        if token.isdecimal():
            return _checked(int(token[:30]))
        if token in _FUNCTIONS:
            self._require("(")
            left = self.expression(depth + 1)
            self._require(",")
            right = self.expression(depth + 1)
            self._require(")")
            if token == "cdiv" and right == 0:
                raise Malformed("it divides by zero")
            return _FUNCTIONS[token](left, right)
        if token in self._names:
            return self._names[token]
        if re.fullmatch(r"[A-Za-z_]\w*", token):
            raise Malformed(f"{token!r} is not a size of this task")
        raise Malformed(f"a value is missing before {token!r}" if token else "a value is missing at the end")


def _checked(value: int) -> int:
    if abs(value) >= _LARGEST:
        raise Malformed("a number in it is too large")
    return value
