"""The evaluator's own kernels, ready for launchers and for this process (`vegtts_core.kernels.cuda.gate`)."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from collections.abc import Iterator

import torch

from vegtts_core.evaluator.compiling import sealed_file
from vegtts_core.kernels import nvrtc
from vegtts_core.kernels.calling import checked
from vegtts_core.kernels.cuda.gate import GATE, LIMIT_NANOSECONDS, SOURCE


class OwnKernels:
    """Their cubin (``fd``, a sealed file, for launchers) and the gate of this process's current stream."""

    def __init__(self, architecture: str) -> None:
        """``architecture`` as in ``sm_90``. Raises UserError if NVRTC is not installed, RuntimeError of the driver."""
        cubin = nvrtc.compile_cubin(SOURCE, nvrtc.options(architecture))
        self.fd = sealed_file(cubin)
        self._driver = importlib.import_module("cuda.bindings.driver")
        torch.cuda.current_stream()  # the device's primary context, which torch makes
        (self._module,) = checked(self._driver.cuModuleLoadData(cubin))
        (self._gate,) = checked(self._driver.cuModuleGetFunction(self._module, GATE.encode()))
        self._flag = torch.zeros(1, dtype=torch.int32).pin_memory()
        self._turn = 0

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """What is queued inside runs once all of it is queued, or after `LIMIT_NANOSECONDS`."""
        self._turn += 1
        arguments = (
            ctypes.c_void_p(self._flag.data_ptr()),
            ctypes.c_uint(self._turn),
            ctypes.c_ulonglong(LIMIT_NANOSECONDS),
        )
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        stream = torch.cuda.current_stream().cuda_stream
        one = (1, 1, 1)
        checked(self._driver.cuLaunchKernel(self._gate, *one, *one, 0, stream, ctypes.addressof(addresses), 0))
        try:
            yield
        finally:
            self._flag[0] = self._turn

    def close(self) -> None:
        """Let go of the kernels; the device is idle."""
        os.close(self.fd)
        torch.cuda.synchronize()
        checked(self._driver.cuModuleUnload(self._module))
