"""The evaluator of candidates on a GPU: CUDA kernels (scaffolds ``kernel`` and ``template``), ``forward``, modules."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from types import TracebackType

import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator.baselines import COMPILED
from vegtts_core.evaluator.cuda.ceilings import gpu_ceilings
from vegtts_core.evaluator.cuda.compilations import Compilations
from vegtts_core.evaluator.cuda.gate import OwnKernels
from vegtts_core.evaluator.cuda.launching import Launchers
from vegtts_core.evaluator.cuda.memory import too_large
from vegtts_core.evaluator.cuda.session import CudaSession
from vegtts_core.evaluator.cuda.spares import Spares
from vegtts_core.evaluator.cuda.watch import device_handle
from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.outcome import Stages, failed
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.timing_lock import TimingLock
from vegtts_core.evaluator.types import ErrorKind, Stage, Verdict
from vegtts_core.kernels.ceilings import Ceilings
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

_NO_CPP = "It is written in C++ and this evaluator measures on a GPU: give it to one for the CPU."
_NO_ROOM = "It left the evaluator no memory on the device."


class CudaEvaluator(ForwardEvaluator):
    """As `ForwardEvaluator`, on one CUDA device. Needs PyCUDA (``make gpu``) for kernels, torch with CUDA for all."""

    def __init__(self, tasks: Iterable[Task], settings: EvaluatorSettings | None = None, device: str = "cuda") -> None:
        """``device`` is ``cuda`` or ``cuda:0``. Raises UserError if there is no such device."""
        if device not in ("cuda", "cuda:0"):
            raise UserError(f"The GPU evaluator measures on 'cuda' (the first device), not on {device!r}.")
        if not torch.cuda.is_available():
            raise UserError("There is no CUDA device here, or torch has no CUDA: use device='cpu'.")
        super().__init__(tasks, settings)
        self.device = "cuda"
        self._launchers = Launchers(0)
        self._compilations: Compilations | None = None
        self._spares = Spares(self._warm, self.settings.limits)
        self._own_kernels: OwnKernels | None = None
        self._against_itself = False

    def __enter__(self) -> CudaEvaluator:
        self._launchers.start()
        super().__enter__()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        properties = torch.cuda.get_device_properties(0)
        self._architecture = f"sm_{properties.major}{properties.minor}"
        self._compilations = Compilations(self._warm, self.settings, self._architecture)
        self._own_kernels = OwnKernels(self._architecture)
        self._nvml = device_handle(str(properties.uuid))
        # What is there now stays: leaving a task collects garbage, and need not look through all of torch for it.
        gc.collect()
        gc.freeze()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._compilations is not None:
            self._compilations.close()
        self._end_session()
        self._spares.close()
        super().__exit__(kind, error, trace)
        self._launchers.close()
        gc.unfreeze()
        if self._own_kernels is not None:
            self._own_kernels.close()
            self._own_kernels = None

    @property
    def measures_on(self) -> str:
        """Its name for the timing lock: what runs on one GPU of a machine does not disturb timing on another."""
        return f"cuda-{torch.cuda.get_device_properties(0).uuid}"

    def restart(self, against_itself: bool) -> None:
        """Forget the task in hand. ``against_itself``: from now on kernels are timed against themselves.

        The kernel then runs where references run, too: for A/A calibration (`vegtts_core.evaluator.cuda.itself`).
        """
        self._end_session()
        self._against_itself = against_itself

    def _evaluate(self, task: Task, candidate: Candidate, lock: TimingLock) -> Verdict:
        try:
            return super()._evaluate(task, candidate, lock)
        except torch.OutOfMemoryError:
            pass  # what processes and draws keep for the next candidate may be what is missing
        self._spares.drop()
        if isinstance(self._session, CudaSession):
            self._session.make_room()
        try:
            return super()._evaluate(task, candidate, lock)
        except torch.OutOfMemoryError as error:
            if candidate.scaffold == "module":  # no allow-list keeps it from taking all there is
                outcome = failed(Stage.CORRECTNESS, ErrorKind.OUT_OF_MEMORY, _NO_ROOM, 0)
                return self._verdict(candidate, dict.fromkeys(self.settings.protocols, outcome), Stages())
            raise too_large(task, error) from None

    def _new_session(self, task: Task) -> TaskSession:
        assert self._compilations is not None and self._own_kernels is not None
        return CudaSession(
            task,
            self.settings,
            self._warm,
            self._launchers,
            self._spares,
            self._compilations,
            self._own_kernels,
            0,
            self._nvml,
            self._against_itself,
        )

    def _refusal(self, candidate: Candidate) -> str:
        return _NO_CPP if candidate.language is Language.CPP else ""

    def _prepare(self, ahead: Sequence[Candidate]) -> None:
        if self._compilations is not None:
            self._compilations.announce(ahead)
        bodies = sum(c.language is Language.PYTHON and c.scaffold not in (COMPILED, "module") for c in ahead)
        if bodies:  # a process per protocol, one for the reference, and one if it has to be confirmed
            self._spares.expect(2 * bodies + 2)

    def _ceilings(self, anew: bool) -> Ceilings:
        assert self._lock is not None
        with self._lock.measuring():
            return gpu_ceilings(anew)
