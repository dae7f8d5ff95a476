"""From what a policy wrote to a parsed ``forward``: fences, a whole function or class, and chatter around it.

Knows Python's grammar and nothing of torch: whether the body may run is ``check``'s business.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass

from vegtts_core.scaffolds.types import Refusal, RefusalKind

#: Longer than any honest answer (characters, lines); parsing stays cheap below it.
MAX_CHARACTERS = 8_000
MAX_LINES = 200
#: How many characters may be parsed while a body is looked for in a completion: any run of its lines could be one, and
#: the search grows with the square of their number. Recorded completions need a hundredth of it.
MAX_SEARCHED = 1_000_000

_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
#: How a statement of a body can begin; prose that begins likewise does not parse and is passed over.
_STATEMENT = re.compile(
    r"(return|if|for|while|with|import|from|try|raise|assert|del|global|print|pass)\b"
    r"|[A-Za-z_][\w.,\[\]: ]*[-+*/@]?=(?!=)|[\"']"
)
_DEF = re.compile(r"^[ \t]*(?:class\s+\w+|def\s+forward)\b", re.MULTILINE)


@dataclass(frozen=True)
class Forward:
    """``arguments`` are the parameter names after ``self``; ``body`` the statements, without the docstring."""

    arguments: tuple[str, ...]
    body: list[ast.stmt]


class _Search:
    """Parses while there is effort left: ``is_over`` says whether a body might be there that was not looked for."""

    def __init__(self) -> None:
        self._left = MAX_SEARCHED
        self.is_over = False

    def parse(self, source: str) -> ast.Module | None:
        self.is_over = self.is_over or len(source) > self._left
        if self.is_over:
            return None
        self._left -= len(source)
        return _parse(source)


def extract_forward(completion: str, arguments: tuple[str, ...]) -> Forward | Refusal:
    """The ``forward`` in ``completion``; a bare body takes the task's own ``arguments``. Never raises."""
    if len(completion) > MAX_CHARACTERS or completion.count("\n") > MAX_LINES:
        return Refusal(
            RefusalKind.TOO_LONG,
            f"The completion has {len(completion)} characters; at most {MAX_CHARACTERS} in {MAX_LINES} lines are read.",
        )
    if "\0" in completion:
        return Refusal(RefusalKind.SYNTAX, "The completion contains a null byte.")
    first_problem: Refusal | None = None
    search = _Search()
    for text in _places(completion):
        found = _from_definition(text) if _DEF.search(text) else _from_body(text, arguments, search)
        if isinstance(found, Forward):
            return found
        first_problem = first_problem or found
    return first_problem or Refusal(RefusalKind.EMPTY, "The completion contains no code.")


def _places(completion: str) -> list[str]:
    """Where code may stand: a continued body (the prompt opened its fence), fenced blocks, or all of it."""
    places = []
    if "```" in completion:
        head = completion.split("```", 1)[0]
        places += [block for block in _FENCE.findall(completion)]
        # A completion that continues the prompt's fence ends with a lone closing fence: its code comes before it.
        places.insert(0 if "return" in head else len(places), head)
    else:
        places.append(completion)
    return [place for place in places if place.strip()]


def _from_definition(text: str) -> Forward | Refusal:
    """The ``forward`` of the first class or function definition, whatever stands around it."""
    match = _DEF.search(text)
    assert match is not None
    lines = textwrap.dedent(text[match.start() :]).splitlines()
    tree = _longest_module(lines)
    if tree is None:
        return _syntax_refusal("\n".join(lines))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "forward"]
    if not functions:
        return Refusal(RefusalKind.EMPTY, "The completion defines no forward.")
    function = functions[-1]
    spec = function.args
    names = [argument.arg for argument in spec.posonlyargs + spec.args]
    if spec.vararg or spec.kwarg or spec.kwonlyargs or names[:1] != ["self"]:
        return Refusal(RefusalKind.SYNTAX, "forward must take self and the task's arguments, and nothing else.")
    if function.decorator_list:
        return Refusal(RefusalKind.FORBIDDEN, "forward carries a decorator.")
    body = _without_docstring(function.body)
    if not _returns(body):
        return Refusal(RefusalKind.EMPTY, "forward returns nothing.")
    return Forward(tuple(names[1:]), body)


def _from_body(text: str, arguments: tuple[str, ...], search: _Search) -> Forward | Refusal:
    """A bare body: the first run of lines that parses and returns something, chatter before and after it dropped."""
    lines = [line.rstrip() for line in text.expandtabs(4).splitlines()]
    while lines and not lines[0].strip():
        lines.pop(0)
    if not lines:
        return Refusal(RefusalKind.EMPTY, "The completion contains no code.")
    # The first line may have lost the indentation that the prompt's last characters gave it.
    rest = [line for line in lines[1:] if line.strip()]
    if rest and not lines[0].startswith(" ") and rest[0].startswith(" "):
        indents = [len(line) - len(line.lstrip()) for line in rest]
        own = indents[0]
        if lines[0].endswith(":"):  # what follows is its block, and one level further in
            own = min(indents) if min(indents) < own else max(own - 4, 0)
        lines[0] = " " * own + lines[0]
    for start in range(len(lines)):
        head = lines[start].strip()
        if not head or head.startswith("#") or not _STATEMENT.match(head):
            continue
        body = _longest_body(lines[start:], search)
        if body is not None:
            return Forward(arguments, body)
        if search.is_over:
            return Refusal(
                RefusalKind.TOO_LONG,
                "The completion has too many lines that could be a body of forward to try them all.",
            )
    if "return" not in text:
        return Refusal(RefusalKind.EMPTY, "The completion returns nothing.")
    return _syntax_refusal("\n".join(lines))


def _longest_body(lines: list[str], search: _Search) -> list[ast.stmt] | None:
    """The statements of the longest prefix of ``lines`` that parses and returns on its own level."""
    shortest = next((place for place, line in enumerate(lines, 1) if "return" in line), len(lines) + 1)
    for end in range(len(lines), shortest - 1, -1):
        block = textwrap.indent(textwrap.dedent("\n".join(lines[:end])), "    ")
        tree = search.parse(f"def f():\n{block}\n")
        if search.is_over:
            return None
        if tree is not None and len(tree.body) == 1:
            function = tree.body[0]
            assert isinstance(function, ast.FunctionDef)
            body = _without_docstring(function.body)
            # What a shorter prefix says, this one says too: if it returns nothing, none does.
            return body if _returns(body) else None
    return None


def _longest_module(lines: list[str]) -> ast.Module | None:
    for end in range(len(lines), 0, -1):
        tree = _parse("\n".join(lines[:end]))
        if tree is not None and tree.body:
            return tree
    return None


def _parse(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _syntax_refusal(source: str) -> Refusal:
    try:
        ast.parse("def f(self):\n" + textwrap.indent(textwrap.dedent(source), "    "))
    except SyntaxError as error:
        line = (error.lineno or 2) - 1
        return Refusal(RefusalKind.SYNTAX, f"The completion is not Python (line {line}: {error.msg}).")
    except (ValueError, RecursionError, MemoryError) as error:
        return Refusal(RefusalKind.SYNTAX, f"The completion cannot be parsed ({type(error).__name__}).")
    return Refusal(RefusalKind.EMPTY, "The completion returns nothing.")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    return [
        node
        for node in body
        if not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
    ]


def _returns(body: list[ast.stmt]) -> bool:
    """Whether some statement returns a value."""
    return any(isinstance(node, ast.Return) and node.value is not None for top in body for node in ast.walk(top))
