"""Other ways to write the body of a training task's ``forward``: function for method, operator for function, layout.

A policy that has seen one answer per task copies it. The rules below turn a body into many, most of them right and some
of another speed (a layout, a fused call); like every demonstration they are judged before they count, so a rule need
not hold everywhere.
"""

from __future__ import annotations

import re

from vegtts_core.tasks import Task

#: Pattern and what may stand in its place; applied wherever they match, once or twice in a row.
_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"torch\.matmul\((\w+(?:\.T)?), (\w+(?:\.T)?)\)",
        (
            r"\1 @ \2",
            r"torch.mm(\1, \2)",
            r"\1.matmul(\2)",
            r"\1.mm(\2)",
            r"F.linear(\1, \2.t())",
            r"torch.einsum('ij,jk->ik', \1, \2)",
            r"torch.tensordot(\1, \2, 1)",
        ),
    ),
    (r"torch\.bmm\((\w+), (\w+)\)", (r"\1 @ \2", r"\1.bmm(\2)", r"torch.matmul(\1, \2)", r"\1.matmul(\2)")),
    (r'torch\.einsum\("bijl,lk->bijk", A, B\)', (r"A @ B", r"torch.tensordot(A, B, 1)", r"A.matmul(B)")),
    (r"\b([AB])\.T\b", (r"\1.t()", r"\1.transpose(0, 1)", r"\1.mT")),
    (r"(?:torch|F)\.(\w+)\((\w+)\)", (r"\2.\1()", r"F.\1(\2)", r"torch.\1(\2)")),
    (r"(?:torch|F)\.(\w+)\((\w+), ", (r"\2.\1(", r"torch.\1(\2, ")),
    (r"torch\.relu\(x\)", ("x.clamp(min=0)", "torch.clamp(x, min=0)", "torch.maximum(x, x.new_zeros(()))")),
    (r"\bx \* torch\.sigmoid\(x\)", ("F.silu(x)", "torch.sigmoid(x).mul(x)", "x / (1 + torch.exp(-x))")),
    (r"torch\.sigmoid\(x\)", ("1 / (1 + torch.exp(-x))", "torch.sigmoid(x.contiguous())")),
    (r", keepdim=True\)", (", True)",)),
    (r"dim=([\w.]+)\)\[0\]", (r"dim=\1).values",)),
    (r"torch\.(max|min)\(x, dim=([\w.]+)\)\[0\]", (r"torch.a\1(x, dim=\2)", r"x.a\1(\2)")),
    (r"\bdim=(self\.dim|1)\b", (r"\1",)),
    (r"(\w+) / (torch\.norm\(.*\)|norm)$", (r"\1.div(\2)", r"\1 * (1 / \2)")),
    (r"\*\* 2", (".square()",)),
    (
        r"self\.(\w+)\(x\)",
        (
            r"self.\1.forward(x)",
            r"self.\1(x.contiguous())",
            r"self.\1(x.contiguous(memory_format=torch.channels_last))",
            r"self.\1(x.to(memory_format=torch.channels_last_3d))",
            r"F.conv{n}d(x, self.\1.weight, self.\1.bias, self.\1.stride, self.\1.padding)",
            r"F.conv{n}d(x, self.\1.weight, self.\1.bias, self.\1.stride, self.\1.padding, self.\1.dilation, "
            r"self.\1.groups)",
            r"torch.conv{n}d(x, self.\1.weight, None, self.\1.stride, self.\1.padding)",
            r"F.conv_transpose{n}d(x, self.\1.weight, self.\1.bias, self.\1.stride, self.\1.padding)",
        ),
    ),
)
_DEPTH = 2
_BOUND = (r"^return (.*)$", "out = \\1\nreturn out")
_CONVOLUTION = re.compile(r"nn\.Conv(Transpose)?([123])d\(")


def rewrites(task: Task, body: str) -> list[str]:
    """Bodies that the rules make of ``body``, a body for ``task``; itself left out, each once."""
    convolution = _CONVOLUTION.search(task.source)
    found: dict[str, None] = {body: None}
    layer = [body]
    for _ in range(_DEPTH):
        layer = [
            new.replace("{n}", convolution.group(2) if convolution else "")
            for old in layer
            for pattern, replacements in _RULES
            for replacement in replacements
            if _suits(replacement, convolution)
            and (new := re.sub(pattern, replacement, old, flags=re.MULTILINE)) not in found
        ]
        found |= dict.fromkeys(layer)
    found |= {re.sub(*_BOUND, text, flags=re.MULTILINE): None for text in list(found)}
    return [text for text in found if text != body]


def _suits(replacement: str, convolution: re.Match[str] | None) -> bool:
    """A functional convolution stands only for a layer of its kind, a three-dimensional layout for three dimensions."""
    if "{n}" in replacement:
        return convolution is not None and bool(convolution.group(1)) == ("transpose" in replacement)
    if "channels_last" in replacement:
        dimensions = convolution.group(2) if convolution else "2"
        return dimensions == ("3" if "3d" in replacement else "2")
    return True
