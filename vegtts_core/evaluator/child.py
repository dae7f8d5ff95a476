"""What runs in a candidate's process: build the module or kernel, then answer commands until the evaluator hangs up.

The reference runs through the same code in a process of its own, so that both carry the same overheads. Nothing in
this process is trusted once a candidate's source has run in it; what it admits of itself is a courtesy to the reader.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
import traceback
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vegtts_core.evaluator import jail, on_gpu
from vegtts_core.evaluator.cores import keep_to_cores
from vegtts_core.evaluator.jail import Resources
from vegtts_core.evaluator.kernel_profile import LOADING
from vegtts_core.evaluator.library import Kernel, build
from vegtts_core.evaluator.messages import ADDRESS, MESSAGE_LIMIT, Assignment, Command, Program, Reply, Slot, one_line
from vegtts_core.evaluator.profiles import ANY_PYTHON, ONE_PROCESS
from vegtts_core.evaluator.sandbox import Sandbox, confine, limit
from vegtts_core.evaluator.shared_memory import map_slots
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.kernels.types import CompileError


class _Failure(Exception):
    """A failure that this process admits."""

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def run(assignment: Assignment, fds: dict[str, int], box: Sandbox) -> None:
    """Build and serve. Returns when the evaluator closes the control socket."""
    control = socket.socket(fileno=fds["control"])
    kernel = Kernel(assignment, fds) if assignment.program is Program.KERNEL else None
    torch.set_num_threads(assignment.threads)
    if assignment.program not in (Program.COMPILER, Program.NVRTC):
        keep_to_cores(assignment.threads)
    if assignment.gpu is not None:
        on_gpu.leave_files(box, assignment.gpu, assignment.threads)  # before CUDA starts threads: see `sandbox`
        try:
            arenas = _mapped(assignment, fds)
        except BaseException as error:
            _admit(control, _Failure(ErrorKind.CRASH, str(_described(error, ErrorKind.CRASH))))
            return
        limit(box, ANY_PYTHON, on_gpu.resources(assignment))
        control.send(Reply.WAITING.value)
    else:
        if assignment.is_read:
            memory = jail.open_memory()
            socket.send_fds(control, [Reply.MEMORY.value], [memory])
            os.close(memory)
        arenas = _mapped(assignment, fds)
        resources = Resources(assignment.memory_bytes, assignment.file_bytes, assignment.cpu_seconds)
        one = LOADING if kernel is not None else ONE_PROCESS
        confine(box, ANY_PYTHON if assignment.any_python else one, resources)
    inputs, shared, (output,) = arenas
    weights = dict(zip(assignment.weights, shared, strict=True))
    lacking = sorted(assignment.layers & box.missing.keys())
    if lacking:
        _admit(control, _Failure(ErrorKind.CRASH, f"its sandbox could not be put up: {lacking[0]} is missing"))
        return
    if assignment.program in (Program.COMPILER, Program.NVRTC):
        _compile(assignment, control, output, box.scratch)
        return
    if kernel is not None:
        _serve_kernel(control, kernel)
        return
    with torch.no_grad():
        try:
            module = _build(assignment, weights)
        except BaseException as error:
            _admit(control, _described(error, ErrorKind.COMPILE_ERROR))
            return
        control.send(Reply.READY.value)
        _serve(assignment, control, module, inputs, weights, output)


def _mapped(assignment: Assignment, fds: dict[str, int]) -> list[list[torch.Tensor]]:
    """Tensors over the inputs, weights and output that are shared with the evaluator; their files are closed.

    Where the result is read the output is a tensor like it, and nothing is shared.
    """
    names = ("inputs", "weights", "output")
    slots = (assignment.arguments, list(assignment.weights.values()), [assignment.output])
    writable = (assignment.writable_inputs, False, True)
    sizes = assignment.device_bytes
    shared = names[:2] if assignment.is_read else names
    found = [
        map_slots(fds[name], these, may) if sizes is None else _on_device(fds[name], size, these, may)
        for name, these, may, size in zip(shared, slots, writable, sizes or (0, 0, 0), strict=False)
    ]
    for name in names:
        os.close(fds[name])
    if assignment.is_read:
        found.append([torch.empty((), dtype=assignment.output.dtype).expand(assignment.output.shape)])
    return found


def wait(fds: dict[str, int], box: Sandbox) -> None:
    """Start CUDA, which can be done before it is known what for; then `run` the assignment that comes."""
    import torch.cuda

    torch.cuda.init()
    torch.zeros(1, device="cuda")
    control = socket.socket(fileno=fds["control"])
    control.send(Reply.WAITING.value)
    message, sent, _, _ = socket.recv_fds(control, 1, 4)
    if not message:
        return
    assignment = pickle.loads(os.pread(sent[0], os.fstat(sent[0]).st_size, 0))
    os.close(sent[0])
    control.detach()
    run(assignment, fds | dict(zip(("inputs", "weights", "output"), sent[1:], strict=True)), box)


def _on_device(fd: int, size: int, slots: Sequence[Slot], writable: bool) -> list[torch.Tensor]:
    """Tensors in device memory. Starts CUDA, which takes a third of a second and cannot be done once confined."""
    from vegtts_core.evaluator.cuda.memory import map_slots as map_on_device

    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    return map_on_device(fd, size, slots, writable)


def _build(assignment: Assignment, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The module of the assignment's source, with the shared weights."""
    itself = types.ModuleType("candidate")
    namespace: dict[str, Any] = itself.__dict__
    name = "<candidate>"
    if assignment.any_python:  # compilers of Python (torch.jit, Triton) look for its file and its module
        name = namespace["__file__"] = os.path.abspath("candidate.py")
        sys.modules["candidate"] = itself
        with open(name, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(assignment.source)
    exec(compile(assignment.source, name, "exec", dont_inherit=True), namespace)
    make: Any = namespace.get(assignment.class_name)
    if make is None:
        raise _Failure(ErrorKind.COMPILE_ERROR, f"it does not define {assignment.class_name}")
    module = make(*assignment.init_arguments)
    if not isinstance(module, nn.Module):
        raise _Failure(ErrorKind.COMPILE_ERROR, f"{assignment.class_name} is not an nn.Module")
    module.train(assignment.training)
    if assignment.device_bytes is not None:
        module.cuda()
    _load(module, weights)
    return module


def _load(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    described = {name: (tuple(value.shape), value.dtype) for name, value in own.items()}
    wanted = {name: (tuple(value.shape), value.dtype) for name, value in weights.items()}
    if described != wanted and list(described.values()) == list(wanted.values()):
        weights = dict(zip(own, weights.values(), strict=True))  # other names: then their order tells which is which
    elif described != wanted:
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
    finish = torch.cuda.synchronize if output.is_cuda else _nothing
    while command := control.recv(1):
        try:
            if command == Command.LOAD_WEIGHTS.value:
                _load(module, weights)
                finish()
                control.send(Reply.LOADED.value)
            elif command == Command.CALL.value:
                # New tensor objects for every call: what forward does to them (resize_, set_) ends with it.
                fresh = [
                    value.item() if place in assignment.numbers else value.detach()
                    for place, value in enumerate(inputs)
                ]
                result = module(*fresh)
                dense = result.resolve_neg().contiguous() if type(result) is torch.Tensor else result
                if assignment.commits:
                    _check(result, output)
                    output.copy_(dense)
                finish()
                if assignment.is_read:
                    time.process_time()  # as for a kernel
                control.send(Reply.DONE.value + (_address_of(dense) if assignment.is_read else b""))
                if control.recv(1) != Command.WRITE.value:
                    return
                _check(result, output)
                if not assignment.writable_inputs:
                    _check_storage(result, fresh)
                if not assignment.is_read:
                    output.copy_(dense)
                finish()
                control.send(Reply.WRITTEN.value)
                del fresh, result, dense  # so that the next call finds the allocator as this one did
        except BaseException as error:
            _admit(control, _described(error, ErrorKind.EXCEPTION))
            return


def _address_of(dense: Any) -> bytes:
    """Where the result lies; at 0 what is none (`_check` says why, when the evaluator has looked)."""
    is_there = type(dense) is torch.Tensor and dense.layout == torch.strided
    return ADDRESS.pack(dense.data_ptr() if is_there else 0)


def _nothing() -> None:
    """On the CPU a call has finished when it returns."""


def _compile(assignment: Assignment, control: socket.socket, output: torch.Tensor, scratch: str) -> None:
    try:
        build(assignment, output, scratch)
    except CompileError as error:
        _admit(control, _Failure(ErrorKind.COMPILE_ERROR, str(error)))
    except BaseException as error:
        _admit(control, _described(error, ErrorKind.COMPILE_ERROR))
    else:
        control.send(Reply.READY.value)
        control.recv(1)


def _serve_kernel(control: socket.socket, kernel: Kernel) -> None:
    """Answer commands. The kernel reads the shared weights itself; its output is written when it returns."""
    try:
        kernel.load()
    except BaseException as error:
        _admit(control, _described(error, ErrorKind.COMPILE_ERROR))
        return
    control.send(Reply.READY.value)
    while command := control.recv(1):
        if command == Command.LOAD_WEIGHTS.value:
            control.send(Reply.LOADED.value)
        elif command == Command.CALL.value:
            kernel.call()
            # The evaluator reads this process's clock: a running thread is behind on it, by up to a tick, till it asks.
            time.process_time()
            control.send(Reply.DONE.value)


def _check(result: Any, output: torch.Tensor) -> None:
    """Name what is wrong with the result's type or shape."""
    if type(result) is not torch.Tensor:
        raise _Failure(ErrorKind.WRONG_TYPE, f"it returned a {type(result).__name__}, not a torch.Tensor")
    if result.layout != torch.strided or result.device != output.device or result.dtype != output.dtype:
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
    if (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in text
        or "not enough memory" in text
    ):
        return _Failure(ErrorKind.OUT_OF_MEMORY, text)
    return _Failure(otherwise, text)


def _admit(control: socket.socket, failure: _Failure) -> None:
    text = f"{failure.kind.value}\n{one_line(str(failure))}".encode(errors="replace")
    control.send(Reply.FAILED.value + text[: MESSAGE_LIMIT - 1])
