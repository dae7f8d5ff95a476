"""A kernel called on torch tensors in this process: for trusted sources (tests, benchmarks), never for a policy's.

What a policy wrote is compiled and called by the evaluator, in processes of its own. The compilers' commands are the
same.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from vegtts_core.kernels import cpp, nvrtc
from vegtts_core.kernels.signature import ENTRY, ArgumentRole, KernelSignature
from vegtts_core.kernels.types import CompileError, Launch

Call = Callable[[Sequence[torch.Tensor | float], Mapping[str, torch.Tensor], torch.Tensor], None]
"""(inputs of ``forward``, the reference's state dict, output to be written): contiguous tensors of one device."""


def load_cpp(source: str, signature: KernelSignature, folder: Path) -> Call:
    """Compile a trusted translation unit into ``folder`` and return its kernel, for CPU tensors.

    Raises CompileError if it does not compile, UserError if there is no compiler.
    """
    command = cpp.kernel_command()
    library = folder / f"{hashlib.sha256(chr(0).join((source, *command)).encode()).hexdigest()[:32]}.so"
    if not library.exists():
        result = subprocess.run([*command, "-o", str(library)], input=source, capture_output=True, text=True)
        if result.returncode != 0:
            raise CompileError(result.stderr, cpp.diagnostics_in(result.stderr))
    function = ctypes.CDLL(str(library))[ENTRY]
    function.restype = None

    def call(inputs: Sequence[torch.Tensor | float], state: Mapping[str, torch.Tensor], out: torch.Tensor) -> None:
        function(*_arguments(signature, inputs, state, out))

    return call


def load_cuda(source: str, launch: Launch, signature: KernelSignature) -> Call:
    """Compile a trusted translation unit for the current CUDA device and return its kernel, for tensors there.

    A call launches on torch's current stream and does not wait. Raises CompileError if it does not compile, UserError
    if NVRTC is not installed, RuntimeError if the driver refuses.
    """
    driver = importlib.import_module("cuda.bindings.driver")
    torch.cuda.current_stream()  # the device's primary context, which torch makes
    major, minor = torch.cuda.get_device_capability()
    cubin = nvrtc.compile_cubin(source, nvrtc.options(f"sm_{major}{minor}"))
    (module,) = checked(driver.cuModuleLoadData(cubin))
    (function,) = checked(driver.cuModuleGetFunction(module, ENTRY.encode()))

    def call(inputs: Sequence[torch.Tensor | float], state: Mapping[str, torch.Tensor], out: torch.Tensor) -> None:
        arguments = list(_arguments(signature, inputs, state, out))
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        stream = torch.cuda.current_stream().cuda_stream
        checked(
            driver.cuLaunchKernel(
                function, *launch.grid, *launch.block, launch.shared_bytes, stream, ctypes.addressof(addresses), 0
            )
        )

    return call


def checked(answer: tuple) -> tuple:
    """What a function of ``cuda.bindings.driver`` returned beside its result code. Raises RuntimeError if it failed."""
    if int(answer[0]) != 0:
        raise RuntimeError(f"the CUDA driver failed: {answer[0]}")
    return answer[1:]


def _arguments(
    signature: KernelSignature,
    inputs: Sequence[torch.Tensor | float],
    state: Mapping[str, torch.Tensor],
    out: torch.Tensor,
) -> Iterator[ctypes.c_float | ctypes.c_void_p]:
    given = iter(inputs)
    for argument in signature.arguments:
        if argument.role is ArgumentRole.NUMBER:
            yield ctypes.c_float(float(next(given)))
            continue
        if argument.role is ArgumentRole.OUTPUT:
            tensor = out
        else:
            tensor = state[argument.source] if argument.role is ArgumentRole.WEIGHT else next(given)
        assert isinstance(tensor, torch.Tensor) and tensor.is_contiguous() and tensor.device == out.device
        yield ctypes.c_void_p(tensor.data_ptr())
