"""How much the tuning holes of the kernel templates matter: the slowest choice's time over the fastest's, by task.

For every task that has a template, its honest expressions are combined with choices drawn at random from the tuning
grid (the honest filling's own come first); each is compiled, held against the reference, and timed. Choices that cost
correctness are left out and counted. All choices of a task take turns, and the fastest of ``--rounds`` calls counts,
as others may use the machine. ``ratio`` is the median over tasks; a spread of 1.5 or more makes a dense reward.

    python benchmarks/tuning_spread.py [--device cpu] [--size cpu] [--tasks 30 14] [--count 12] [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import reporting
import torch

from vegtts_core.errors import UserError
from vegtts_core.kernels.calling import Call, load_cpp, load_cuda
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.templates import TemplateScaffold, covered, honest_filling, template_of, tuning_grid
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import AnswerKind, Task, build_reference, draw_inputs, get_task

ENOUGH = 1.5
#: What two right float32 answers may differ by, as a share of the output's largest number.
TOLERANCE = 1e-3


def fillings(task: Task, language: Language, count: int) -> list[Candidate]:
    """The honest filling and ``count - 1`` others that differ from it in their tuning."""
    scaffold, grid = TemplateScaffold(language), tuning_grid(template_of(task))
    draw = random.Random(task.key)
    found: dict[str, Candidate] = {}
    honest = honest_filling(task)
    expressions = [line for line in honest.splitlines() if line.split(" = ")[0] not in grid]
    for attempt in range(50 * count):
        chosen = [f"{name} = {draw.choice(values)}" for name, values in grid.items()]
        candidate = scaffold.parse(task, "\n".join([*expressions, *chosen]) if attempt else honest)
        if isinstance(candidate, Candidate):
            found.setdefault(candidate.fingerprint, candidate)
        if len(found) == count:
            break
    return list(found.values())


def right(task: Task, output: torch.Tensor, expected: torch.Tensor, x: Any) -> bool:
    if task.contract.answer is not AnswerKind.VALUES:
        dim = task.contract.dim
        assert dim is not None  # an index is one along a dimension
        return bool(torch.equal(*(x.gather(dim, index.unsqueeze(dim)) for index in (output, expected))))
    return bool(((output - expected).abs() <= TOLERANCE * expected.abs().max()).all())


def seconds(run: Callable[[], None], device: str) -> float:
    if device == "cuda":
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1e3
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@torch.no_grad()
def spread(task: Task, device: str, count: int, rounds: int, folder: Path, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """One row of the table: milliseconds of the fastest and slowest right choice and of the reference."""
    signature = KernelSignature.of(task)
    language = Language.CUDA if device == "cuda" else Language.CPP
    candidates = fillings(task, language, count)

    def load(candidate: Candidate) -> Call:
        if candidate.launch is not None:
            return load_cuda(candidate.source, candidate.launch, signature)
        return load_cpp(candidate.source, signature, folder)

    # A CUDA context belongs to a thread; C++ compilers are processes of their own and run side by side.
    calls = list((map if device == "cuda" else pool.map)(load, candidates))
    module = build_reference(task, 0).to(device)
    inputs = [v.contiguous().to(device) if isinstance(v, torch.Tensor) else v for v in draw_inputs(task, 0, wide=False)]
    expected, state = module(*inputs), module.state_dict()
    output = torch.empty(signature.output.shape, dtype=signature.output.dtype, device=device)
    correct = []
    for call in calls:
        call(inputs, state, output)
        if right(task, output, expected, inputs[0]):
            correct.append(call)
    times: list[list[float]] = [[] for _ in correct]
    for _ in range(rounds):
        for call, its in zip(correct, times, strict=True):
            its.append(seconds(lambda call=call: call(inputs, state, output), device))
    best = [min(its) * 1e3 for its in times]
    reference = min(seconds(lambda: module(*inputs), device) for _ in range(rounds)) * 1e3
    return {
        "task": task.key,
        "family": template_of(task).family.value,
        "choices": len(candidates),
        "wrong": len(candidates) - len(correct),
        "fastest_ms": min(best),
        "slowest_ms": max(best),
        "ratio": max(best) / min(best),
        "reference_ms": reference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=("cpu", "kernelbench"), default="cpu", help="shapes of the tasks")
    parser.add_argument("--tasks", nargs="*", default=[], help="ids; all that have a template if left out")
    parser.add_argument("--count", type=int, default=12, help="choices per task")
    parser.add_argument("--rounds", type=int, default=7, help="calls of each choice")
    parser.add_argument("--threads", type=int, default=2, help="of the reference, and compilers at a time")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no task after so long")
    reporting.add_arguments(parser)
    options = parser.parse_args()
    begun = time.perf_counter()
    torch.set_num_threads(options.threads)
    keys = options.tasks or [entry.key for entry in covered() if entry.family]
    rows = []
    if not options.json:
        print(f"{'task':15}{'family':16}{'fastest':>10}{'slowest':>10}{'ratio':>8}{'reference':>11}   wrong")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.threads) as pool:
        for key in keys:
            if rows and time.perf_counter() - begun > options.seconds:
                break
            try:
                task = get_task(key, options.size)
                rows.append(spread(task, options.device, options.count, options.rounds, Path(name), pool))
            except UserError as error:
                sys.exit(str(error))
            row = rows[-1]
            if not options.json:
                print(
                    f"{row['task']:15}{row['family']:16}{row['fastest_ms']:7.3f} ms{row['slowest_ms']:7.3f} ms"
                    f"{row['ratio']:8.2f}{row['reference_ms']:8.3f} ms   {row['wrong']} of {row['choices']}",
                    flush=True,
                )
    result = {
        "benchmark": "tuning_spread",
        "ratio": statistics.median(row["ratio"] for row in rows),
        "share_of_tasks": sum(row["ratio"] >= ENOUGH for row in rows) / len(rows),
        "enough": ENOUGH,
        "device": options.device,
        "size": options.size,
        "count": options.count,
        "rounds": options.rounds,
        "tasks": rows,
        "left_out": keys[len(rows) :],
    }
    if reporting.hand_over(result, options, options.device):
        print(f"median ratio {result['ratio']:.2f}; at least {ENOUGH} on {result['share_of_tasks']:.0%} of tasks")


if __name__ == "__main__":
    main()
