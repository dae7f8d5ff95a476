"""Recording a decode step as a CUDA graph, and what a recorded step depends on besides the tensors that it reads.

Replaying a graph launches all of a step's kernels at once, where launching them one by one takes longer than they
compute. A graph holds addresses and numbers, no Python: whatever of a model's state is neither the contents of its
tensors nor named in ``model_state`` must not change between recording and replay.
It knows functions and models; it knows no tokens and no shapes.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

#: What torch says of an operation that waits for the device, under ``torch.cuda.set_sync_debug_mode``.
WAITS = "synchronizing"
#: Share of a device's memory below which its free part is thought to be too little to record a step in.
SCARCE = 0.1


class CannotCapture(Exception):
    """A step cannot be recorded; the message says why."""


class Capture(Protocol):
    """A way of recording."""

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that what was recorded holds."""
        ...

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """What does the same as ``function`` does now, on the same tensors. Raises CannotCapture; does not call it."""
        ...

    def trial(self, function: Callable[[], None]) -> None:
        """Call ``function``. Raises CannotCapture if it does what cannot be recorded."""
        ...

    def clear(self) -> None:
        """Forget everything recorded, whose callables the caller has given up."""
        ...


class PlainCapture:
    """No recording: the function itself. For tests of what is recorded, where there is no GPU."""

    nbytes = 0

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """See Capture."""
        return function

    def trial(self, function: Callable[[], None]) -> None:
        """See Capture."""
        function()

    def clear(self) -> None:
        """See Capture."""


class CudaGraphCapture:
    """CUDA graphs whose temporary tensors share one pool of memory.

    Sharing is sound because graphs are replayed one after another on one stream and leave nothing in the pool that is
    read later: results are in tensors of the caller's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = None
        self._ready = False
        self.nbytes = 0

    def clear(self) -> None:
        """See Capture."""
        self._pool, self.nbytes = None, 0

    def trial(self, function: Callable[[], None]) -> None:
        """See Capture: whatever waits for the device is found here, as an error before recording has begun.

        An error while recording leaves torch's allocator and random generators in a state that must be mended.
        It is also the warm-up: kernels are loaded and library handles made before anything is recorded.
        """
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "a prototype feature": what it does not see, recording itself refuses
            torch.cuda.set_sync_debug_mode("error")
        try:
            function()
        except RuntimeError as error:
            if WAITS not in str(error):
                raise
            raise CannotCapture("its forward pass waits for the device") from error
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """See Capture."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        if not self._ready:
            self._make_workspaces()
        free, total = torch.cuda.mem_get_info(self._device)
        if free < SCARCE * total:
            torch.cuda.empty_cache()  # while it records, the allocator cannot do so by itself
        held = torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            self._record(graph, self._pool, function)
        except RuntimeError as error:  # torch's own errors, out of memory among them, are of this kind
            self._mend(self._pool)
            self._pool = None
            reason = "out of memory" if isinstance(error, torch.OutOfMemoryError) else str(error).splitlines()[0]
            raise CannotCapture(reason) from error
        self.nbytes += max(0, torch.cuda.memory_reserved(self._device) - held)
        return graph.replay

    def _record(self, graph: torch.cuda.CUDAGraph, pool: Any, function: Callable[[], None]) -> None:
        """As ``torch.cuda.graph`` does, which empties the allocator's cache each time, and leaves its stream on errors.

        ``thread_local``: another thread may use the device meanwhile (a progress bar does not, an evaluator may).
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream), _no_garbage_collection():
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                function()
            except BaseException:
                with suppress(RuntimeError):  # the capture is invalid already: the first error is the one to report
                    graph.capture_end()
                raise
            graph.capture_end()
        current.wait_stream(self._stream)

    def _make_workspaces(self) -> None:
        """Matrix products get their workspaces on the stream now, from ordinary memory, not from the first pool."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            for dtype in (torch.float32, torch.bfloat16):
                ones = torch.ones(16, 16, dtype=dtype, device=self._device)
                torch.nn.functional.linear(ones, ones, ones[0])
        self._ready = True

    def _mend(self, pool: Any) -> None:
        """After a failed recording: allocation and random numbers as before.

        Torch leaves the pool open for allocation and the generator waiting for the recording's end; closing the pool
        and one recording that succeeds put both right. Tried on an H100 with torch 2.11: other models are recorded
        afterwards and random numbers come, but torch keeps for itself what is freed from then on. Only a model that
        waits for the device in recordings alone gets here; others are found before.
        """
        with suppress(RuntimeError):
            torch.cuda.synchronize(self._device)
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        with suppress(Exception):  # the first refuses where the pool was closed after all
            torch._C._cuda_endAllocateToPool(index, pool)  # type: ignore[attr-defined]
            torch._C._cuda_releasePool(index, pool)  # type: ignore[attr-defined]
        one = torch.ones(1, device=self._device)

        def trifle() -> None:
            one.add_(1)

        with suppress(RuntimeError):
            self._record(torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle(), trifle)
        torch.cuda.empty_cache()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collected tensor or graph would be freed in the middle of a recording, which may invalidate it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def model_state(model: torch.nn.Module) -> tuple[Any, ...]:
    """All that a recorded forward pass of ``model`` holds fast and a caller may change, as a value to compare.

    Where parameters and buffers lie (not what they are: an optimiser that writes in place changes nothing here), which
    adapters are active with which scale, replaced forward functions, and the settings of torch that choose kernels.
    """
    held = (*model.parameters(), *model.buffers())
    tensors = [(each.data_ptr(), each.shape, each.stride(), each.dtype) for each in held]
    modules = [_module_state(module) for module in model.modules()]
    settings = (
        model.config._attn_implementation,  # type: ignore[union-attr]
        torch.get_float32_matmul_precision(),
        getattr(torch.backends.cuda.matmul, "fp32_precision", None),
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.is_inference_mode_enabled(),
    )
    return (tuple(tensors), tuple(modules), settings)


def _module_state(module: torch.nn.Module) -> tuple[Any, ...]:
    state: tuple[Any, ...] = (id(module), module.training, id(vars(module).get("forward")))
    if isinstance(module, BaseTunerLayer):
        scaling = getattr(module, "scaling", None)
        scales = {name: float(scale) for name, scale in scaling.items()} if isinstance(scaling, dict) else scaling
        state += (module.disable_adapters, tuple(module.active_adapters), tuple(module.merged_adapters), scales)
    return state


def has_hooks(model: torch.nn.Module) -> bool:
    """Whether a forward pass runs Python that a replay would leave out."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
