"""Scaffold ``module`` on a GPU: a process's arenas, the evaluator's own copies, and the clock of `committed` over them.

Copies are made by kernels, not by the copy engines: kernels of two processes never run at the same time (the device
takes turns between contexts), so what a process does meanwhile lengthens the copy, and the copy is inside the clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator.committed import timed
from vegtts_core.evaluator.cuda.memory import DeviceArena
from vegtts_core.evaluator.processes import CandidateFailure, Process
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.shared_memory import identical

if TYPE_CHECKING:
    from vegtts_core.evaluator.cuda.session import CudaSession

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
#: How often copies are timed on the idle device; the least counts.
_TRIALS = 5
#: Outputs are copied in pieces of this many bytes: far more than a cache holds, far less than a device.
_PIECE_BYTES = 1 << 30


def copy_by_kernel(target: torch.Tensor, source: torch.Tensor) -> None:
    """Queue a copy between dense tensors of one dtype and shape, bit by bit."""
    bits = _BITS[target.element_size()]
    if target.numel():
        # Flat: a scalar cannot be viewed as another dtype of its size in every version of torch.
        flat, dense = target.view(-1).view(bits), source.contiguous().view(-1).view(bits)
        torch.bitwise_or(dense, 0, out=flat)


def in_pieces(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Flat views that hold a dense tensor's elements in order, of `_PIECE_BYTES` but for the last; none of nothing."""
    return tensor.view(-1).split(_PIECE_BYTES // tensor.element_size()) if tensor.numel() else ()


class DeviceMemory(ABC):
    """The counterpart of `vegtts_core.evaluator.committed.Memory`: one process's inputs and output on the device.

    Candidate and reference have their outputs copied in the same pieces, though only the candidate's has to be kept
    whole: what differs between the two copies would be a lean of the clock.
    """

    def __init__(self, session: CudaSession, inputs: DeviceArena, output: DeviceArena) -> None:
        self._session, self._inputs, self._output = session, inputs, output
        self._done = torch.cuda.Event()
        #: What `copy` copies, target first.
        self._pieces: list[tuple[torch.Tensor, torch.Tensor]] = []
        #: Whether the process is to find the second-level cache full of other data than its inputs.
        self.cold = True

    def show(self) -> None:
        """Write the session's inputs where the process reads them, then flush the cache; returns when it is done."""
        self.write(self._session.staged)
        torch.cuda.synchronize()

    def write(self, inputs: Sequence[torch.Tensor]) -> None:
        """Queue what `show` waits for."""
        for target, source in zip(self._inputs.tensors, inputs, strict=True):
            copy_by_kernel(target, source)
        if self.cold:
            self._session.flush()

    def keep(self) -> None:
        """Queue the copy of the output."""
        self.copy()
        self._done.record()

    def copy(self) -> None:
        """Queue what `keep` waits for."""
        for target, source in self._pieces:
            copy_by_kernel(target, source)

    def await_kept(self) -> None:
        """Return when it is there."""
        self._done.synchronize()

    def settle(self) -> None:
        """Return when everything queued is done."""
        torch.cuda.synchronize()

    @abstractmethod
    def is_kept(self) -> bool:
        """Whether the output is what was kept, bit by bit."""


class CandidateMemory(DeviceMemory):
    """That of a process that is not believed: ``kept`` is the result of its last call, where nobody else can write."""

    def __init__(self, session: CudaSession, inputs: DeviceArena, output: DeviceArena) -> None:
        super().__init__(session, inputs, output)
        (result,) = output.tensors
        self.kept = torch.empty_like(result)
        self._pieces = list(zip(in_pieces(self.kept), in_pieces(result), strict=True))

    def is_kept(self) -> bool:
        """As its base class's."""
        return identical(self._output.tensors[0], self.kept)


class ReferenceMemory(DeviceMemory):
    """That of the reference, which is believed: its output is copied to take the same time, and not kept."""

    def __init__(self, session: CudaSession, inputs: DeviceArena, output: DeviceArena) -> None:
        super().__init__(session, inputs, output)
        (result,) = output.tensors
        sources = in_pieces(result)
        buffer = result.new_empty(max(map(len, sources), default=0))
        self._pieces = [(buffer[: len(source)], source) for source in sources]

    def is_kept(self) -> bool:
        """It is what it says."""
        return True


class ModuleMemory:
    """What a task's modules need beside the session's arenas: inputs of the reference's own, copies, their times.

    The reference has other inputs than the candidate because the candidate must not see them before its own call.
    Made, and the copies timed, before there is a candidate's process that could be at work meanwhile.
    """

    def __init__(self, session: CudaSession, layout: Sequence[tuple[Sequence[int], torch.dtype]], device: int) -> None:
        """``layout`` is that of the session's inputs. Raises DriverError or torch.OutOfMemoryError."""
        self._session = session
        self.reference_inputs = DeviceArena(layout, device)
        self.candidate = CandidateMemory(session, session.inputs, session.output)
        self.reference = ReferenceMemory(session, self.reference_inputs, session.reference_output)
        self._copying = {cold: self._time_copies(cold) for cold in (True, False)}

    def copying_seconds(self, cold: bool) -> float:
        """What the evaluator's own copies take, `DeviceMemory.show` and `DeviceMemory.keep`, in seconds.

        On the idle device, and the device's own time alone: launching and waiting stay on the clock. So does the
        process's writing of its output, the reference's as well: who computes in place need not make that copy, and
        would be paid for it.
        """
        return self._copying[cold]

    def _time_copies(self, cold: bool) -> float:
        memory = self.candidate
        memory.cold = cold
        found = []
        for _ in range(_TRIALS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            with self._session.own_kernels.gate():
                start.record()
                memory.write(self.reference_inputs.tensors)
                memory.copy()
                end.record()
            torch.cuda.synchronize()
            found.append(start.elapsed_time(end) / 1e3)
        return min(found)

    def close(self) -> None:
        """Give the memory back."""
        self.reference_inputs.close()


class CommittedRunner:
    """A module in a confined process under the clock of `vegtts_core.evaluator.committed`."""

    def __init__(
        self, session: CudaSession, process: Process, of: ModuleMemory, is_reference: bool, first_seconds: float
    ) -> None:
        """``first_seconds``: how long its first call may take, in which Triton and others compile."""
        self._session, self._process, self._of = session, process, of
        self._memory = of.reference if is_reference else of.candidate
        self._first: float | None = first_seconds
        self._is_reference = is_reference
        self._endless = False

    def await_ready(self) -> None:
        """Wait until the module is built. Raises UserError if CUDA cannot be started where it has to run."""
        torch.cuda.synchronize()
        try:
            self._process.await_waiting()
        except CandidateFailure as failure:  # no candidate's code has run yet
            raise UserError(
                f"CUDA does not start in the sandbox of scaffold module ({failure.reason.rstrip('.')}): use a "
                "machine whose /dev/nvidia* every user may open, or scaffold forward."
            ) from None
        self._process.await_ready()

    @property
    def seconds_left(self) -> float:
        """Wall time until its limit, in seconds."""
        return self._process.seconds_left

    def live_without_limit(self) -> None:
        """Lift that limit."""
        self._endless = True
        self._process.live_without_limit()

    def load_weights(self) -> None:
        """Have the shared weights copied into the module."""
        torch.cuda.synchronize()
        self._process.load_weights()

    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One call. See `vegtts_core.evaluator.runner.Runner`."""
        self._memory.cold = when_done is not None
        copying = self._of.copying_seconds(self._memory.cold)
        torch.cuda.synchronize()
        self._session.release()
        call = timed(self._process, self._memory, when_done, copying, self._first)
        if self._first is not None:
            self._first = None
            if not self._endless:
                self._process.live_from_now()
        return call

    def close(self) -> None:
        """End the process."""
        self._session.retire(self._process)
