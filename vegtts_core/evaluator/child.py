"""What runs in a candidate's process: build the module, then answer commands until the evaluator hangs up.

The reference runs through the same code in a process of its own, so that both carry the same overheads. Nothing in
this process is trusted once a candidate's source has run in it; what it admits of itself is a courtesy to the reader.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vegtts_core.evaluator import jail
from vegtts_core.evaluator.messages import MESSAGE_LIMIT, Assignment, Command, Reply, one_line
from vegtts_core.evaluator.shared_memory import map_slots
from vegtts_core.evaluator.types import ErrorKind


class _Failure(Exception):
    """A failure that this process admits."""

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def run(assignment: Assignment, fds: dict[str, int], own_users: bool) -> None:
    """Build and serve. Returns when the evaluator closes the control socket."""
    control = socket.socket(fileno=fds["control"])
    inputs = map_slots(fds["inputs"], assignment.arguments, assignment.writable_inputs)
    weights = dict(
        zip(assignment.weights, map_slots(fds["weights"], list(assignment.weights.values()), False), strict=True)
    )
    (output,) = map_slots(fds["output"], [assignment.output], True)
    for name in ("inputs", "weights", "output"):
        os.close(fds[name])
    torch.set_num_threads(assignment.threads)
    jail.limit_resources(assignment.memory_bytes, assignment.printed_bytes, assignment.cpu_seconds, own_users)
    jail.drop_privileges()
    with torch.no_grad():
        try:
            module = _build(assignment, weights)
        except BaseException as error:
            _admit(control, _described(error, ErrorKind.COMPILE_ERROR))
            return
        control.send(Reply.READY.value)
        _serve(assignment, control, module, inputs, weights, output)


def _build(assignment: Assignment, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The module of the assignment's source, with the shared weights."""
    namespace: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(assignment.source, "<candidate>", "exec", dont_inherit=True), namespace)
    make: Any = namespace.get(assignment.class_name)
    if make is None:
        raise _Failure(ErrorKind.COMPILE_ERROR, f"it does not define {assignment.class_name}")
    module = make(*assignment.init_arguments)
    if not isinstance(module, nn.Module):
        raise _Failure(ErrorKind.COMPILE_ERROR, f"{assignment.class_name} is not an nn.Module")
    module.train(assignment.training)
    _load(module, weights)
    return module


def _load(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    described = {name: (tuple(value.shape), value.dtype) for name, value in own.items()}
    wanted = {name: (tuple(value.shape), value.dtype) for name, value in weights.items()}
    if described != wanted:
        names = ", ".join(sorted(set(described.items()) ^ set(wanted.items()), key=str)[0][:1])
        raise _Failure(ErrorKind.COMPILE_ERROR, f"its weights are not the reference's (first difference: {names})")
    for name, value in own.items():
        value.copy_(weights[name])


def _serve(
    assignment: Assignment,
    control: socket.socket,
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    weights: dict[str, torch.Tensor],
    output: torch.Tensor,
) -> None:
    while command := control.recv(1):
        try:
            if command == Command.LOAD_WEIGHTS.value:
                _load(module, weights)
                control.send(Reply.LOADED.value)
            elif command == Command.CALL.value:
                # New tensor objects for every call: what forward does to them (resize_, set_) ends with it.
                fresh = [
                    value.item() if place in assignment.numbers else value.detach()
                    for place, value in enumerate(inputs)
                ]
                result = module(*fresh)
                dense = result.contiguous() if type(result) is torch.Tensor else result
                control.send(Reply.DONE.value)
                if control.recv(1) != Command.WRITE.value:
                    return
                _check(result, output)
                if not assignment.writable_inputs:
                    _check_storage(result, fresh)
                output.copy_(dense)
                control.send(Reply.WRITTEN.value)
                del fresh, result, dense  # so that the next call finds the allocator as this one did
        except BaseException as error:
            _admit(control, _described(error, ErrorKind.EXCEPTION))
            return


def _check(result: Any, output: torch.Tensor) -> None:
    """Name what is wrong with the result's type or shape."""
    if type(result) is not torch.Tensor:
        raise _Failure(ErrorKind.WRONG_TYPE, f"it returned a {type(result).__name__}, not a torch.Tensor")
    if result.layout != torch.strided or result.device.type != "cpu" or result.dtype != output.dtype:
        raise _Failure(
            ErrorKind.WRONG_TYPE,
            f"it returned a {result.layout} tensor of {result.dtype} on {result.device.type}, "
            f"not a dense one of {output.dtype}",
        )
    if result.shape != output.shape:
        raise _Failure(
            ErrorKind.WRONG_SHAPE, f"it returned shape {tuple(result.shape)}, the reference {tuple(output.shape)}"
        )


def _check_storage(result: torch.Tensor, arguments: Sequence[torch.Tensor | float]) -> None:
    """Say so if the result is an input. (If it is, the evaluator has overwritten it by now: see `processes`.)"""
    start = result.untyped_storage().data_ptr()
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and result.numel():
            storage = argument.untyped_storage()
            if storage.data_ptr() <= start < storage.data_ptr() + storage.nbytes():
                raise _Failure(ErrorKind.INPUT_ALIASED, "it returned one of its inputs, or a view of one")


def _described(error: BaseException, otherwise: ErrorKind) -> _Failure:
    """The failure behind an exception: running out of memory has its own kind, everything else is ``otherwise``."""
    if isinstance(error, _Failure):
        return error
    text = one_line("".join(traceback.format_exception_only(error)))
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "not enough memory" in text:
        return _Failure(ErrorKind.OUT_OF_MEMORY, text)
    return _Failure(otherwise, text)


def _admit(control: socket.socket, failure: _Failure) -> None:
    text = f"{failure.kind.value}\n{one_line(str(failure))}".encode(errors="replace")
    control.send(Reply.FAILED.value + text[: MESSAGE_LIMIT - 1])
