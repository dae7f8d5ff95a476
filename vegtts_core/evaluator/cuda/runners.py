"""Who runs what on a GPU: kernels in a launcher, the reference of kernels here, modules in a confined process.

Kernels are timed by device events, and so is the reference that they are compared with: both after the second-level
cache was filled with other data, and behind a gate that opens when all is queued, which keeps the host's launch costs
out. A body of scaffold ``forward`` runs in a process that is not believed, so it and its reference, which runs in
just such a process, are timed by the evaluator's own clock. Scaffold ``module``, any Python, has another clock:
`vegtts_core.evaluator.cuda.committed`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from vegtts_core.evaluator.cuda.gate import unseen
from vegtts_core.evaluator.cuda.launching import Launcher, LauncherLost
from vegtts_core.evaluator.cuda.memory import DeviceArena
from vegtts_core.evaluator.processes import CandidateFailure, Process
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.types import Launch

if TYPE_CHECKING:
    from vegtts_core.evaluator.cuda.session import CudaSession


class KernelRunner:
    """One kernel in a launcher. ``gated``: whether timed launches wait until they are queued (off in a benchmark).

    Shared and local memory keep what a kernel left there for the next one of the same context, which may be the same
    candidate, timed again on inputs that it has answered before, or another one of its task. So a launcher ends with a
    kernel that a policy wrote (``once``); templates are ours, and read nothing that they have not written.
    """

    gated = True

    def __init__(
        self,
        session: CudaSession,
        launcher: Launcher,
        cubin: int,
        launch: Launch,
        writable_inputs: bool,
        once: bool = True,
    ) -> None:
        """Maps the session's memory into the launcher, unless it is there already. ``cubin``: a file descriptor."""
        self._session, self._launcher, self._once = session, launcher, once
        self._launch, self._cubin = launch, cubin
        self._limits = session.settings.limits
        self._deadline = float("inf")
        arenas = (session.inputs, session.weights, session.output)
        wanted = (*(arena.fd for arena in arenas), int(writable_inputs))
        if launcher.mapped != wanted:
            writable = [writable_inputs, False, True]
            fds = [arena.fd for arena in arenas]
            with self._lost():
                launcher.request("map", fds, sizes=[arena.size for arena in arenas], writable=writable)
            launcher.mapped = wanted
            self._calibrate()

    def _calibrate(self) -> None:
        launch = {"grid": (1, 1, 1), "block": (32, 1, 1), "shared_bytes": 0}
        with self._lost():
            self._launcher.request("trust", [self._session.own_kernels.fd])
            self._launcher.request("load", [self._session.own_kernels.fd], arguments="P", launch=launch)
            self._launcher.calibrate([[2, 0]])

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except LauncherLost:
            raise CandidateFailure(ErrorKind.CRASH, "The process that launches kernels ended.") from None

    def await_ready(self) -> None:
        """Load the cubin."""
        arguments = KernelSignature.of(self._session.task).arguments
        layout = "".join("f" if a.role is ArgumentRole.NUMBER else "P" for a in arguments)
        launch = {"grid": self._launch.grid, "block": self._launch.block, "shared_bytes": self._launch.shared_bytes}
        with self._lost():
            self._launcher.request("load", [self._cubin], arguments=layout, launch=launch)
        self._deadline = time.monotonic() + self._limits.candidate_seconds

    @property
    def seconds_left(self) -> float:
        """Wall time until this candidate's limit, in seconds."""
        return self._deadline - time.monotonic()

    def live_without_limit(self) -> None:
        """Lift that limit."""
        self._deadline = float("inf")

    def load_weights(self) -> None:
        """Nothing to do: a kernel reads the shared weights itself."""

    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One launch. See `vegtts_core.evaluator.runner.Runner`."""
        arguments = kernel_arguments(self._session)
        torch.cuda.synchronize()
        limit = min(self._limits.call_seconds, self.seconds_left)
        if limit <= 0:
            raise CandidateFailure(ErrorKind.TIMEOUT, "It used up its time.")
        with self._lost():
            call = Call(*self._launcher.launch(arguments, when_done is not None, limit, self.gated))
        if when_done is not None:
            when_done()
        return call

    def close(self) -> None:
        """Unload the kernel; end the launcher with it, or let it go on."""
        if self._once:
            self._launcher.kill()
        elif self._launcher.alive:
            with contextlib.suppress(CandidateFailure, LauncherLost):
                self._launcher.request("unload")


class HereRunner:
    """The reference, as it is or compiled, in the evaluator's own process, timed by events as kernels are.

    ``gated`` as in `KernelRunner`.
    """

    gated = True

    def __init__(self, session: CudaSession, module: torch.nn.Module, output: DeviceArena) -> None:
        self._session, self._module, self._output = session, module, output
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    seconds_left = float("inf")

    def await_ready(self) -> None:
        """Nothing to wait for."""

    def live_without_limit(self) -> None:
        """It has none."""

    def load_weights(self) -> None:
        """Copy the shared weights into the module."""
        own = [value for value in self._module.state_dict().values() if isinstance(value, torch.Tensor)]
        for value, weight in zip(own, self._session.weights.tensors, strict=True):
            value.copy_(weight)

    @torch.no_grad()
    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One call. See `vegtts_core.evaluator.runner.Runner`."""
        arguments = self._session.arguments()
        torch.cuda.synchronize()
        timed = self.gated and when_done is not None
        if when_done is not None:
            self._session.flush()
        with self._session.own_kernels.gate() if timed else contextlib.nullcontext():
            self._start.record()
            result = self._module(*arguments)
            self._end.record()
        torch.cuda.synchronize()
        host = time.perf_counter() - self._session.own_kernels.opened
        # The trusted reference may return a view of its input: take the result before that is overwritten.
        dense = result.contiguous() if when_done is None else result.clone()
        del result
        if when_done is not None:
            when_done()
        self._output.tensors[0].copy_(dense)
        seconds = self._start.elapsed_time(self._end) / 1e3
        if not timed:
            return Call(seconds, 0.0)
        return Call(seconds, unseen(host - seconds, self._session.own_kernels.overhead, seconds))

    def close(self) -> None:
        """Let go of the module."""
        del self._module


class ModuleRunner:
    """A module in a confined process, timed by the evaluator's clock; the device is idle when the clock starts."""

    def __init__(self, session: CudaSession, process: Process) -> None:
        self._session, self._process = session, process

    def await_ready(self) -> None:
        """Wait until the module is built."""
        torch.cuda.synchronize()
        self._process.await_ready()

    @property
    def seconds_left(self) -> float:
        """Wall time until its limit, in seconds."""
        return self._process.seconds_left

    def live_without_limit(self) -> None:
        """Lift that limit."""
        self._process.live_without_limit()

    def load_weights(self) -> None:
        """Have the shared weights copied into the module."""
        torch.cuda.synchronize()
        self._process.load_weights()

    def call(self, when_done: Callable[[], None] | None) -> Call:
        """One call. See `vegtts_core.evaluator.runner.Runner`."""

        def done() -> None:
            assert when_done is not None
            when_done()
            torch.cuda.synchronize()

        if when_done is not None:
            self._session.flush()
        torch.cuda.synchronize()
        self._session.release()
        return self._process.call(done if when_done is not None else None)

    def close(self) -> None:
        """End the process."""
        self._session.retire(self._process)


def kernel_arguments(session: CudaSession) -> list[list[float]]:
    """A kernel's arguments as a launcher takes them: [arena, offset], or [number]."""
    inputs, weights = iter(zip(session.inputs.slots, session.loaded, strict=True)), iter(session.weights.slots)
    found: list[list[float]] = []
    for argument in KernelSignature.of(session.task).arguments:
        if argument.role is ArgumentRole.OUTPUT:
            found.append([2, session.output.slots[0].offset])
        elif argument.role is ArgumentRole.WEIGHT:
            slot = next(slot for slot in weights if slot.dtype.is_floating_point)
            found.append([1, slot.offset])
        else:
            slot, value = next(inputs)
            found.append([0, slot.offset] if isinstance(value, torch.Tensor) else [float(value)])
    return found
