"""C expressions of completions: tokens, a recursive-descent parser that checks names and types, and the resulting C.

    expression     = disjunction [ "?" expression ":" expression ]
    disjunction    = conjunction { "||" conjunction }
    conjunction    = equality { "&&" equality }
    equality       = relation [ ("==" | "!=") relation ]
    relation       = sum [ ("<" | "<=" | ">" | ">=") sum ]
    sum            = product { ("+" | "-") product }
    product        = unary { ("*" | "/" | "%") unary }
    unary          = ("-" | "+" | "!") unary | primary
    primary        = number | name | function "(" expression { "," expression } ")" | "(" expression ")"
                   | "(" ("float" | "int") ")" unary

Types follow C (an int divided by an int is rounded towards zero, a truth value counts as 0 or 1), except that a
condition must be a truth value and comparisons do not chain. Numbers with a point or an exponent are floats, with or
without ``f``: nothing is computed in double precision by accident.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vegtts_core.kernels.templates.types import Expression, ValueType

#: Longer or deeper than any honest expression.
MAX_CHARACTERS = 500
MAX_DEPTH = 40

#: Functions by arity. Each is also known without its ``f``; ``max`` and ``min`` too.
_ARITIES = {
    1: "expf exp2f expm1f logf log2f log10f log1pf sqrtf rsqrtf fabsf tanhf sinhf coshf erff erfcf sinf cosf floorf "
    "ceilf",
    2: "fmaxf fminf powf",
    3: "fmaf",
}
FUNCTIONS: dict[str, int] = {name: arity for arity, names in _ARITIES.items() for name in names.split()}
_ALIASES = {name[:-1]: name for name in FUNCTIONS} | {"max": "fmaxf", "min": "fminf", "abs": "fabsf"}
_INFINITY = "INFINITY"
_LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT = 3.4028234e38

# Whatever begins like a number and goes on like a name is one token: `1.5x` is a wrong number, not 1.5 and x.
_TOKEN = re.compile(
    r"\s*(?:(\.?\d(?:[eE][+-](?=\d)|[\w.])*)|([A-Za-z_]\w*)|(\|\||&&|[=!<>]=|[-+*/%<>!?:(),]))", re.ASCII
)
_INTEGER = re.compile(r"\d+", re.ASCII)
_FLOAT = re.compile(r"(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|\d+[eE][+-]?\d+[fF]?", re.ASCII)

FLOAT, INT, BOOL = ValueType.FLOAT, ValueType.INT, ValueType.BOOL
_SPOKEN = {FLOAT: "a float", INT: "an int", BOOL: "a truth value"}


class Malformed(Exception):
    """The text is no expression of the grammar, or of the wrong type; the message says why, without a final stop."""


@dataclass(frozen=True)
class _Part:
    """C code with its type. Every compound part carries its own parentheses."""

    code: str
    type: ValueType


def parse_expression(text: str, wanted: ValueType, names: Mapping[str, ValueType]) -> Expression:
    """The expression in ``text``, over ``names``. Raises `Malformed` unless it is one, and of type ``wanted``.

    An int is accepted where a float is wanted, as in C; a truth value is not.
    """
    if len(text) > MAX_CHARACTERS:
        raise Malformed(f"it has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    tokens = _tokens(text)
    if not tokens:
        raise Malformed("it is empty")
    parser = _Parser(tokens, names)
    part = parser.expression(0)
    if parser.here:
        raise Malformed(f"{parser.here!r} was not expected")
    if part.type is not wanted and not (wanted is FLOAT and part.type is INT):
        raise Malformed(f"it is {_SPOKEN[part.type]} where {_SPOKEN[wanted]} is wanted")
    return Expression(_spaced(tokens), part.code, part.type, frozenset(parser.used))


def _tokens(text: str) -> list[str]:
    tokens, place, text = [], 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise Malformed(f"{text[place:].lstrip()[:1]!r} is not part of an expression")
        tokens.append(match.group(0).strip())
        place = match.end()
    return tokens


def _spaced(tokens: list[str]) -> str:
    """One spelling for all spacings. Signs stand apart from what they sign, so that no two tokens run together."""
    return re.sub(r"(?<=[(]) | (?=[),])|(?<=\w) (?=[(])", "", " ".join(tokens))


class _Parser:
    """Recursive descent over ``tokens``; ``here`` is the next one, empty at the end; ``used`` are variables so far."""

    def __init__(self, tokens: list[str], names: Mapping[str, ValueType]) -> None:
        self._tokens = tokens
        self._place = 0
        self._names = names
        self._int_division = False
        self.used: set[str] = set()

    @property
    def here(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self) -> str:
        token = self.here
        self._place += 1
        return token

    def _require(self, token: str) -> None:
        if self.here != token:
            raise Malformed(f"{token!r} is missing" + (f" before {self.here!r}" if self.here else " at the end"))
        self._place += 1

    def expression(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise Malformed("it is nested too deeply")
        condition = self._disjunction(depth)
        if self.here != "?":
            return condition
        self._take()
        _truth(condition, "before '?'")
        first = self.expression(depth + 1)
        self._require(":")
        second = self.expression(depth + 1)
        kind = first.type if first.type is second.type else _common(first, second)
        if kind is FLOAT and "m_" in first.code + second.code and not self._int_division:
            # Both sides computed, one chosen: a call behind a branch would keep a loop from being vectorised.
            return _Part(f"m_select({condition.code}, {first.code}, {second.code})", kind)
        return _Part(f"({condition.code} ? {first.code} : {second.code})", kind)

    def _disjunction(self, depth: int) -> _Part:
        return self._logical(depth, "||", self._conjunction)

    def _conjunction(self, depth: int) -> _Part:
        return self._logical(depth, "&&", self._equality)

    def _logical(self, depth: int, operator: str, operand) -> _Part:
        left = operand(depth)
        while self.here == operator:
            self._take()
            right = operand(depth)
            for side in (left, right):
                _truth(side, f"beside {operator!r}")
            left = _Part(f"({left.code} {operator} {right.code})", BOOL)
        return left

    def _equality(self, depth: int) -> _Part:
        return self._comparison(depth, ("==", "!="), self._relation)

    def _relation(self, depth: int) -> _Part:
        return self._comparison(depth, ("<", "<=", ">", ">="), self._sum)

    def _comparison(self, depth: int, operators: tuple[str, ...], operand) -> _Part:
        left = operand(depth)
        if self.here not in operators:
            return left
        operator, right = self._take(), operand(depth)
        if self.here in operators:
            raise Malformed(f"comparisons do not chain: {self.here!r} after {operator!r}")
        return _Part(f"({left.code} {operator} {right.code})", BOOL)

    def _sum(self, depth: int) -> _Part:
        left = self._product(depth)
        while self.here in ("+", "-"):
            operator, right = self._take(), self._product(depth)
            left = _Part(f"({left.code} {operator} {right.code})", _common(left, right))
        return left

    def _product(self, depth: int) -> _Part:
        left = self._unary(depth)
        while self.here in ("*", "/", "%"):
            operator, right = self._take(), self._unary(depth)
            kind = _common(left, right)
            if operator == "%" and kind is FLOAT:
                raise Malformed("'%' takes ints, not floats")
            if operator != "*" and kind is INT:
                self._int_division = True
                if re.fullmatch(r"[-+(]*0+\)*", right.code):
                    raise Malformed("it divides by zero")
            left = _Part(f"({left.code} {operator} {right.code})", kind)
        return left

    def _unary(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise Malformed("it is nested too deeply")
        if self.here not in ("-", "+", "!"):
            return self._primary(depth)
        operator, operand = self._take(), self._unary(depth + 1)
        if operator == "!":
            _truth(operand, "after '!'")
            return _Part(f"(!{operand.code})", BOOL)
        return _Part(f"({operator}{operand.code})", FLOAT if operand.type is FLOAT else INT)

    def _primary(self, depth: int) -> _Part:
        token = self._take()
        if not token:
            raise Malformed("a value is missing at the end")
        if token[0].isdigit() or token[0] == ".":
            return _number(token)
        if token == "(":
            return self._parenthesised(depth)
        if not (token[0].isalpha() or token[0] == "_"):
            raise Malformed(f"a value is missing before {token!r}")
        if self.here == "(" and token not in self._names:
            return self._call(token, depth)
        if token == _INFINITY:
            return _Part(_INFINITY, FLOAT)
        if token not in self._names:
            known = ", ".join(sorted(self._names)) or "none"
            raise Malformed(f"{token!r} is not a name of this hole (it has {known})")
        self.used.add(token)
        return _Part(token, self._names[token])

    def _parenthesised(self, depth: int) -> _Part:
        if self.here in ("float", "int"):
            name = self._take()
            self._require(")")
            operand = self._unary(depth + 1)
            return _Part(f"(({'float' if name == 'float' else 'long long'}){operand.code})", ValueType(name))
        inner = self.expression(depth + 1)
        self._require(")")
        return inner

    def _call(self, token: str, depth: int) -> _Part:
        name = _ALIASES.get(token, token)
        if name not in FUNCTIONS:
            raise Malformed(f"{token!r} is not a function that expressions may call")
        self._require("(")
        arguments = [self.expression(depth + 1)]
        while self.here == ",":
            self._take()
            arguments.append(self.expression(depth + 1))
        self._require(")")
        if len(arguments) != FUNCTIONS[name]:
            raise Malformed(f"{token} takes {FUNCTIONS[name]} arguments, not {len(arguments)}")
        for argument in arguments:
            if argument.type is BOOL:
                raise Malformed(f"{token} takes numbers, not truth values")
        # The templates define every function with this prefix, per language and accuracy.
        return _Part(f"m_{name}({', '.join(argument.code for argument in arguments)})", FLOAT)


def _number(token: str) -> _Part:
    if _INTEGER.fullmatch(token):
        if len(token) > 10 or int(token) > _LARGEST_INT:
            raise Malformed(f"the number {token[:20]} is too large for an int")
        return _Part(str(int(token)), INT)
    if not _FLOAT.fullmatch(token):
        raise Malformed(f"{token!r} is not a number of C")
    value = float(token.rstrip("fF"))
    if value > _LARGEST_FLOAT:
        raise Malformed(f"the number {token[:20]} is too large for a float")
    return _Part(f"{value!r}f", FLOAT)


def _common(left: _Part, right: _Part) -> ValueType:
    """The type of an arithmetic of two parts: truth values count as ints."""
    return FLOAT if FLOAT in (left.type, right.type) else INT


def _truth(part: _Part, where: str) -> None:
    if part.type is not BOOL:
        raise Malformed(f"what stands {where} must be a truth value such as x > 0, not {_SPOKEN[part.type]}")
