"""What the candidates of one task share on a GPU: draws made on the device, memory that processes map, references.

As `vegtts_core.evaluator.session`, with device memory in place of shared memory. Arithmetic is float32 throughout:
TF32 is switched off for the reference as for the answers (KernelBench leaves it on in convolutions).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator.answers import Draw, Inputs, Known, weights_of
from vegtts_core.evaluator.baselines import COMPILED
from vegtts_core.evaluator.compiling import sealed_file
from vegtts_core.evaluator.cuda.committed import CommittedRunner, ModuleMemory
from vegtts_core.evaluator.cuda.compilations import Compilations
from vegtts_core.evaluator.cuda.draws import DrawnAgain, OnDemand, Shelf
from vegtts_core.evaluator.cuda.gate import OwnKernels
from vegtts_core.evaluator.cuda.itself import KernelModule
from vegtts_core.evaluator.cuda.launching import Launchers
from vegtts_core.evaluator.cuda.memory import DeviceArena, too_large
from vegtts_core.evaluator.cuda.runners import HereRunner, KernelRunner, ModuleRunner
from vegtts_core.evaluator.cuda.spares import Spares
from vegtts_core.evaluator.cuda.timing import Timing, gpu_of
from vegtts_core.evaluator.cuda.watch import ClockWatch
from vegtts_core.evaluator.processes import CandidateFailure, Process
from vegtts_core.evaluator.runner import Runner, Watch
from vegtts_core.evaluator.session import PUBLISHED_SEED, TaskSession, as_tensors
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.shared_memory import Arena
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.cuda.driver import DriverError
from vegtts_core.kernels.cuda.launcher import FLUSH_FACTOR
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, build_reference, draw_inputs, draw_mixed, exec_module

#: Share of the device's memory for draws that need not be made again.
_SHELF = 0.15
#: A draw of more than this share of the device's memory is not kept at all.
_LARGE = 0.04
#: Address space of a process with a CUDA context: the driver reserves far more than it uses.
_ADDRESS_SPACE = 1 << 46


class CudaSession(TaskSession):
    """See the module."""

    def __init__(
        self,
        task: Task,
        settings: EvaluatorSettings,
        warm: WarmProcess,
        launchers: Launchers,
        spares: Spares,
        compilations: Compilations,
        own_kernels: OwnKernels,
        device: int,
        nvml: Any,
        against_itself: bool = False,
    ) -> None:
        """``against_itself``: kernels are timed against themselves. DeviceMemoryError if the tensors do not fit."""
        self.task, self.settings, self._warm = task, settings, warm
        self._launchers, self._compilations, self.own_kernels = launchers, compilations, own_kernels
        self._spares = spares
        self._device, self._nvml = f"cuda:{device}", nvml
        self._number = device
        self._total = torch.cuda.get_device_properties(device).total_memory
        self._shelf = Shelf(int(_SHELF * self._total))
        self._init_arguments = tuple(exec_module(task.source)["get_init_inputs"]())
        try:
            self._lay_out(task)
        except (torch.OutOfMemoryError, DriverError) as error:
            raise too_large(task, error) from None
        self._cubin: tuple[str, int] | None = None
        self._timing_inputs: list[Inputs] = []
        self._references: dict[Timing, Runner] = {}
        self._timing = Timing.ANSWER
        self._module_memory: ModuleMemory | None = None
        #: The inputs of the next call of a module, which are in its memory during the call only.
        self.staged: list[torch.Tensor] = []
        self._against_itself = against_itself
        self._itself: Candidate | None = None
        self.loaded: Inputs = ()
        self.reference_timeouts = 0
        self.published_reference_seconds: tuple[float, ...] = ()

    def _lay_out(self, task: Task) -> None:
        reference = self._module(PUBLISHED_SEED)
        self._training = reference.training
        self.published_weights = weights_of(reference)
        self.published_draws: OnDemand[tuple[Inputs, torch.Tensor]] = self._draw_published(reference)
        inputs, expected = self.published_draws[0]
        self._numbers = frozenset(place for place, x in enumerate(inputs) if not isinstance(x, torch.Tensor))
        layout = [(x.shape, x.dtype) for x in as_tensors(inputs)]
        outputs = [(expected.shape, expected.dtype)]
        del inputs, expected
        self.published_draws.forget()
        torch.cuda.empty_cache()
        self.inputs = self.writable_inputs = DeviceArena(layout, self._number)
        self.weights = DeviceArena([(w.shape, w.dtype) for w in self.published_weights.values()], self._number)
        self.output = DeviceArena(outputs, self._number)
        self.reference_output = DeviceArena(outputs, self._number)
        cache = torch.cuda.get_device_properties(self._number).L2_cache_size
        self._flush = torch.empty(FLUSH_FACTOR * cache, dtype=torch.uint8, device=self._device)

    def _module(self, seed: int, wide: bool = False) -> torch.nn.Module:
        return build_reference(self.task, seed, wide).to(self._device)

    def _inputs(self, seed: int, wide: bool = False, mode: int | None = None) -> list[torch.Tensor | float]:
        return draw_inputs(self.task, seed, wide, self._device, mode)

    def _mixed_inputs(self, seed: int, places: int, part: int) -> list[torch.Tensor | float]:
        return draw_mixed(self.task, seed, self._device, places=places, part=part)

    def _published_inputs(self, seed: int) -> list[torch.Tensor | float]:
        return self._inputs(seed)

    def _draws_slowly(self) -> bool:
        return True

    def _kept(self, make: Callable[[Known | None], Draw]) -> Draw:
        try:
            return DrawnAgain(make, self._shelf)
        except torch.OutOfMemoryError as error:
            raise too_large(self.task, error) from None

    def _draw_published(self, reference: torch.nn.Module) -> OnDemand[tuple[Inputs, torch.Tensor]]:
        seeds = self._published_seeds()
        return OnDemand([lambda seed=seed: self._published_draw(reference, seed) for seed in seeds])

    def load_inputs(self, inputs: Inputs, writable: bool = False) -> None:
        """Put these inputs into the memory that the processes read."""
        self.loaded = inputs
        self.staged = [x.to(self._device) for x in as_tensors(inputs)]
        if self._timing is not Timing.COMMITTED:
            self.inputs.write(self.staged)
            self.staged = []

    def arguments(self) -> list[torch.Tensor | float]:
        """The arguments of ``forward`` in shared memory, plain numbers as such."""
        shared = self.inputs.tensors
        return [shared[n].detach() if isinstance(x, torch.Tensor) else x for n, x in enumerate(self.loaded)]

    def release(self) -> None:
        """Where tensors are large, give the allocator's spare memory back before another process needs it."""
        if self._is_large():
            torch.cuda.empty_cache()

    def _is_large(self) -> bool:
        return self.inputs.size + self.output.size > _LARGE * self._total

    def timing_inputs(self, number: int) -> Inputs:
        """As its base class's; where tensors are large, in the place of a draw."""
        if self._is_large():
            self._shelf.clear()
        return super().timing_inputs(number)

    def flush(self) -> None:
        """Fill the second-level cache with other data (queued on the current stream)."""
        self.own_kernels.flush(self._flush)

    def empty_caches(self, output: Arena | DeviceArena) -> None:
        """Runners `flush` when the inputs are where they are read from."""

    def watch(self, runner: Runner) -> Watch:
        """Discards pairs during which the clock moves, where NVML tells."""
        return Watch() if self._nvml is None else ClockWatch(self._nvml)

    def start(self, candidate: Candidate, writable_inputs: bool) -> Runner:
        """What runs this candidate. A kernel is compiled here. Raises `CandidateFailure` if it cannot be."""
        self._take(candidate)
        self._make_room()
        self.weights.write(list(self.published_weights.values()))
        if candidate.scaffold == COMPILED:
            compiled: Any = torch.compile(self._module(PUBLISHED_SEED), dynamic=False)
            return HereRunner(self, compiled, self.output)
        if self._timing is not Timing.EVENTS:
            return self._started(candidate.source, False, writable_inputs)
        if candidate.launch is None:
            raise CandidateFailure(ErrorKind.COMPILE_ERROR, "It has no launch line.")
        if self._cubin is None or self._cubin[0] != candidate.fingerprint:
            self._drop_library()
            self._cubin = (candidate.fingerprint, sealed_file(self._compilations.cubin(candidate)))
        if self._against_itself and self._itself != candidate:
            self.drop_reference()
            self._itself = candidate
        once = candidate.scaffold != "template"
        return KernelRunner(self, self._launchers.current(), self._cubin[1], candidate.launch, writable_inputs, once)

    def announce(self, candidate: Candidate) -> bool:
        """False: the evaluator has had it compiled already."""
        return False

    def expect_reference(self) -> None:
        """Nothing: processes with CUDA are started ahead (`Spares`)."""

    def end(self, runner: Runner) -> None:
        """End a candidate's runner; its process may take longer (`retire`)."""
        runner.close()

    def _make_room(self) -> None:
        """Where one draw is a large part of the device's memory, keep none from one protocol to the next."""
        if self._is_large():
            self.published_draws.forget()
            self._shelf.clear()
            self._timing_inputs.clear()
            self.staged = []
            if self._timing is Timing.COMMITTED:  # its reference has run already, and keeps its memory
                self.drop_reference()
            torch.cuda.empty_cache()

    def _drop_library(self) -> None:
        if self._cubin is not None:
            os.close(self._cubin[1])
            self._cubin = None

    @property
    def reference(self) -> Runner:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The reference, timed as the candidate in hand is: by events for kernels, from outside for modules."""
        if self._timing not in self._references:
            if self._timing is Timing.EVENTS:
                module = self._module(PUBLISHED_SEED)
                if self._itself is not None:
                    module = KernelModule(self.task, module, self._itself)
                self._references[self._timing] = HereRunner(self, module, self.reference_output)
            else:
                runner = self._started(self.task.source, True, False)
                self._references[self._timing] = runner
                try:
                    runner.await_ready()
                    runner.live_without_limit()
                except CandidateFailure as failure:
                    self.drop_reference()
                    raise UserError(f"The reference of {self.task.key} does not run: {failure.reason}") from None
        return self._references[self._timing]

    def warm_up_reference(self) -> None:
        """PyTorch's allocator keeps device memory by size: the calls of a warm-up are enough."""

    def drop_reference(self) -> None:
        """End the references; the next use starts another."""
        for runner in self._references.values():
            runner.close()
        self._references.clear()

    def shares_device(self, candidate: Candidate) -> bool:
        """A module may leave work on the device that goes on while its process is stopped."""
        self._take(candidate)
        return self._timing is Timing.COMMITTED

    def _take(self, candidate: Candidate) -> None:
        timing = Timing.of(candidate)
        if timing is not self._timing:
            self._timing, self.published_reference_seconds = timing, ()

    def judged(self, arena: DeviceArena) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The evaluator's own copy, where a module writes to the arena; the arena otherwise."""
        if self._timing is Timing.COMMITTED and arena is self.output:
            return self._modules().candidate.kept
        return arena.tensors[0]

    def _modules(self) -> ModuleMemory:
        if self._module_memory is None:
            self.settle()  # copies are timed on the idle device
            layout = [(slot.shape, slot.dtype) for slot in self.inputs.slots]
            try:
                self._module_memory = ModuleMemory(self, layout, self._number)
            except (DriverError, torch.OutOfMemoryError):
                self.make_room()
                try:
                    self._module_memory = ModuleMemory(self, layout, self._number)
                except (DriverError, torch.OutOfMemoryError) as error:
                    raise too_large(self.task, error) from None
        return self._module_memory

    def _started(self, source: str, is_reference: bool, writable_inputs: bool) -> ModuleRunner | CommittedRunner:
        limits, any_python = self.settings.limits, self._timing is Timing.COMMITTED
        memory = self._modules() if any_python else None
        inputs = memory.reference_inputs if memory is not None and is_reference else self.inputs
        output = self.reference_output if is_reference else self.output
        assignment = replace(
            self._assignment(source, is_reference, any_python),
            arguments=inputs.slots,
            output=output.slots[0],
            writable_inputs=writable_inputs,
            memory_bytes=limits.memory_mib << 20 if any_python else _ADDRESS_SPACE,
            device_bytes=(inputs.size, self.weights.size, output.size),
            gpu=gpu_of(self._number) if any_python else None,
            commits=any_python,
        )
        if any_python:  # building takes the time of several compilers
            more = int(4 * limits.build_seconds * self.settings.threads)
            assignment = replace(assignment, cpu_seconds=assignment.cpu_seconds + more)
        torch.cuda.synchronize()
        arenas = (inputs, self.weights, output)
        # Spares have started CUDA with a user and files that any Python must not have.
        process = self._warm.spawn(assignment, *arenas, limits) if any_python else self._spares.take(assignment, arenas)
        if memory is None:
            return ModuleRunner(self, process)
        return CommittedRunner(self, process, memory, is_reference, limits.build_seconds)

    def settle(self) -> None:
        """Wait until no process is starting or ending on the device."""
        self._spares.settle()
        self._launchers.settle()

    def retire(self, process: Process) -> None:
        """End a candidate's or reference's process: in the background, unless its memory is needed at once."""
        if self._is_large():
            process.close()
        else:
            self._spares.retire(process)

    def close(self) -> None:
        """End the references and free all device memory."""
        self.drop_reference()
        self.settle()
        self._drop_library()
        self._launchers.unmap()
        # Draws hold the session and the session holds them: drop the tensors without waiting for the collector.
        self.published_draws.forget()
        self._shelf.clear()
        self._timing_inputs.clear()
        self.loaded, self.staged = (), []
        if self._module_memory is not None:
            self._module_memory.close()
            self._module_memory = None
        del self._flush
        for arena in (self.inputs, self.weights, self.output, self.reference_output):
            arena.close()
        gc.collect()
        torch.cuda.empty_cache()

    def make_room(self) -> None:
        """Give back what can be made again: the references' memory, draws, inputs of timed calls."""
        self.drop_reference()
        self.settle()
        self.published_draws.forget()
        self._shelf.clear()
        self._timing_inputs.clear()
        gc.collect()
        torch.cuda.empty_cache()
