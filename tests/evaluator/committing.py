"""The clock of `vegtts_core.evaluator.committed` on the CPU: for tests of what runs on a GPU otherwise.

A session whose modules get their inputs inside the clock, and whose result is a copy of the evaluator's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from vegtts_core.evaluator import ForwardEvaluator
from vegtts_core.evaluator.answers import Inputs
from vegtts_core.evaluator.committed import timed
from vegtts_core.evaluator.messages import Assignment
from vegtts_core.evaluator.processes import Process
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.session import TaskSession, as_tensors
from vegtts_core.evaluator.shared_memory import Arena, identical
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task


class ArenaMemory:
    def __init__(self, session: CommittedSession, inputs: Arena, output: Arena) -> None:
        self._session, self._inputs, self._output = session, inputs, output
        self.kept = torch.empty(0)

    def show(self) -> None:
        self._inputs.write(self._session.staged)

    def keep(self) -> None:
        self.kept = self._output.tensors[0].clone()

    def await_kept(self) -> None: ...

    def settle(self) -> None: ...

    def is_kept(self) -> bool:
        return identical(self._output.tensors[0], self.kept)


class CommittedRunner:
    def __init__(self, process: Process, memory: ArenaMemory) -> None:
        self._process, self._memory = process, memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def call(self, when_done: Callable[[], None] | None) -> Call:
        return timed(self._process, self._memory, when_done)


class CommittedSession(TaskSession):
    staged: list[torch.Tensor] = []  # noqa: RUF012

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        layout = [(slot.shape, slot.dtype) for slot in self.inputs.slots]
        self.reference_inputs = Arena("reference-inputs", layout, sealed=True)
        self._memories = {"": ArenaMemory(self, self.inputs, self.output)}
        self._runner: CommittedRunner | None = None

    def shares_device(self, candidate: Candidate) -> bool:
        return True

    def load_inputs(self, inputs: Inputs, writable: bool = False) -> None:
        self.staged = as_tensors(inputs)

    def judged(self, arena: Arena) -> torch.Tensor:
        return self._memories[""].kept if arena is self.output else arena.tensors[0]

    def _assignment(self, source: str, is_reference: bool, any_python: bool) -> Assignment:
        return replace(super()._assignment(source, is_reference, any_python), commits=True)

    def start(self, candidate: Candidate, writable_inputs: bool) -> Any:
        memory = ArenaMemory(self, self.writable_inputs if writable_inputs else self.inputs, self.output)
        self._memories[""] = memory
        process = super().start(candidate, writable_inputs)
        assert isinstance(process, Process)
        return CommittedRunner(process, memory)

    def expect_reference(self) -> None:
        shown, self.inputs = self.inputs, self.reference_inputs
        try:
            super().expect_reference()
        finally:
            self.inputs = shown

    @property
    def reference(self) -> Any:
        if self._runner is None:
            process = super().reference
            self._runner = CommittedRunner(process, ArenaMemory(self, self.reference_inputs, self.reference_output))
        return self._runner

    def drop_reference(self) -> None:
        self._runner = None
        super().drop_reference()

    def close(self) -> None:
        super().close()
        self.reference_inputs.close()


class CommittedEvaluator(ForwardEvaluator):
    def _new_session(self, task: Task) -> TaskSession:
        return CommittedSession(task, self.settings, self._warm)


def committed(tasks: Iterable[Task], settings: Any) -> CommittedEvaluator:
    return CommittedEvaluator(tasks, settings)
