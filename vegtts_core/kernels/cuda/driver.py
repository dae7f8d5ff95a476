"""Device memory that processes share by file descriptor: the few functions of the CUDA driver that it takes.

An allocation is physical memory of its own (`cuMemCreate`). Who holds its file descriptor can map it, whole, at an
address of its own, readable or writable, with unmapped addresses around it: a kernel that leaves it faults. No other
memory of the exporting process can be reached from there. All calls need a current context in the calling thread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from vegtts_core.errors import UserError

# cuda.h
_PINNED, _DEVICE, _POSIX_FD = 1, 1, 1
_READ, _READ_WRITE = 1, 3
#: Addresses left unmapped on each side of a mapping, in bytes.
_GAP = 1 << 30
OUT_OF_MEMORY = 2


class DriverError(Exception):
    """A driver call failed. ``code`` is a CUresult, ``name`` its name (``CUDA_ERROR_OUT_OF_MEMORY``)."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call}: {name}")
        self.code = code
        self.name = name


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Flags(ctypes.Structure):
    _fields_ = (
        ("compression", ctypes.c_ubyte),
        ("rdma", ctypes.c_ubyte),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    )


class _Properties(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", _Location),
        ("win32", ctypes.c_void_p),
        ("flags", _Flags),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


@cache
def library() -> ctypes.CDLL:
    """The driver. Raises UserError where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise UserError(
            f"There is no CUDA driver here ({error}): use device='cpu', or a machine with a GPU."
        ) from error


def _call(name: str, *arguments: Any) -> None:
    code = library()[name](*arguments)
    if code != 0:
        text = ctypes.c_char_p()
        library().cuGetErrorName(code, ctypes.byref(text))
        raise DriverError(name, code, (text.value or b"an unknown error").decode())


def _properties(device: int) -> _Properties:
    return _Properties(_PINNED, _POSIX_FD, _Location(_DEVICE, device), None, _Flags())


@cache
def granularity(device: int) -> int:
    """Sizes of allocations are multiples of this, in bytes."""
    size = ctypes.c_size_t()
    _call("cuMemGetAllocationGranularity", ctypes.byref(size), ctypes.byref(_properties(device)), 0)
    return size.value


class Memory:
    """An allocation, mapped in this process at ``address``. ``fd``: its file descriptor (-1 where imported)."""

    def __init__(self, handle: ctypes.c_ulonglong, size: int, device: int, writable: bool, fd: int) -> None:
        self.size = size
        self.fd = fd
        self._base = ctypes.c_ulonglong()
        _call("cuMemAddressReserve", ctypes.byref(self._base), ctypes.c_size_t(size + 2 * _GAP), *_zeros())
        self.address = self._base.value + _GAP
        _call("cuMemMap", self._here(), ctypes.c_size_t(size), ctypes.c_size_t(0), handle, ctypes.c_ulonglong(0))
        access = _Access(_Location(_DEVICE, device), _READ_WRITE if writable else _READ)
        _call("cuMemSetAccess", self._here(), ctypes.c_size_t(size), ctypes.byref(access), ctypes.c_size_t(1))
        _call("cuMemRelease", handle)  # the mapping keeps it

    def _here(self) -> ctypes.c_ulonglong:
        return ctypes.c_ulonglong(self.address)

    def close(self) -> None:
        """Give the addresses back, and the memory once no process maps it. Needs an idle device."""
        if self.fd >= 0:
            os.close(self.fd)
        _call("cuMemUnmap", self._here(), ctypes.c_size_t(self.size))
        _call("cuMemAddressFree", self._base, ctypes.c_size_t(self.size + 2 * _GAP))


def _zeros() -> tuple[ctypes.c_size_t, ctypes.c_ulonglong, ctypes.c_ulonglong]:
    return ctypes.c_size_t(0), ctypes.c_ulonglong(0), ctypes.c_ulonglong(0)


def allocate(size: int, device: int, make_room: Callable[[], None] = lambda: None) -> Memory:
    """At least ``size`` bytes with a file descriptor. ``make_room`` is called once if the memory does not suffice.

    Raises DriverError.
    """
    step = granularity(device)
    size = max(-(-size // step), 1) * step
    handle = ctypes.c_ulonglong()
    properties = _properties(device)

    def create() -> None:
        _call(
            "cuMemCreate", ctypes.byref(handle), ctypes.c_size_t(size), ctypes.byref(properties), ctypes.c_ulonglong(0)
        )

    try:
        create()
    except DriverError as error:
        if error.code != OUT_OF_MEMORY:
            raise
        make_room()
        create()
    fd = ctypes.c_int(-1)
    _call("cuMemExportToShareableHandle", ctypes.byref(fd), handle, _POSIX_FD, ctypes.c_ulonglong(0))
    return Memory(handle, size, device, True, fd.value)


def open_shared(fd: int, size: int, device: int, writable: bool) -> Memory:
    """Map another process's allocation of ``size`` bytes; ``fd`` may be closed afterwards. Raises DriverError."""
    handle = ctypes.c_ulonglong()
    _call("cuMemImportFromShareableHandle", ctypes.byref(handle), ctypes.c_void_p(fd), _POSIX_FD)
    return Memory(handle, size, device, writable, -1)
