"""A kernel's source in, a library or a cubin out: compiled in a sandboxed process, checked before anyone loads it.

A `Compilation` runs as soon as it is made, so that several can run at once, ahead of whoever measures.
"""

from __future__ import annotations

import fcntl
import os

import torch

from vegtts_core.evaluator import elf
from vegtts_core.evaluator.library import LIBRARY_LIMIT, library_in
from vegtts_core.evaluator.messages import Assignment, Program
from vegtts_core.evaluator.processes import CandidateFailure
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.shared_memory import Arena
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels import cpp, nvrtc
from vegtts_core.kernels.types import Language

_SCRATCH_BYTES = 64 << 20


class Compilation:
    """One translation unit that is being compiled. `result` waits for it; `close` ends it."""

    def __init__(
        self,
        source: str,
        language: Language,
        warm: WarmProcess,
        settings: EvaluatorSettings,
        architecture: str = nvrtc.H100,
    ) -> None:
        """Start compiling C++ or CUDA (for ``architecture``). Raises UserError if there is no compiler for it."""
        limits = settings.limits
        is_cuda = language is Language.CUDA
        if is_cuda:
            nvrtc.require()
        self._language = language
        self._nothing = Arena("nothing", [], sealed=True)
        self._output = Arena("library", [((LIBRARY_LIMIT + 8,), torch.uint8)], sealed=False)
        assignment = Assignment(
            source=source,
            class_name="",
            init_arguments=(),
            arguments=(),
            numbers=frozenset(),
            weights={},
            output=self._output.slots[0],
            training=False,
            writable_inputs=False,
            any_python=True,  # a compiler is several programs
            layers=warm.active_layers,
            threads=1,
            memory_bytes=limits.memory_mib << 20,
            file_bytes=_SCRATCH_BYTES,
            cpu_seconds=int(limits.compile_seconds) + 1,
            program=Program.NVRTC if is_cuda else Program.COMPILER,
            command=nvrtc.options(architecture) if is_cuda else cpp.kernel_command(),
        )
        limits = limits.model_copy(update={"build_seconds": limits.compile_seconds})
        self._process = warm.spawn(assignment, self._nothing, self._nothing, self._output, limits)

    def result(self) -> bytes:
        """The library or cubin, once it is there.

        Raises `CandidateFailure` if it does not compile within the limits, or must not be loaded.
        """
        self._process.await_ready()
        compiled = library_in(self._output.tensors[0])
        problem = elf.problem(compiled) if self._language is Language.CPP else None
        if problem is not None:
            raise CandidateFailure(ErrorKind.FORBIDDEN_CALL, problem)
        return compiled

    def close(self) -> None:
        """End the compiler, if it still runs, and give the memory back."""
        self._process.close()
        self._nothing.close()
        self._output.close()


def sealed_file(library: bytes) -> int:
    """A file descriptor of an anonymous file with these bytes, which nobody can change."""
    fd = os.memfd_create("kernel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(library)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
