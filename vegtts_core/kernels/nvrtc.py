"""CUDA C++ in, a cubin out: NVRTC from NVIDIA's wheels, on any machine, with or without a GPU.

``cuda-bindings`` and ``nvidia-cuda-nvrtc`` are all it needs; a kernel takes some ten milliseconds. It compiles in the
calling process: the evaluator calls it in a sandboxed one.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.kernels.types import CODE_NAME, CompileError, Diagnostic

H100 = "sm_90"
"""The architecture that is compiled for unless another is asked for."""
SOURCE_NAME = "kernel.cu"

_DIAGNOSTIC = re.compile(
    rf"^(?:{CODE_NAME}|{re.escape(SOURCE_NAME)})\((\d+)\): (?:catastrophic )?error(?: #[\w-]+)?: (.*)$", re.MULTILINE
)


def options(architecture: str = H100) -> tuple[str, ...]:
    """What kernels are compiled with."""
    return (f"--gpu-architecture={architecture}", "--std=c++17", "--disable-warnings")


def require() -> None:
    """Raise UserError if NVRTC is not installed."""
    try:
        _nvrtc().nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"CUDA kernels cannot be compiled here ({error}): install cuda-bindings and nvidia-cuda-nvrtc."
        ) from error


def compile_cubin(source: str, with_options: Sequence[str] = ()) -> bytes:
    """The cubin of a translation unit; ``with_options`` are `options` for an H100 if none are given.

    Raises CompileError with lines of the source (or of its ``#line``), UserError if NVRTC is not installed.
    """
    require()
    nvrtc = _nvrtc()
    flags = [option.encode() for option in with_options or options()]
    (program,) = _done(nvrtc.nvrtcCreateProgram(source.encode(errors="replace"), SOURCE_NAME.encode(), 0, [], []))
    try:
        (outcome,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        if outcome != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * _done(nvrtc.nvrtcGetProgramLogSize(program))[0]
            _done(nvrtc.nvrtcGetProgramLog(program, log))
            text = log.rstrip(b"\0").decode(errors="replace") or str(outcome)
            raise CompileError(text, tuple(Diagnostic(int(line), said) for line, said in _DIAGNOSTIC.findall(text)))
        cubin = b" " * _done(nvrtc.nvrtcGetCUBINSize(program))[0]
        _done(nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc() -> Any:
    return importlib.import_module("cuda.bindings.nvrtc")


def _done(answer: Any) -> tuple:
    """What a call of NVRTC returned besides its status. Raises RuntimeError if it failed."""
    status, *values = answer
    if int(status) != 0:
        raise RuntimeError(f"NVRTC failed: {status}")
    return tuple(values)
