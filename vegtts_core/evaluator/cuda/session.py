"""What the candidates of one task share on a GPU: draws made on the device, memory that processes map, references.

As `vegtts_core.evaluator.session`, with device memory in place of shared memory. Arithmetic is float32 throughout:
TF32 is switched off for the reference as for the answers (KernelBench leaves it on in convolutions).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import torch

from vegtts_core.errors import DeviceMemoryError, UserError
from vegtts_core.evaluator.answers import Draw, Inputs, Known, weights_of
from vegtts_core.evaluator.baselines import COMPILED
from vegtts_core.evaluator.compiling import sealed_file
from vegtts_core.evaluator.cuda.compilations import Compilations
from vegtts_core.evaluator.cuda.draws import DrawnAgain, OnDemand, Shelf
from vegtts_core.evaluator.cuda.gate import OwnKernels
from vegtts_core.evaluator.cuda.itself import KernelModule
from vegtts_core.evaluator.cuda.launching import Launchers
from vegtts_core.evaluator.cuda.memory import DeviceArena
from vegtts_core.evaluator.cuda.runners import HereRunner, KernelRunner, ModuleRunner
from vegtts_core.evaluator.cuda.spares import Spares
from vegtts_core.evaluator.cuda.watch import ClockWatch
from vegtts_core.evaluator.messages import Assignment
from vegtts_core.evaluator.processes import CandidateFailure, Process
from vegtts_core.evaluator.runner import Runner, Watch
from vegtts_core.evaluator.session import PUBLISHED_SEED, TaskSession, as_tensors
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.cuda.driver import DriverError
from vegtts_core.kernels.cuda.launcher import FLUSH_FACTOR
from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.types import Language
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
        self._references: dict[bool, Runner] = {}
        self._with_events = False
        self._against_itself = against_itself
        self._itself: Candidate | None = None
        self._loaded: Inputs = ()
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

    def _mixed_inputs(self, seed: int) -> list[torch.Tensor | float]:
        return draw_mixed(self.task, seed, self._device)

    def _kept(self, make: Callable[[Known | None], Draw]) -> Draw:
        try:
            return DrawnAgain(make, self._shelf)
        except torch.OutOfMemoryError as error:
            raise too_large(self.task, error) from None

    def _draw_published(self, reference: torch.nn.Module) -> OnDemand[tuple[Inputs, torch.Tensor]]:
        seeds = self._published_seeds()
        return OnDemand([lambda seed=seed: self._published_draw(reference, seed) for seed in seeds])

    @property
    def signature(self) -> KernelSignature:
        """How a kernel of this task is called."""
        return KernelSignature.of(self.task)

    def load_inputs(self, inputs: Inputs, writable: bool = False) -> None:
        """Put these inputs into the memory that the processes read."""
        self._loaded = inputs
        self.inputs.write([x.to(self._device) for x in as_tensors(inputs)])

    def arguments(self) -> list[torch.Tensor | float]:
        """The arguments of ``forward`` in shared memory, plain numbers as such."""
        shared = self.inputs.tensors
        return [shared[n].detach() if isinstance(x, torch.Tensor) else x for n, x in enumerate(self._loaded)]

    def kernel_arguments(self) -> list[list[float]]:
        """A kernel's arguments as a launcher takes them: [arena, offset], or [number]."""
        inputs, weights = iter(zip(self.inputs.slots, self._loaded, strict=True)), iter(self.weights.slots)
        found: list[list[float]] = []
        for argument in self.signature.arguments:
            if argument.role is ArgumentRole.OUTPUT:
                found.append([2, self.output.slots[0].offset])
            elif argument.role is ArgumentRole.WEIGHT:
                slot = next(slot for slot in weights if slot.dtype.is_floating_point)
                found.append([1, slot.offset])
            else:
                slot, value = next(inputs)
                found.append([0, slot.offset] if isinstance(value, torch.Tensor) else [float(value)])
        return found

    def release(self) -> None:
        """Where tensors are large, give the allocator's spare memory back before another process needs it."""
        if self._is_large():
            torch.cuda.empty_cache()

    def _is_large(self) -> bool:
        return self.inputs.size + self.output.size > _LARGE * self._total

    def flush(self) -> None:
        """Fill the second-level cache with other data (queued on the current stream)."""
        self.own_kernels.flush(self._flush)

    def watch(self) -> Watch:
        """Discards pairs during which the clock moves, where NVML tells."""
        return Watch() if self._nvml is None else ClockWatch(self._nvml)

    def start(self, candidate: Candidate, writable_inputs: bool) -> Runner:
        """What runs this candidate. A kernel is compiled here. Raises `CandidateFailure` if it cannot be."""
        self._with_events = candidate.language is Language.CUDA or candidate.scaffold == COMPILED
        self._make_room()
        self.weights.write(list(self.published_weights.values()))
        if candidate.scaffold == COMPILED:
            compiled: Any = torch.compile(self._module(PUBLISHED_SEED), dynamic=False)
            return HereRunner(self, compiled, self.output)
        if not self._with_events:
            return self._started(candidate.source, "ModelNew", writable_inputs, self.output)
        if candidate.launch is None:
            raise CandidateFailure(ErrorKind.COMPILE_ERROR, "It has no launch line.")
        if self._cubin is None or self._cubin[0] != candidate.fingerprint:
            self._drop_library()
            self._cubin = (candidate.fingerprint, sealed_file(self._compilations.cubin(candidate)))
        if self._against_itself and self._itself != candidate:
            self.drop_reference()
            self._itself = candidate
        launcher = self._launchers.current()
        return KernelRunner(self, launcher, self._cubin[1], candidate.launch, writable_inputs)

    def _make_room(self) -> None:
        """Where one draw is a large part of the device's memory, keep none from one protocol to the next."""
        if self._is_large():
            self.published_draws.forget()
            self._shelf.clear()
            self._timing_inputs.clear()
            torch.cuda.empty_cache()

    def _drop_library(self) -> None:
        if self._cubin is not None:
            os.close(self._cubin[1])
            self._cubin = None

    @property
    def reference(self) -> Runner:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The reference, timed as the candidate in hand is: by events for kernels, from outside for modules."""
        if self._with_events not in self._references:
            if self._with_events:
                module = self._module(PUBLISHED_SEED)
                if self._itself is not None:
                    module = KernelModule(self.task, module, self._itself)
                self._references[True] = HereRunner(self, module, self.reference_output)
            else:
                runner = self._started(self.task.source, "Model", False, self.reference_output)
                self._references[False] = runner
                try:
                    runner.await_ready()
                    runner.live_without_limit()
                except CandidateFailure as failure:
                    self.drop_reference()
                    raise UserError(f"The reference of {self.task.key} does not run: {failure.reason}") from None
        return self._references[self._with_events]

    def drop_reference(self) -> None:
        """End the references; the next use starts another."""
        for runner in self._references.values():
            runner.close()
        self._references.clear()

    def _started(self, source: str, class_name: str, writable_inputs: bool, output: DeviceArena) -> ModuleRunner:
        limits = self.settings.limits
        is_reference = class_name == "Model"
        assignment = Assignment(
            source=source,
            class_name=class_name,
            init_arguments=self._init_arguments,
            arguments=self.inputs.slots,
            numbers=self._numbers,
            weights=dict(zip(self.published_weights, self.weights.slots, strict=True)),
            output=output.slots[0],
            training=self._training,
            writable_inputs=writable_inputs,
            any_python=False,
            layers=self._warm.active_layers,
            threads=self.settings.threads,
            memory_bytes=_ADDRESS_SPACE,
            file_bytes=limits.printed_bytes,
            cpu_seconds=1 << 30 if is_reference else int(limits.candidate_seconds) * 4 + 1,
            device_bytes=(self.inputs.size, self.weights.size, output.size),
        )
        torch.cuda.synchronize()
        return ModuleRunner(self, self._spares.take(assignment, (self.inputs, self.weights, output)))

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
        self._loaded = ()
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


def too_large(task: Task, error: Exception) -> DeviceMemoryError:
    """The sentence for a task that does not fit."""
    return DeviceMemoryError(
        f"Task {task.key} at size {task.size.value} does not fit into the device's memory "
        f"({str(error).splitlines()[0][:80]}): take it at size 'cpu', or a larger GPU."
    )
