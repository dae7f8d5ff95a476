"""What the candidates of one task share: draws with their answers, shared memory, the reference's process.

A session is made for one task at a time and thrown away with it. Every seed in it is secret and new; its candidates may
share draws because each runs in a fresh process that sees nothing but its own inputs. Expected outputs exist in the
evaluator's process only.
"""

from __future__ import annotations

import secrets
from functools import cached_property

import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator.answers import Draw, Inputs, make_draw, run_reference, weights_of
from vegtts_core.evaluator.messages import Assignment
from vegtts_core.evaluator.processes import CandidateFailure, Process, WarmProcess
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.shared_memory import Arena
from vegtts_core.tasks import Task, build_reference, draw_inputs, exec_module

#: KernelBench's seed; the published protocol draws from it, the sound one never does.
_PUBLISHED_SEED = 42
_CPU_SECONDS_FACTOR = 4  # the rlimit on processor time, a backstop, as a multiple of wall-clock limit times threads


def _secret_seed() -> int:
    return secrets.randbits(62)


def _as_tensors(inputs: Inputs) -> list[torch.Tensor]:
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
        reference = build_reference(task, _PUBLISHED_SEED)
        self._training = reference.training
        self.published_weights = weights_of(reference)
        self.published_draws = self._draw_published(reference)
        inputs, expected = self.published_draws[0]
        layout = [(x.shape, x.dtype) for x in _as_tensors(inputs)]
        self._numbers = frozenset(place for place, x in enumerate(inputs) if not isinstance(x, torch.Tensor))
        self.inputs = Arena("inputs", layout, sealed=True)
        self.writable_inputs = Arena("writable-inputs", layout, sealed=False)
        weights = self.published_weights
        self.weights = Arena("weights", [(w.shape, w.dtype) for w in weights.values()], sealed=True)
        self.output = Arena("output", [(expected.shape, expected.dtype)], sealed=False)
        self.reference_output = Arena("reference-output", [(expected.shape, expected.dtype)], sealed=False)
        self._reference: Process | None = None
        self._timing_inputs: list[Inputs] = []
        #: Timed calls of the reference under the published protocol, in seconds, taken once.
        self.published_reference_seconds: tuple[float, ...] = ()

    def _draw_published(self, reference: torch.nn.Module) -> list[tuple[Inputs, torch.Tensor]]:
        generator = torch.Generator().manual_seed(_PUBLISHED_SEED)
        draws = []
        for _ in range(self.settings.published.correctness_trials):
            seed = int(torch.randint(0, 2**32 - 1, (1,), generator=generator))
            inputs = draw_inputs(self.task, seed, wide=False)
            draws.append((inputs, run_reference(self.task, reference, inputs, self.settings.threads)))
        return draws

    @cached_property
    def draws(self) -> list[Draw]:
        """The sound protocol's draws, in the order in which candidates see them.

        Benchmark draws; for each argument that matters, the first of them with that argument replaced; wide draws.
        """
        sound = self.settings.sound
        draws = [
            make_draw(
                self.task,
                f"benchmark inputs, draw {number + 1}",
                build_reference(self.task, _secret_seed()),
                draw_inputs(self.task, _secret_seed(), wide=False),
                self.settings,
            )
            for number in range(sound.benchmark_draws)
        ]
        base = draws[0]
        draws += [self._changed(base, name) for name in self.task.contract.sensitive_to]
        draws += [
            make_draw(
                self.task,
                f"inputs from the whole domain, draw {number + 1}",
                build_reference(self.task, _secret_seed(), wide_weights=True),
                draw_inputs(self.task, _secret_seed(), wide=True),
                self.settings,
            )
            for number in range(sound.wide_draws)
        ]
        return draws

    def _changed(self, base: Draw, name: str) -> Draw:
        module = build_reference(self.task, _secret_seed())
        inputs = list(base.inputs)
        if name != "weights":
            module.load_state_dict(base.weights, strict=False)
            names = [spec.name for spec in self.task.inputs]
            if name not in names:
                raise UserError(
                    f"The contract of {self.task.key} names {name!r}, which is none of {names}: correct it."
                )
            place = names.index(name)
            # A plain number is fixed by the benchmark; only its domain moves it.
            inputs[place] = draw_inputs(self.task, _secret_seed(), wide=place in self._numbers)[place]
        return make_draw(
            self.task, f"benchmark inputs with another `{name}`", module, inputs, self.settings, base, name
        )

    @cached_property
    def timing_weights(self) -> dict[str, torch.Tensor]:
        """Weights of the sound protocol's timed calls: secret, the same for all of them."""
        return weights_of(build_reference(self.task, _secret_seed()))

    def timing_inputs(self, number: int) -> Inputs:
        """Inputs of a candidate's timed call ``number``: no process sees the same ones twice.

        The first ones are kept and shared by the task's candidates, up to the memory that the settings allow.
        """
        room = self.settings.sound.pool_mib * (1 << 20) // self.inputs.size
        if number < len(self._timing_inputs):
            return self._timing_inputs[number]
        inputs = draw_inputs(self.task, _secret_seed(), wide=False)
        if number == len(self._timing_inputs) and number < room:
            self._timing_inputs.append(inputs)
        return inputs

    def load_weights(self, process: Process, weights: dict[str, torch.Tensor]) -> None:
        """Give a process these weights. Raises `CandidateFailure`."""
        if weights:
            self.weights.write(list(weights.values()))
            process.load_weights()

    def load_inputs(self, inputs: Inputs, writable: bool = False) -> None:
        """Put these inputs into the memory that the processes read."""
        (self.writable_inputs if writable else self.inputs).write(_as_tensors(inputs))

    def start(self, source: str, writable_inputs: bool) -> Process:
        """A candidate's process; its module is not built yet (`Process.await_ready`)."""
        return self._start(source, "ModelNew", writable_inputs, self.output)

    @property
    def reference(self) -> Process:
        """The reference's own process, started when first asked for and again if it was lost."""
        if self._reference is None:
            self._reference = self._start(self.task.source, "Model", False, self.reference_output)
            self._reference.live_without_limit()
            try:
                self._reference.await_ready()
            except CandidateFailure as failure:
                self.drop_reference()
                raise UserError(f"The reference of {self.task.key} does not run: {failure.reason}") from None
        return self._reference

    def drop_reference(self) -> None:
        """End the reference's process; the next use starts another."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None

    def _start(self, source: str, class_name: str, writable_inputs: bool, output: Arena) -> Process:
        limits, threads = self.settings.limits, self.settings.threads
        is_reference = class_name == "Model"
        seconds = 1 << 30 if is_reference else int(limits.candidate_seconds * threads * _CPU_SECONDS_FACTOR) + 1
        inputs = self.writable_inputs if writable_inputs else self.inputs
        self.weights.write(list(self.published_weights.values()))
        assignment = Assignment(
            source=source,
            class_name=class_name,
            init_arguments=self._init_arguments,
            arguments=inputs.slots,
            numbers=self._numbers,
            weights=dict(zip(self.published_weights, self.weights.slots, strict=True)),
            output=output.slots[0],
            training=self._training,
            writable_inputs=writable_inputs,
            threads=threads,
            memory_bytes=limits.memory_mib << 20,
            printed_bytes=limits.printed_bytes,
            cpu_seconds=seconds,
        )
        return self._warm.spawn(assignment, inputs, self.weights, output, limits)

    def close(self) -> None:
        """End the reference's process and free all shared memory."""
        self.drop_reference()
        for arena in (self.inputs, self.writable_inputs, self.weights, self.output, self.reference_output):
            arena.close()
