"""What the candidates of one task share: draws with their answers, shared memory, the reference's process.

A session is made for one task at a time and thrown away with it. Every seed in it is secret and new; its candidates may
share draws because each runs in a fresh process that sees nothing but its own inputs. Expected outputs exist in the
evaluator's process only.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator.answers import Draw, Inputs, Known, make_draw, run_reference, weights_of
from vegtts_core.evaluator.core_watch import CoreWatch, home_of
from vegtts_core.evaluator.cores import aside
from vegtts_core.evaluator.libraries import Libraries
from vegtts_core.evaluator.messages import Assignment, Program
from vegtts_core.evaluator.native import fill_uniform, flush
from vegtts_core.evaluator.processes import CandidateFailure, Process
from vegtts_core.evaluator.runner import Runner, Watch
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.shared_memory import Arena
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, build_reference, draw_inputs, draw_mixed, drawn_by_module, exec_module, wide_modes

#: KernelBench's seed; the published protocol draws from it, the sound one never does.
PUBLISHED_SEED = 42
#: Bytes of inputs up to which every way of sampling the domain has a draw of its own.
_SMALL = 16 << 20
#: Processes of right and wrong candidates whose end nobody has waited for yet: those of one pair.
_MOST_ENDING = 2
#: A new reference is called until as many calls in a row touched fewer fresh pages than that (a megabyte), or so often.
_CALM_CALLS, _FRESH_PAGES, _MOST_WARMING_CALLS = 3, 256, 24
_CPU_SECONDS_FACTOR = 4  # the rlimit on processor time, a backstop, as a multiple of wall-clock limit times threads


def _secret_seed() -> int:
    return secrets.randbits(62)


def as_tensors(inputs: Inputs) -> list[torch.Tensor]:
    """Inputs with plain numbers as float64 tensors."""
    return [x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64) for x in inputs]


class TaskSession:
    """See the module. ``close`` ends the reference's process and gives the memory back."""

    def __init__(self, task: Task, settings: EvaluatorSettings, warm: WarmProcess) -> None:
        """Runs the reference a few times: takes about ten times as long as one float64 run of it."""
        self.task = task
        self.settings = settings
        self._warm = warm
        namespace = exec_module(task.source)
        self._init_arguments = tuple(namespace["get_init_inputs"]())
        reference = self._module(PUBLISHED_SEED)
        self._training = reference.training
        self.published_weights = weights_of(reference)
        self.published_draws = self._draw_published(reference)
        inputs, expected = self.published_draws[0]
        layout = [(x.shape, x.dtype) for x in as_tensors(inputs)]
        self._numbers = frozenset(place for place, x in enumerate(inputs) if not isinstance(x, torch.Tensor))
        self.inputs = Arena("inputs", layout, sealed=True)
        self.writable_inputs = Arena("writable-inputs", layout, sealed=False)
        weights = self.published_weights
        self.weights = Arena("weights", [(w.shape, w.dtype) for w in weights.values()], sealed=True)
        self.output = Arena("output", [(expected.shape, expected.dtype)], sealed=False)
        self.reference_output = Arena("reference-output", [(expected.shape, expected.dtype)], sealed=False)
        self._reference: Process | None = None
        self._reference_is_ready = self._reference_is_warm = False
        self._libraries = Libraries(warm, settings)
        self._ending: list[Process] = []
        self._timing_inputs: list[Inputs] = []
        #: How often the reference took longer than a call may.
        self.reference_timeouts = 0
        #: Timed calls of the reference under the published protocol, in seconds, taken once.
        self.published_reference_seconds: tuple[float, ...] = ()

    # Where tensors come from, and how long they are kept: a session on a GPU does these otherwise.

    def _module(self, seed: int, wide: bool = False) -> torch.nn.Module:
        return build_reference(self.task, seed, wide)

    def _inputs(self, seed: int, wide: bool = False, mode: int | None = None) -> list[torch.Tensor | float]:
        return draw_inputs(self.task, seed, wide, mode=mode, fill=fill_uniform)

    def _mixed_inputs(self, seed: int, places: int, part: int) -> list[torch.Tensor | float]:
        return draw_mixed(self.task, seed, fill=fill_uniform, places=places, part=part)

    def _published_inputs(self, seed: int) -> list[torch.Tensor | float]:
        return draw_inputs(self.task, seed, wide=False)

    def _kept(self, make: Callable[[Known | None], Draw]) -> Draw:
        return make(None)

    def _draw_published(self, reference: torch.nn.Module) -> Sequence[tuple[Inputs, torch.Tensor]]:
        return [self._published_draw(reference, seed) for seed in self._published_seeds()]

    def _published_seeds(self) -> list[int]:
        generator = torch.Generator().manual_seed(PUBLISHED_SEED)
        trials = self.settings.published.correctness_trials
        return [int(torch.randint(0, 2**32 - 1, (1,), generator=generator)) for _ in range(trials)]

    def _published_draw(self, reference: torch.nn.Module, seed: int) -> tuple[Inputs, torch.Tensor]:
        inputs = self._published_inputs(seed)
        return inputs, run_reference(self.task, reference, inputs, self.settings.threads)

    def _drawn(self, name: str, wide: bool, mode: int | None = None) -> Draw:
        """A draw with weights and inputs from two new seeds."""
        weights, inputs = _secret_seed(), _secret_seed()

        def make(known: Known | None) -> Draw:
            module = self._module(weights, wide)
            return make_draw(self.task, name, module, self._inputs(inputs, wide, mode), self.settings, known=known)

        return self._kept(make)

    @cached_property
    def draws(self) -> list[Draw]:
        """The sound protocol's draws, in the order in which candidates see them.

        Benchmark draws; for each argument that matters, the first of them with that argument replaced; wide draws, each
        sampled in another way, and as many as there are ways where inputs are small (large ones have enough rows for
        the mixed draw among the timed calls to go through all of them).
        """
        sound = self.settings.sound
        draws = [self._drawn(f"benchmark inputs, draw {n + 1}", wide=False) for n in range(sound.benchmark_draws)]
        base = draws[0]
        draws += [self._changed(base, name) for name in self.task.contract.sensitive_to]
        modes = wide_modes(self.task)
        count = max(sound.wide_draws, modes) if sound.wide_draws and self.inputs.size <= _SMALL else sound.wide_draws
        first = secrets.randbelow(modes)
        wide = (self._drawn(f"inputs from the whole domain, draw {n + 1}", True, first + n) for n in range(count))
        return [*draws, *wide]

    def _changed(self, base: Draw, name: str) -> Draw:
        names = [spec.name for spec in self.task.inputs]
        if name not in (*names, "weights"):
            raise UserError(f"The contract of {self.task.key} names {name!r}, which is none of {names}: correct it.")
        weights_seed, inputs_seed = _secret_seed(), _secret_seed()

        def make(known: Known | None) -> Draw:
            module = self._module(weights_seed)
            inputs = list(base.inputs)
            if name != "weights":
                module.load_state_dict(base.weights, strict=False)
                place = names.index(name)
                # A plain number is fixed by the benchmark; only its domain moves it.
                inputs[place] = self._inputs(inputs_seed, wide=place in self._numbers)[place]
            said = f"benchmark inputs with another `{name}`"
            return make_draw(self.task, said, module, inputs, self.settings, base, name, known)

        return self._kept(make)

    @cached_property
    def timing_weights(self) -> dict[str, torch.Tensor]:
        """Weights of the sound protocol's timed calls: secret, the same for all of them."""
        return weights_of(self._module(_secret_seed()))

    @cached_property
    def hidden_draws(self) -> list[Draw]:
        """Checks that hide among the timed calls, with the weights of those.

        One with inputs from the whole domain, two that differ from the benchmark's inputs in a few rows only, not the
        same ones: who decides by a row may happen to look at one that tells, but not in both.
        """
        module = self._module(_secret_seed())
        module.load_state_dict(self.timing_weights, strict=False)
        wide, mixed, other, places = (_secret_seed() for _ in range(4))
        rows = "rows from the whole domain"
        names = (
            "inputs from the whole domain",
            f"benchmark inputs with some {rows}",
            f"benchmark inputs with other {rows}",
        )
        makers = (
            lambda: self._inputs(wide, wide=True),
            lambda: self._mixed_inputs(mixed, places, 0),
            lambda: self._mixed_inputs(other, places, 1),
        )
        return [
            self._kept(
                lambda known, name=name, inputs=inputs: make_draw(
                    self.task, name, module, inputs(), self.settings, known=known
                )
            )
            for name, inputs in zip(names, makers, strict=True)
        ]

    def timing_inputs(self, number: int) -> Inputs:
        """Inputs of a candidate's timed call ``number``: no process sees the same ones twice.

        Where drawing takes long (`_draws_slowly`) the first ones are kept and shared by the task's candidates, up to
        the memory that the settings allow.
        """
        room = self.settings.sound.pool_mib * (1 << 20) // self.inputs.size if self._draws_slowly() else 0
        if number < len(self._timing_inputs):
            return self._timing_inputs[number]
        inputs = self._inputs(_secret_seed())
        if number == len(self._timing_inputs) and number < room:
            self._timing_inputs.append(inputs)
        return inputs

    def _draws_slowly(self) -> bool:
        return drawn_by_module(self.task)

    def shares_device(self, candidate: Candidate) -> bool:
        """Whether this candidate's work may go on on the device while its process is stopped. Call before `start`."""
        return False

    def judged(self, arena: Arena) -> torch.Tensor:
        """What counts as the result of the last call that wrote to this output: valid until the next one."""
        return arena.tensors[0]

    def settle(self) -> None:
        """Wait until nothing that was started or ended for this session disturbs a timing. Call before timing."""
        while self._ending:
            self._ending.pop().close()
        if self._reference is not None:
            assert self.reference  # it may still be building

    def end(self, runner: Runner) -> None:
        """End a process while the next one starts, if nothing speaks against it; at the latest when this settles."""
        if isinstance(runner, Process) and runner.let_go():
            self._ending.append(runner)
            while len(self._ending) > _MOST_ENDING:
                self._ending.pop(0).close()
        else:
            runner.close()

    def aside(self, runner: Runner) -> contextlib.AbstractContextManager[None]:
        """Keep this thread off the core that the runner's process needs most."""
        cores = runner.cores if isinstance(runner, Process) else ()
        return aside(cores) if cores else contextlib.nullcontext()

    def empty_caches(self, output: Arena) -> None:
        """Have the next call find inputs and output, which this thread has just written, in memory and not in a cache.

        How much of a cache is left to them is up to who else uses it, which on a virtual machine is anybody.
        """
        for arena in (self.inputs, output):
            flush(arena.address, arena.size)

    def watch(self, runner: Runner) -> Watch:
        """Whoever says, from now on, whether the device on which this runs is steady."""
        if isinstance(runner, Process) and len(runner.cores) > 1:
            return CoreWatch(runner, home_of(tuple(runner.cores)))
        return Watch()

    def load_weights(self, process: Runner, weights: dict[str, torch.Tensor]) -> None:
        """Give a process these weights. Raises `CandidateFailure`."""
        if weights:
            self.weights.write(list(weights.values()))
            process.load_weights()

    def load_inputs(self, inputs: Inputs, writable: bool = False) -> None:
        """Put these inputs into the memory that the processes read."""
        (self.writable_inputs if writable else self.inputs).write(as_tensors(inputs))

    def check_bounds(self) -> None:
        """Raise `CandidateFailure` if a process wrote beyond the end of its output."""
        if not self.output.is_intact():
            raise CandidateFailure(ErrorKind.OUT_OF_BOUNDS, "It wrote beyond the end of its output.")

    def start(self, candidate: Candidate, writable_inputs: bool) -> Runner:
        """A candidate's process; its module is not built yet (`Process.await_ready`).

        A C++ kernel is compiled here. Raises `CandidateFailure` if it cannot be.
        """
        if candidate.language is Language.CPP:
            return self._start("", "", writable_inputs, self.output, library=self._libraries.file_of(candidate))
        any_python = candidate.scaffold == "module"
        return self._start(candidate.source, "ModelNew", writable_inputs, self.output, any_python)

    def announce(self, candidate: Candidate) -> bool:
        """Begin to compile a C++ kernel that will be started. Whether that goes on beside whatever is done next."""
        return self._libraries.announce(candidate)

    def prepare(self) -> None:
        """Make all draws now, not when the first of them is needed."""
        assert self.draws and self.hidden_draws

    def expect_reference(self) -> None:
        """Start the reference's process, unless there is one, so that it builds beside something else."""
        if self._reference is None:
            self._reference_is_ready = self._reference_is_warm = False
            self._reference = self._start(self.task.source, "Model", False, self.reference_output)

    @property
    def reference(self) -> Process:
        """The reference's own process, started when first asked for and again if it was lost."""
        self.expect_reference()
        assert self._reference is not None
        if not self._reference_is_ready:
            try:
                self._reference.await_ready()
                self._reference.live_without_limit()
            except CandidateFailure as failure:
                self.drop_reference()
                raise UserError(f"The reference of {self.task.key} does not run: {failure.reason}") from None
            self._reference_is_ready = True
        return self._reference

    def warm_up_reference(self) -> None:
        """Call the reference, if it is new, until its calls find memory that they have touched before.

        What one call frees is often a few bytes too small for the next (aligned allocations ask for more than they
        use), and until there are holes enough each call pays for fresh pages, up to three times its own work. A
        candidate would be credited with that. Raises `CandidateFailure`.
        """
        if self._reference_is_warm:
            return
        reference, calm = self.reference, 0
        self.load_weights(reference, self.published_weights)
        self.load_inputs(self.published_draws[0][0])
        for _ in range(_MOST_WARMING_CALLS):
            before = reference.page_faults
            reference.call(None)
            calm = calm + 1 if reference.page_faults - before < _FRESH_PAGES else 0
            if calm == _CALM_CALLS:
                break
        self._reference_is_warm = True

    def drop_reference(self) -> None:
        """End the reference's process; the next use starts another."""
        if self._reference is not None:
            self.end(self._reference)
            self._reference = None

    def _start(
        self,
        source: str,
        class_name: str,
        writable_inputs: bool,
        output: Arena,
        any_python: bool = False,
        library: int | None = None,
    ) -> Process:
        limits = self.settings.limits
        inputs = self.writable_inputs if writable_inputs else self.inputs
        self.weights.write(list(self.published_weights.values()))
        assignment = replace(
            self._assignment(source, class_name == "Model", any_python),
            class_name=class_name,
            arguments=inputs.slots,
            output=output.slots[0],
            writable_inputs=writable_inputs,
            program=Program.MODULE if library is None else Program.KERNEL,
        )
        return self._warm.spawn(assignment, inputs, self.weights, output, limits, library)

    def _assignment(self, source: str, is_reference: bool, any_python: bool) -> Assignment:
        """What is the same on every device; arguments and output are the session's own, not writable."""
        limits, threads = self.settings.limits, self.settings.threads
        seconds = int(limits.candidate_seconds * threads * _CPU_SECONDS_FACTOR) + 1
        return Assignment(
            source=source,
            class_name="Model" if is_reference else "ModelNew",
            init_arguments=self._init_arguments,
            arguments=self.inputs.slots,
            numbers=self._numbers,
            weights=dict(zip(self.published_weights, self.weights.slots, strict=True)),
            output=self.output.slots[0],
            training=self._training,
            writable_inputs=False,
            any_python=any_python,
            layers=self._warm.active_layers,
            threads=threads,
            memory_bytes=limits.memory_mib << 20,
            file_bytes=limits.scratch_mib << 20 if any_python else limits.printed_bytes,
            cpu_seconds=1 << 30 if is_reference else seconds,
        )

    def close(self) -> None:
        """End the reference's process and free all shared memory."""
        self.drop_reference()
        self.settle()
        self._libraries.close()
        for arena in (self.inputs, self.writable_inputs, self.weights, self.output, self.reference_output):
            arena.close()
