"""Compiled kernels in their processes: one compiles (`build`), another loads the library and calls it (`Kernel`).

The compiler's process runs nothing of the candidate's. The kernel's process maps inputs, weights and output with empty
stretches of addresses around each of them, so that accesses beyond a tensor end it; it loads the library under one
filter of system calls and calls it under a stricter one, which leaves arithmetic, memory and threads. The output is
written straight into shared memory: when the clock stops, nothing remains to be done.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from vegtts_core.evaluator.kernel_profile import kernel_filter
from vegtts_core.evaluator.messages import Assignment, Program, Slot
from vegtts_core.evaluator.shared_memory import bytes_of
from vegtts_core.kernels import nvrtc
from vegtts_core.kernels.cpp import diagnostics_in
from vegtts_core.kernels.signature import ENTRY
from vegtts_core.kernels.types import CompileError

#: Largest library that is taken from the compiler's process, in bytes; eight more hold its length.
LIBRARY_LIMIT = 4 << 20
_LENGTH_BYTES = 8
#: Libraries that kernels are linked with, by the names that they ask for; loaded before the filters.
_RUNTIME = ("libm.so.6", "libmvec.so.1")
_OPENMP = "libgomp.so.1"
_ERROR_TEXT = 1 << 16
_NO_MEMORY = ("memory exhausted", "out of memory", "Cannot allocate memory")
#: Address space that is left empty before and after every argument, in bytes; it costs no memory.
_GUARD = 1 << 28
_PAGE = os.sysconf("SC_PAGE_SIZE")

# linux/mman.h
_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x01, 0x02, 0x10, 0x20, 0x4000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


def build(assignment: Assignment, output: torch.Tensor, scratch: str) -> None:
    """Compile the assignment's source into ``output`` (uint8): a length in eight bytes, then the library or cubin.

    Raises CompileError, or MemoryError if the compiler ran out of memory.
    """
    compiled = _by_nvrtc(assignment) if assignment.program is Program.NVRTC else _by_command(assignment, scratch)
    if len(compiled) > LIBRARY_LIMIT:
        raise CompileError(f"the library has {len(compiled)} bytes, more than {LIBRARY_LIMIT}", ())
    written = len(compiled).to_bytes(_LENGTH_BYTES, "little") + compiled
    output[: len(written)] = torch.frombuffer(bytearray(written), dtype=torch.uint8)


def _by_nvrtc(assignment: Assignment) -> bytes:
    return nvrtc.compile_cubin(assignment.source, assignment.command)


def _by_command(assignment: Assignment, scratch: str) -> bytes:
    folder = Path(scratch)
    target, said = folder / "library.so", folder / "said"
    with open(said, "wb") as errors:
        result = subprocess.run(
            [*assignment.command, "-o", str(target)],
            input=assignment.source.encode(errors="replace"),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={"PATH": os.defpath, "LC_ALL": "C", "TMPDIR": scratch},
            cwd=scratch,
        )
    if result.returncode != 0:
        with open(said, "rb") as errors:
            text = errors.read(_ERROR_TEXT).decode(errors="replace")
        if any(words in text for words in _NO_MEMORY):
            raise MemoryError("the compiler ran out of memory")
        raise CompileError(text, diagnostics_in(text))
    return target.read_bytes()


def library_in(output: torch.Tensor) -> bytes:
    """What `build` wrote. The bytes are not to be trusted."""
    data = output.numpy().tobytes()
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    return data[_LENGTH_BYTES : _LENGTH_BYTES + min(length, LIBRARY_LIMIT)]


class Kernel:
    """A library's entry point with its arguments in shared memory."""

    def __init__(self, assignment: Assignment, fds: dict[str, int]) -> None:
        """Map the arguments and load the libraries that kernels use: before the process gives up anything."""
        self._fd = fds["library"]
        for name in _RUNTIME:
            try:
                ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
            except OSError:  # this machine's C library has no such part: nothing was linked with it
                continue
        # OpenMP's own library has to be there even for a kernel that does not use it: its threads are counted here.
        ctypes.CDLL(_OPENMP, ctypes.RTLD_GLOBAL).omp_set_num_threads(assignment.threads)
        inputs = map_apart(fds["inputs"], assignment.arguments, assignment.writable_inputs)
        floats = [slot for slot in assignment.weights.values() if slot.dtype.is_floating_point]
        (output,) = map_apart(fds["output"], [assignment.output], True)
        self._arguments: list[int | float] = [*inputs, *map_apart(fds["weights"], floats, False), output]
        self._numbers = assignment.numbers

    def load(self) -> None:
        """Load the library and install the last filter of system calls. Raises OSError."""
        library = ctypes.CDLL(f"/proc/self/fd/{self._fd}")
        os.close(self._fd)
        self._function = library[ENTRY]
        self._function.restype = None
        self._function.argtypes = [
            ctypes.c_float if place in self._numbers else ctypes.c_void_p for place in range(len(self._arguments))
        ]
        kernel_filter(os.getpid()).install()

    def call(self) -> None:
        """Call the kernel."""
        arguments = list(self._arguments)
        for place in self._numbers:
            arguments[place] = ctypes.c_double.from_address(int(arguments[place])).value
        self._function(*arguments)


def map_apart(fd: int, slots: Sequence[Slot], writable: bool) -> list[int]:
    """Addresses of an arena's slots, each mapped on its own between two empty stretches: touching those ends it."""
    protection = _PROT_READ | (_PROT_WRITE if writable else 0)
    addresses = []
    for slot in slots:
        length = max(-(-bytes_of(slot.shape, slot.dtype) // _PAGE), 1) * _PAGE
        around = _mapped(None, length + 2 * _GUARD, 0, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
        addresses.append(_mapped(around + _GUARD, length, protection, _MAP_SHARED | _MAP_FIXED, fd, slot.offset))
    return addresses


def _mapped(address: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    result = _libc.mmap(address, length, protection, flags, fd, offset)
    if result is None or result == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise MemoryError("no memory for the arguments") if number == errno.ENOMEM else OSError(number, "mmap")
    return int(result)
