"""Processes for ``forward`` bodies on a GPU: started ahead, ended behind, and never while something is timed.

A CUDA context takes a fifth of a second to make and a tenth to end, more than most candidates run. So several processes
with a context wait for an assignment, and those that are done end in the background. `settle` waits until all of that
is over: whoever times calls it first.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence

from vegtts_core.evaluator.messages import Assignment
from vegtts_core.evaluator.processes import CandidateFailure, Process
from vegtts_core.evaluator.runner import SharedMemory
from vegtts_core.evaluator.settings import Limits
from vegtts_core.evaluator.warm_process import WarmProcess

#: Waiting processes. New ones are started together, when one is left: they start as fast as a single one.
_SPARES = 6


class Spares:
    """See the module. The first is started when the first is about to be needed (`expect`)."""

    def __init__(self, warm: WarmProcess, limits: Limits) -> None:
        self._warm, self._limits = warm, limits
        self._waiting: deque[Process] = deque()
        self._ending: list[threading.Thread] = []

    def expect(self, count: int) -> None:
        """Have processes started if few are left for the ``count`` that will be asked for soon."""
        if len(self._waiting) <= 1:
            while len(self._waiting) < min(count, _SPARES):
                self._waiting.append(self._warm.spawn_waiting(self._limits))

    def take(self, assignment: Assignment, arenas: Sequence[SharedMemory]) -> Process:
        """A process for ``assignment``, with a context if one waits. Its module is not built yet."""
        inputs, weights, output = arenas
        while self._waiting:
            process = self._waiting.popleft()
            try:
                process.assign(assignment, [arena.fd for arena in arenas])
                return process
            except CandidateFailure:  # it was lost while it waited
                process.close()
        return self._warm.spawn(assignment, inputs, weights, output, self._limits)

    def retire(self, process: Process) -> None:
        """End a process without waiting for it."""
        thread = threading.Thread(target=process.close, daemon=True)
        thread.start()
        self._ending = [each for each in self._ending if each.is_alive()] + [thread]

    def settle(self) -> None:
        """Wait until no process is starting or ending."""
        for thread in self._ending:
            thread.join()
        self._ending.clear()
        for process in self._waiting:
            with contextlib.suppress(CandidateFailure):
                process.await_waiting()

    def drop(self) -> None:
        """End the waiting processes, to give their memory back."""
        while self._waiting:
            self.retire(self._waiting.popleft())
        self.settle()

    close = drop
