"""Which scaffold reads a candidate, and which evaluator measures it, by their names."""

from __future__ import annotations

from collections.abc import Iterable

from vegtts_core.errors import UserError
from vegtts_core.evaluator.cuda import CudaEvaluator
from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.kernels.kernel_scaffold import KernelScaffold
from vegtts_core.kernels.templates.scaffold import TemplateScaffold
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds import ForwardScaffold, ModuleScaffold, Scaffold
from vegtts_core.tasks import Task

SCAFFOLDS = ("forward", "module", "kernel", "template")
DEVICES = ("cpu", "cuda")


def scaffold_for(name: str, device: str) -> Scaffold:
    """The scaffold of this name for candidates that run on ``device``. Raises UserError for unknown names."""
    if device not in DEVICES:
        raise UserError(f"{device!r} is no device: use {' or '.join(map(repr, DEVICES))}.")
    if name == "forward":
        return ForwardScaffold()
    if name == "module":
        return ModuleScaffold()
    language = Language.CPP if device == "cpu" else Language.CUDA
    if name == "kernel":
        return KernelScaffold(language)
    if name == "template":
        return TemplateScaffold(language)
    raise UserError(f"{name!r} is no scaffold: use {' or '.join(map(repr, SCAFFOLDS))}.")


def evaluator_for(scaffold: str, device: str, tasks: Iterable[Task], settings: EvaluatorSettings) -> ForwardEvaluator:
    """The evaluator of candidates of ``scaffold`` on ``device``, not yet entered. Raises UserError where none is."""
    if device == "cuda":
        return CudaEvaluator(tasks, settings)
    return ForwardEvaluator(tasks, settings, device)
