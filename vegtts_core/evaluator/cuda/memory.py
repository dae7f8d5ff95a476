"""Tensors in device memory that another process can map: an allocation of its own per arena, guarded between tensors.

The counterpart of `vegtts_core.evaluator.shared_memory` on a GPU, with the same methods. Calls queue work on the
current stream; whoever hands the memory to another process synchronises first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vegtts_core.errors import DeviceMemoryError
from vegtts_core.evaluator.messages import Slot
from vegtts_core.evaluator.shared_memory import bytes_of
from vegtts_core.kernels.cuda.driver import Memory, allocate, open_shared
from vegtts_core.tasks import Task

#: Poisoned bytes after each tensor, at least; tensors start at multiples of it.
_GUARD = 1 << 16


class _Address:
    """Bytes at a device address, in the form that torch takes over."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}


def _bytes_at(memory: Memory, device: int) -> torch.Tensor:
    return torch.as_tensor(_Address(memory.address, memory.size), device=f"cuda:{device}")


def _view(whole: torch.Tensor, slot: Slot) -> torch.Tensor:
    size = bytes_of(slot.shape, slot.dtype)
    return whole[slot.offset : slot.offset + size].view(slot.dtype).view(slot.shape)


class DeviceArena:
    """Tensors of given shapes and dtypes in one allocation; ``tensors`` are the evaluator's views of them."""

    def __init__(self, layout: Sequence[tuple[Sequence[int], torch.dtype]], device: int) -> None:
        """Raises DriverError if the device has not enough memory."""
        slots, end = [], 0
        for shape, dtype in layout:
            slots.append(Slot(end, tuple(shape), dtype))
            end += (-(-bytes_of(shape, dtype) // _GUARD) + 1) * _GUARD
        self.slots = tuple(slots)
        self._memory = allocate(max(end, _GUARD), device, torch.cuda.empty_cache)
        self.size, self.fd = self._memory.size, self._memory.fd
        self._bytes = _bytes_at(self._memory, device)
        self.tensors = [_view(self._bytes, slot) for slot in slots]
        ends = [(slot.offset + bytes_of(slot.shape, slot.dtype)) for slot in slots]
        starts = [slot.offset for slot in slots[1:]] + [self.size] * bool(slots)
        self._guards = [self._bytes[end:start] for end, start in zip(ends, starts, strict=True)]
        self.fill()

    def fill(self) -> None:
        """Set every byte to 0xFF: every floating-point number is a NaN, every signed integer -1."""
        self._bytes.fill_(0xFF)

    def is_intact(self) -> bool:
        """Whether nobody wrote behind a tensor since the last `fill`."""
        return all(bool((guard == 0xFF).all()) for guard in self._guards)

    def write(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copy ``tensors``, which have the arena's shapes and dtypes, into it."""
        for target, source in zip(self.tensors, tensors, strict=True):
            target.copy_(source)

    def close(self) -> None:
        """Give the memory back (once no process maps it any more)."""
        torch.cuda.synchronize()
        self.tensors, self._guards = [], []
        del self._bytes
        self._memory.close()


def map_slots(fd: int, size: int, slots: Sequence[Slot], writable: bool) -> list[torch.Tensor]:
    """In another process: tensors over an arena's memory, on device 0. A write where none is allowed faults."""
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # makes the context current
    whole = _bytes_at(open_shared(fd, size, 0, writable), 0)
    return [_view(whole, slot) for slot in slots]


def too_large(task: Task, error: Exception) -> DeviceMemoryError:
    """The sentence for a task that does not fit."""
    return DeviceMemoryError(
        f"Task {task.key} at size {task.size.value} does not fit into the device's memory "
        f"({str(error).splitlines()[0][:80]}): take it at size 'cpu', or a larger GPU."
    )
