"""Tensors in memory that two processes share: anonymous files, laid out by page, sealed by the kernel.

An arena that is sealed against the candidate can be written through the evaluator's own mapping only: the kernel
refuses every other writable mapping and every ``write``, whatever the candidate's process tries. No arena can change
its size, so that no process can take memory away from under another one.

This module knows nothing of tasks or candidates.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
import warnings
from collections.abc import Sequence

import torch

from vegtts_core.evaluator.messages import Slot

_PAGE = mmap.PAGESIZE
_F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h; since Linux 5.1, not yet named by Python's fcntl

_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def bytes_of(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Size in bytes of a dense tensor."""
    return math.prod(shape) * dtype.itemsize


def map_slots(fd: int, slots: Sequence[Slot], writable: bool) -> list[torch.Tensor]:
    """Tensors over the anonymous file ``fd``. A write to a tensor that is not writable ends the process (SIGSEGV)."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    mapping = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, protection)
    return [_view(mapping, slot) for slot in slots]


def _view(mapping: mmap.mmap, slot: Slot) -> torch.Tensor:
    count = math.prod(slot.shape)
    if count == 0:
        return torch.empty(slot.shape, dtype=slot.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the buffer is read-only: that is the point
        flat = torch.frombuffer(mapping, dtype=slot.dtype, count=count, offset=slot.offset)
    return flat.view(slot.shape)


def identical(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two dense tensors of one dtype and shape are equal bit by bit. On the CPU: one thread, no copies."""
    size = left.numel() * left.element_size()
    if left.is_cuda:
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[left.element_size()]
        return size == 0 or torch.equal(left.view(bits), right.view(bits))
    return size == 0 or _libc.memcmp(left.data_ptr(), right.data_ptr(), size) == 0


class Arena:
    """Tensors of given shapes and dtypes in one anonymous file; ``tensors`` are the evaluator's views of them."""

    def __init__(self, name: str, layout: Sequence[tuple[Sequence[int], torch.dtype]], sealed: bool) -> None:
        """``sealed``: no other process can write to it."""
        slots, end = [], 0
        for shape, dtype in layout:
            slots.append(Slot(end, tuple(shape), dtype))
            end += -(-bytes_of(shape, dtype) // _PAGE) * _PAGE
        self.slots = tuple(slots)
        self.size = max(end, _PAGE)
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.size)
        self._mapping = mmap.mmap(self.fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.fill()
        self.tensors = [_view(self._mapping, slot) for slot in self.slots]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | (_F_SEAL_FUTURE_WRITE if sealed else 0)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)

    def fill(self) -> None:
        """Set every byte to 0xFF: every floating-point number is a NaN, every signed integer -1."""
        ctypes.memset(self.address, 0xFF, self.size)

    @property
    def address(self) -> int:
        """Where the evaluator's mapping begins."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))

    def is_intact(self) -> bool:
        """Whether nobody wrote between the tensors since the last `fill`: in the rest of a tensor's last page."""
        for slot in self.slots:
            end = slot.offset + bytes_of(slot.shape, slot.dtype)
            if self._mapping[end : -(-end // _PAGE) * _PAGE].strip(b"\xff"):
                return False
        return True

    def write(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copy ``tensors``, which have the arena's shapes and dtypes, into it."""
        for target, source in zip(self.tensors, tensors, strict=True):
            if target.numel():
                dense = source.contiguous()
                ctypes.memmove(target.data_ptr(), dense.data_ptr(), dense.numel() * dense.element_size())

    def close(self) -> None:
        """Give the memory back (once no process maps it any more)."""
        self.tensors = []
        os.close(self.fd)
        del self._mapping
