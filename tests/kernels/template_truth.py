"""Templates rendered to C++ and called: the largest error of each filling, in units of the evaluator's error budget.

Run as a program with tasks' keys: one JSON line for each task. In a process of its own, because OpenMP's threads must
not stay in one that other tests fork.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from template_grids import tunings

from vegtts_core.evaluator.answers import make_draw
from vegtts_core.evaluator.comparing import scaled_error
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.kernels.calling import load_cpp
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.templates import TemplateScaffold, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import build_reference, draw_inputs, get_task

TUNINGS = 2


def errors(key: str, folder: Path) -> dict[str, float]:
    """The largest error by filling: the honest one on benchmark and wide draws, others on the benchmark's alone."""
    task, settings = get_task(key), EvaluatorSettings()
    signature = KernelSignature.of(task)
    draws = []
    for seed, wide in ((0, False), (1, True), (2, True)):
        module = build_reference(task, seed, wide_weights=wide)
        inputs = [v.contiguous() if isinstance(v, torch.Tensor) else v for v in draw_inputs(task, seed, wide)]
        draws.append(make_draw(task, "draw", module, inputs, settings))
    found = {}
    honest = honest_filling(task)
    for filling in (honest, *tunings(task, Language.CPP, TUNINGS, seed=0)):
        candidate = TemplateScaffold(Language.CPP).parse(task, filling)
        assert isinstance(candidate, Candidate), candidate
        kernel = load_cpp(candidate.source, signature, folder)
        found[filling] = 0.0
        for draw in draws if filling is honest else draws[:1]:
            output = torch.full(signature.output.shape, -1, dtype=signature.output.dtype)
            output = output if output.dtype == torch.int64 else output.fill_(float("nan"))
            kernel(draw.inputs, draw.weights, output)
            error = scaled_error(task, draw, output)
            found[filling] = max(found[filling], error / draw.budget if draw.budget else error)
    return found


if __name__ == "__main__":
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        for argument in sys.argv[1:]:
            print(json.dumps({"key": argument, "errors": errors(argument, Path(name))}), flush=True)
