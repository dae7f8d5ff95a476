"""Whether a parsed ``forward`` body stays within the allow-list, and the reason if it does not.

The check is static and knows nothing of types: an attribute on any expression must be a tensor's, a dotted name that
begins with ``torch``, ``nn``, ``F`` or ``math`` must be in that namespace's list, and ``self`` offers only what the
reference's constructor set.
"""

from __future__ import annotations

import ast

from vegtts_core.scaffolds import allowlist

_STATEMENTS = (ast.Return, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.If, ast.For, ast.Pass, ast.Break, ast.Continue)
_EXPRESSIONS = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Attribute, ast.Subscript, ast.Slice,
    ast.Name, ast.Constant, ast.Tuple, ast.List, ast.ListComp, ast.GeneratorExp, ast.Starred,
)  # fmt: skip
_OTHER = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.keyword, ast.comprehension)

#: A power or shift of literals can cost unbounded time before any limit on the candidate applies.
_MAX_INTEGER = 2**63

_ROOTS = {"torch", "nn", "F", "math"}
_ATTRIBUTES = allowlist.TENSOR_FUNCTIONS | allowlist.TENSOR_ATTRIBUTES


class _Refused(Exception):
    """Carries the reason out of the walk."""


def check_body(body: list[ast.stmt], arguments: tuple[str, ...], attributes: frozenset[str]) -> str | None:
    """None if ``body`` may run, else the reason in one sentence.

    ``arguments``: parameter names of ``forward``; ``attributes``: what the reference sets on ``self``.
    """
    names = set(arguments) | _assigned(body)
    try:
        shadowed = names & (_ROOTS | {"self"} | allowlist.BUILTINS)
        if shadowed:
            raise _Refused(f"It assigns to {sorted(shadowed)[0]}, which it must not redefine.")
        for statement in body:
            _check(statement, names, attributes)
    except _Refused as refused:
        return str(refused)
    except RecursionError:
        return "It is nested too deeply to be checked."
    return None


def _assigned(body: list[ast.stmt]) -> set[str]:
    return {
        node.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _check(node: ast.AST, names: set[str], attributes: frozenset[str]) -> None:
    if not isinstance(node, _STATEMENTS + _EXPRESSIONS + _OTHER):
        raise _Refused(f"It uses {_spoken(node)}, which the forward scaffold does not allow.")
    if isinstance(node, ast.Attribute):
        _check_attribute(node, names, attributes)
        return
    if isinstance(node, ast.Name):
        _check_name(node, names)
    elif isinstance(node, ast.Constant):
        _check_constant(node)
    elif isinstance(node, ast.Call):
        _check_call(node)
    for child in ast.iter_child_nodes(node):
        _check(child, names, attributes)


def _check_name(node: ast.Name, names: set[str]) -> None:
    if node.id in names or node.id in allowlist.BUILTINS:
        return
    if node.id == "self":
        raise _Refused("It uses self other than to read an attribute.")
    if node.id in _ROOTS:
        raise _Refused(f"It uses the module {node.id} as a value.")
    raise _Refused(f"It uses the name {node.id}, which is neither an argument, nor assigned, nor on the allow-list.")


def _check_constant(node: ast.Constant) -> None:
    if isinstance(node.value, bytes):
        raise _Refused("It contains bytes.")
    if isinstance(node.value, int) and abs(node.value) > _MAX_INTEGER:
        raise _Refused("It contains an integer beyond 64 bits.")


def _check_call(node: ast.Call) -> None:
    for keyword in node.keywords:
        if keyword.arg is None:
            raise _Refused("It unpacks keywords with **.")
        if keyword.arg in allowlist.FORBIDDEN_KEYWORDS or keyword.arg.startswith("_"):
            raise _Refused(f"It passes the keyword {keyword.arg}, which is not allowed.")
        if keyword.arg == "device" and not _is_device_of_a_tensor(keyword.value):
            raise _Refused("It names a device; only another tensor's device may be passed on.")
    if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                raise _Refused("It moves a tensor to a device.")


def _is_device_of_a_tensor(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "device"


def _check_attribute(node: ast.Attribute, names: set[str], attributes: frozenset[str]) -> None:
    if not isinstance(node.ctx, ast.Load):
        raise _Refused(f"It assigns to the attribute {node.attr}.")
    if node.attr.startswith("_") or node.attr.endswith("_"):
        raise _Refused(f"It uses the attribute {node.attr}; private and in-place names are not allowed.")
    dotted = _dotted(node)
    root = dotted.split(".")[0] if dotted else None
    if root in _ROOTS and root not in names:
        assert dotted is not None
        _check_dotted(dotted)
        return
    if root == "self":
        assert dotted is not None
        _check_self(dotted, attributes)
        return
    if node.attr not in _ATTRIBUTES:
        raise _Refused(f"It uses the method or attribute {node.attr}, which is not on the allow-list.")
    _check(node.value, names, attributes)


def _check_dotted(dotted: str) -> None:
    """``torch.linalg.norm``, or a namespace's value followed by a tensor's attributes (``torch.pi.real``)."""
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        namespace = ".".join(parts[:length])
        if namespace in allowlist.NAMESPACES:
            if parts[length] not in allowlist.NAMESPACES[namespace]:
                break
            for attribute in parts[length + 1 :]:
                if attribute not in _ATTRIBUTES:
                    raise _Refused(f"It uses {dotted}, which is not on the allow-list.")
            return
    raise _Refused(f"It uses {dotted}, which is not on the allow-list.")


def _check_self(dotted: str, attributes: frozenset[str]) -> None:
    parts = dotted.split(".")[1:]
    if parts[0] not in attributes:
        raise _Refused(f"It reads self.{parts[0]}, which the reference does not have.")
    for attribute in parts[1:]:
        if attribute not in allowlist.MODULE_ATTRIBUTES | _ATTRIBUTES:
            raise _Refused(f"It uses {dotted}, which is not on the allow-list.")


def _dotted(node: ast.expr) -> str | None:
    """``a.b.c`` as text if the expression is nothing but names and dots."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = _dotted(node.value)
        return f"{left}.{node.attr}" if left else None
    return None


def _spoken(node: ast.AST) -> str:
    names: dict[type[ast.AST], str] = {
        ast.Import: "an import",
        ast.ImportFrom: "an import",
        ast.While: "a while loop",
        ast.FunctionDef: "a function definition",
        ast.ClassDef: "a class definition",
        ast.Lambda: "a lambda",
        ast.Global: "global",
        ast.Nonlocal: "nonlocal",
        ast.With: "a with statement",
        ast.Try: "a try statement",
        ast.Raise: "raise",
        ast.Assert: "assert",
        ast.Delete: "del",
        ast.Expr: "a statement that only has an effect",
        ast.JoinedStr: "an f-string",
        ast.Dict: "a dictionary",
        ast.Set: "a set",
        ast.NamedExpr: "an assignment expression",
        ast.Await: "await",
        ast.Yield: "yield",
        ast.YieldFrom: "yield from",
        ast.Match: "a match statement",
    }
    return names.get(type(node), type(node).__name__)
