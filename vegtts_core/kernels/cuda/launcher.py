"""The launcher: a process that maps shared device memory, loads cubins, launches their kernel and reads the events.

Its host code is all trusted; the kernels are not. A kernel can reach what is mapped here and nothing else: inputs and
weights read-only, its output. There are no expected outputs, no seeds and no other candidate's memory in this process.
A kernel that faults ruins this process's context and no other; it says so and ends.

It imports PyCUDA and no framework, so that a new one is up in half a second. Messages are JSON on a SEQPACKET socket,
one answer per request; file descriptors travel with the request.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
from typing import Any

from vegtts_core.kernels.cuda.gate import FLUSH, FLUSH_BLOCK, FLUSH_GRID, GATE, LIMIT_NANOSECONDS

MESSAGE_LIMIT = 1 << 16
#: What is written over before a cold launch, as a multiple of the second-level cache.
FLUSH_FACTOR = 4
_PR_SET_PDEATHSIG = 1


def main(parent: int, fd: int, device: int) -> None:
    """Serve requests on the socket ``fd`` until it closes or a kernel ruins the context."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    # PyCUDA's extension may have been linked where there is no driver: have the driver's symbols ready for it.
    ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
    control = socket.socket(fileno=fd)
    launcher = _Launcher(device)
    control.send(json.dumps({"ready": True}).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(control, MESSAGE_LIMIT, 4)
        if not message:
            return
        request = json.loads(message)
        try:
            answer = getattr(launcher, request.pop("do"))(fds=fds, **request)
        except Exception as error:
            answer = {"error": str(error) or type(error).__name__}
            if launcher.lost():
                control.send(json.dumps(answer | {"lost": True}).encode())
                os._exit(1)  # nothing in a lost context can be released in good order
        for each in fds:
            os.close(each)
        control.send(json.dumps(answer).encode())


class _Launcher:
    """A context with its buffers and one loaded kernel. The public methods are the requests."""

    def __init__(self, device: int) -> None:
        # Imported here: the evaluator's process imports this module for its constants, and may lack PyCUDA.
        import pycuda.driver as cuda  # pyright: ignore[reportMissingImports]

        cuda.init()
        self._cuda: Any = cuda
        self._device = cuda.Device(device)
        self._context = self._device.make_context()
        self._number = device
        cache = self._device.get_attribute(cuda.device_attribute.L2_CACHE_SIZE)
        self._words = FLUSH_FACTOR * cache // 16
        self._memory_to_flush = cuda.mem_alloc(16 * self._words)
        self._stream = cuda.Stream()
        self._flushed, self._start, self._end = cuda.Event(), cuda.Event(), cuda.Event()
        self._memory: list[Any] = []
        self._module: Any = None
        self._kernel: Any = None
        self._own: Any = None
        self._gate: Any = None
        self._flush: Any = None
        # Host memory that the device sees: the turn of the gate that was opened last.
        self._flag = cuda.pagelocked_zeros(1, "uint32", mem_flags=cuda.host_alloc_flags.DEVICEMAP)
        self._turn = 0

    def trust(self, fds: list[int]) -> dict[str, Any]:
        """Load the evaluator's own kernels (`vegtts_core.kernels.cuda.gate`) from the first file descriptor."""
        self._own = self._loaded(fds[0])
        self._gate = self._own.get_function(GATE)
        self._gate.prepare("PIQ")
        self._flush = self._own.get_function(FLUSH)
        self._flush.prepare("PQ")
        return {}

    def map(self, sizes: list[int], writable: list[bool], fds: list[int]) -> dict[str, Any]:
        """Map allocations of these sizes, in the order of the file descriptors; earlier ones are unmapped."""
        from vegtts_core.kernels.cuda.driver import open_shared

        self.unmap([])
        for fd, size, may_write in zip(fds, sizes, writable, strict=True):
            self._memory.append(open_shared(fd, size, self._number, may_write))
        return {"mapped": len(self._memory)}

    def unmap(self, fds: list[int]) -> dict[str, Any]:
        """Forget the kernel and the memory."""
        self.unload([])
        for memory in self._memory:
            memory.close()
        self._memory.clear()
        return {}

    def load(self, arguments: str, launch: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Load the cubin in the first file descriptor. ``arguments``: PyCUDA's format of them (P pointer, f float)."""
        self._module = self._loaded(fds[0])
        self._kernel = self._module.get_function("kernel")
        self._kernel.prepare(arguments)
        self._grid, self._block = tuple(launch["grid"]), tuple(launch["block"])
        self._shared = launch["shared_bytes"]
        if self._shared > 48 << 10:
            attribute = self._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._kernel.set_attribute(attribute, self._shared)
        return {}

    def _loaded(self, fd: int) -> Any:
        with open(fd, "rb", closefd=False) as file:
            file.seek(0)
            return self._cuda.module_from_buffer(file.read())

    def unload(self, fds: list[int]) -> dict[str, Any]:
        """Forget the kernel."""
        self._kernel = self._module = None
        return {}

    def launch(self, arguments: list[list[float]], cold: bool, fds: list[int], gated: bool = True) -> dict[str, Any]:
        """Launch once; seconds between the events around it.

        An argument is [memory's number, offset] or [number]. ``cold``: the second-level cache holds other data first.
        ``gated``: a cold launch waits until it is queued, so that nothing of the host's is in the time; "unseen" is
        what this process's clock then saw from the gate's opening to the end of all work, beyond the events' seconds.
        """
        memory = self._memory
        values = [memory[int(a[0])].address + int(a[1]) if len(a) == 2 else a[0] for a in arguments]
        gated = gated and cold
        opened = 0.0
        try:
            if cold:
                self._flush_cache()
            if gated:
                self._close_gate()
            self._start.record(self._stream)
            self._kernel.prepared_async_call(self._grid, self._block, self._stream, *values, shared_size=self._shared)
            self._end.record(self._stream)
            if gated:
                self._flushed.synchronize()
        finally:
            opened = time.perf_counter()
            self._flag[0] = self._turn
        self._context.synchronize()
        host = time.perf_counter() - opened
        seconds = self._start.time_till(self._end) / 1e3
        return {"seconds": seconds} | ({"unseen": host - seconds} if gated else {})

    def _flush_cache(self) -> None:
        buffer = (int(self._memory_to_flush), self._words)
        self._flush.prepared_async_call(FLUSH_GRID, FLUSH_BLOCK, self._stream, *buffer)
        self._flushed.record(self._stream)

    def _close_gate(self) -> None:
        self._turn += 1
        flag = self._flag.base.get_device_pointer()
        once = (1, 1, 1)
        self._gate.prepared_async_call(once, once, self._stream, flag, self._turn, LIMIT_NANOSECONDS)

    def lost(self) -> bool:
        """Whether the context is of no more use."""
        try:
            self._context.synchronize()
        except Exception:
            return True
        return False


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
