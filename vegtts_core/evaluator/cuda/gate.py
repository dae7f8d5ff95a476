"""The evaluator's own kernels, ready for launchers and for this process (`vegtts_core.kernels.cuda.gate`)."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from vegtts_core.evaluator.compiling import sealed_file
from vegtts_core.kernels import nvrtc
from vegtts_core.kernels.calling import checked
from vegtts_core.kernels.cuda.gate import FLUSH, FLUSH_BLOCK, FLUSH_GRID, GATE, LIMIT_NANOSECONDS, SOURCE
from vegtts_core.kernels.signature import ENTRY

_ONE = (1, 1, 1)
#: What the clocks may differ by, beyond the usual: in seconds, and as a share of the call.
_SLACK_SECONDS, _SLACK_SHARE = 20e-6, 0.02


def unseen(difference: float, usual: float, seconds: float) -> float:
    """What to charge for ``difference`` between host clock and events, usually ``usual``, in a call of ``seconds``."""
    return max(0.0, difference - usual - _SLACK_SECONDS - _SLACK_SHARE * seconds)


class OwnKernels:
    """Their cubin (``fd``, a sealed file, for launchers), and flush and gate of this process's current stream."""

    def __init__(self, architecture: str) -> None:
        """``architecture`` as in ``sm_90``. Raises UserError if NVRTC is not installed, RuntimeError of the driver."""
        cubin = nvrtc.compile_cubin(SOURCE, nvrtc.options(architecture))
        self.fd = sealed_file(cubin)
        self._driver = importlib.import_module("cuda.bindings.driver")
        torch.cuda.current_stream()  # the device's primary context, which torch makes
        (self._module,) = checked(self._driver.cuModuleLoadData(cubin))
        (self._gate,) = checked(self._driver.cuModuleGetFunction(self._module, GATE.encode()))
        (self._flush,) = checked(self._driver.cuModuleGetFunction(self._module, FLUSH.encode()))
        self._flag = torch.zeros(1, dtype=torch.int32).pin_memory()
        (self._nothing,) = checked(self._driver.cuModuleGetFunction(self._module, ENTRY.encode()))
        self._reached = torch.cuda.Event()
        self._turn = 0
        #: When the gate was opened last, by `time.perf_counter`.
        self.opened = 0.0
        #: Seconds from there until the device is idle that events do not see, usually.
        self.overhead = self._calibrate()

    def _calibrate(self, calls: int = 9) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        found = []
        for _ in range(calls):
            with self.gate():
                start.record()
                self._launch(self._nothing, _ONE, (32, 1, 1), ctypes.c_void_p(0))
                end.record()
            torch.cuda.synchronize()
            found.append(time.perf_counter() - self.opened - start.elapsed_time(end) / 1e3)
        return statistics.median(found)

    def flush(self, buffer: torch.Tensor) -> None:
        """Queue writing zeros over a contiguous tensor on the device, of a multiple of 16 bytes."""
        words = ctypes.c_ulonglong(buffer.numel() * buffer.element_size() // 16)
        self._launch(self._flush, FLUSH_GRID, FLUSH_BLOCK, ctypes.c_void_p(buffer.data_ptr()), words)

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """What is queued inside runs once all of it is queued and the device is there, or after `LIMIT_NANOSECONDS`."""
        self._reached.record()
        self._turn += 1
        flag, limit = ctypes.c_void_p(self._flag.data_ptr()), ctypes.c_ulonglong(LIMIT_NANOSECONDS)
        self._launch(self._gate, _ONE, _ONE, flag, ctypes.c_uint(self._turn), limit)
        try:
            yield
            self._reached.synchronize()
        finally:
            self.opened = time.perf_counter()
            self._flag[0] = self._turn

    def _launch(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        stream = torch.cuda.current_stream().cuda_stream
        checked(self._driver.cuLaunchKernel(kernel, *grid, *block, 0, stream, ctypes.addressof(addresses), 0))

    def close(self) -> None:
        """Let go of the kernels; the device is idle."""
        os.close(self.fd)
        torch.cuda.synchronize()
        checked(self._driver.cuModuleUnload(self._module))
