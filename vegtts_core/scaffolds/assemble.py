"""From a checked body to a candidate's module: the reference's own class, renamed, with another ``forward``.

Everything but ``forward`` stays as the reference has it, so a candidate cannot change what it is compared on
(``get_inputs`` and ``get_init_inputs`` are left out: inputs come from the evaluator alone).
"""

from __future__ import annotations

import ast

from vegtts_core.errors import UserError

_IMPORTS = "import math\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def reference_class(source: str) -> ast.ClassDef:
    """The class ``Model`` of a KernelBench-format module. Raises UserError if there is none."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "Model":
            return node
    raise UserError("The task's module defines no class Model; give a KernelBench-format module.")


def reference_attributes(source: str) -> frozenset[str]:
    """Names that the constructor of ``Model`` sets on ``self``."""
    return frozenset(
        node.attr
        for node in ast.walk(reference_class(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def assemble(source: str, arguments: tuple[str, ...], body: list[ast.stmt]) -> str:
    """The candidate's module: ``ModelNew`` with ``forward(self, *arguments)`` doing ``body``."""
    tree = ast.parse(source)
    kept: list[ast.stmt] = list(ast.parse(_IMPORTS).body)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in ("get_inputs", "get_init_inputs"):
            continue
        if isinstance(node, ast.ClassDef) and node.name == "Model":
            node.body = [
                inner
                for inner in node.body
                if not (isinstance(inner, ast.FunctionDef) and inner.name == "forward") and not _is_docstring(inner)
            ]
            node.body.append(_forward(arguments, body))
            node.name = "ModelNew"
        kept.append(node)
    for node in kept:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id == "Model":
                inner.id = "ModelNew"
    return ast.unparse(ast.fix_missing_locations(ast.Module(kept, []))) + "\n"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _forward(arguments: tuple[str, ...], body: list[ast.stmt]) -> ast.FunctionDef:
    function = ast.parse(f"def forward({', '.join(('self', *arguments))}):\n    pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = body
    return function
