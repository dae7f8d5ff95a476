"""Reading KernelBench-format modules: their text by ``ast``, what they compute by running them on the meta device.

Nothing is allocated here: on the meta device tensors have shapes and no data. Running a module runs its code, so only
modules of this package and those that the user names come here, never a candidate's.
"""

from __future__ import annotations

import ast
import linecache
import math
import textwrap
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vegtts_core.errors import UserError


def exec_module(source: str) -> dict[str, Any]:
    """The namespace of a KernelBench-format module, executed afresh. Its lines show in tracebacks."""
    name = f"<module {sha256(source.encode()).hexdigest()[:12]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": name}
    # dont_inherit: this file's own __future__ import would turn the module's annotations into strings.
    exec(compile(source, name, "exec", dont_inherit=True), namespace)
    return namespace


@dataclass(frozen=True)
class ForwardText:
    """``Model.forward`` as written: parameter names after ``self``, the ``def`` line in one line, the dedented body."""

    arguments: tuple[str, ...]
    signature: str
    body: str


def forward_text(source: str) -> ForwardText:
    """The text of ``Model.forward`` in ``source``. Raises ``UserError`` where there is none."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UserError(
            f"The module is not valid Python ({error.msg}, line {error.lineno}): give a KernelBench-format module."
        ) from error
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Model"]
    functions = [
        node for cls in classes for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "forward"
    ]
    if not functions:
        raise UserError("The module defines no class Model with a method forward: give a KernelBench-format module.")
    function = functions[-1]
    statements = function.body
    if isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant) and len(statements) > 1:
        statements = statements[1:]
    first, last = statements[0], statements[-1]
    lines = source.splitlines()[first.lineno - 1 : last.end_lineno]
    lines[0] = " " * first.col_offset + (ast.get_source_segment(source, first) or "").splitlines()[0]
    spec = function.args
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return ForwardText(
        arguments=tuple(argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs))[1:],
        signature=f"def forward({ast.unparse(spec)}){returns}:",
        body=textwrap.dedent("\n".join(lines)),
    )


class _ToDevice(TorchFunctionMode):
    """Sends tensors that ask for a device of their own to ``device`` as well."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.cuda, torch.Tensor.cpu):
            return args[0]
        if kwargs.get("device") is not None:
            kwargs["device"] = self._device
        return func(*args, **kwargs)


@dataclass(frozen=True)
class MetaRun:
    """What running a module on the meta device shows.

    ``init_inputs`` are the constructor's arguments, ``inputs`` what ``get_inputs`` returns (meta tensors, plain
    numbers), ``output`` what ``model`` made of them; ``flop`` counts matrix work only (2 per multiply-add, convolutions
    by the direct method); ``min_bytes`` is every input, parameter and output once.
    """

    model: torch.nn.Module
    init_inputs: tuple[Any, ...]
    inputs: tuple[Any, ...]
    output: Any
    flop: float
    min_bytes: int


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return []


def _nbytes(value: Any) -> int:
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in _tensors(value))


def _build(namespace: dict[str, Any]) -> torch.nn.Module:
    """``Model`` on the meta device; a constructor that looks at numbers runs on the CPU and its weights are dropped."""
    try:
        return _build_on(namespace, "meta")
    except (RuntimeError, NotImplementedError):
        return _build_on(namespace, "cpu").to("meta")


def _build_on(namespace: dict[str, Any], device: str) -> torch.nn.Module:
    with torch.device(device), _ToDevice(device):
        return namespace["Model"](*namespace["get_init_inputs"]())


def run_on_meta(source: str) -> MetaRun:
    """Draws the inputs, builds ``Model`` and runs it once, all on the meta device."""
    namespace = exec_module(source)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model = _build(namespace)
        with torch.device("meta"), _ToDevice("meta"):
            inputs = tuple(namespace["get_inputs"]())
            with FlopCounterMode(display=False) as counter:
                output = model(*inputs)
    min_bytes = _nbytes(inputs) + _nbytes(list(model.parameters())) + _nbytes(output)
    init_inputs = tuple(namespace["get_init_inputs"]())
    return MetaRun(model, init_inputs, inputs, output, float(counter.get_total_flops()), min_bytes)
