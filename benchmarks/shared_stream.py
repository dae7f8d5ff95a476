"""Where a speedup of 859.8x on a matrix-vector product comes from: four evaluations at once on one CUDA stream.

The paper's Best-of-N gave four threads of one process each a candidate of task 4. KernelBench draws inputs on the CPU,
copies them to the device, and times calls between two CUDA events on the thread's current stream, which is the same
one for all threads: another thread's copy of gigabytes can land between two events and count as the call's time.

Here every candidate is the reference itself, so that its true speedup is 1. The sound protocol measures it first; then
evaluations run as KernelBench times them, one at a time and in ``--threads`` threads; between the two, for ``--beside``
seconds, its timing alone, again and again, beside one thread that copies the task's inputs to the device half of the
time: that shows what a meeting does without waiting for one. With ``--out`` the file is written anew after every one
of them.

    python benchmarks/shared_stream.py [--task 4] [--size kernelbench] [--alone 2] [--evaluations 8] [--beside 60]

With ``--json`` the object's ``ratio`` is the largest speedup seen with threads over the largest without.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

import reporting
import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings, ProtocolName
from vegtts_core.evaluator.cuda import CudaEvaluator
from vegtts_core.scaffolds import ForwardScaffold, Refusal
from vegtts_core.tasks import Task, exec_module, get_task

SEED = 42
DRAWERS = 4
WARMUP = 3
TRIALS = 5


def timed(call: Callable[[], Any]) -> float:
    """Mean milliseconds of a call between CUDA events, as KernelBench's ``time_execution_with_cuda_event``."""
    for _ in range(WARMUP):
        call()
        torch.cuda.synchronize()
    milliseconds = []
    for _ in range(TRIALS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        milliseconds.append(start.elapsed_time(end))
    return statistics.mean(milliseconds)


def on_device(task: Task) -> list[Any]:
    """Inputs made on the CPU and copied, as KernelBench does.

    It draws from one generator, at which threads wait for one another for most of the time; here each draw has
    generators of its own, so that copies of gigabytes are as frequent as on a machine that draws faster.
    """
    return [_uniform(spec.shape).cuda() for spec in task.inputs if spec.shape is not None]


def _uniform(shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.empty(shape)
    parts = values.view(-1).chunk(DRAWERS)
    with ThreadPoolExecutor(DRAWERS) as pool:
        list(pool.map(lambda part: part.uniform_(generator=torch.Generator().manual_seed(SEED)), parts))
    return values


@torch.no_grad()
def evaluation(task: Task) -> dict[str, float]:
    """One evaluation of the reference against itself: a correctness trial, then timing, in KernelBench's order."""
    namespace = exec_module(task.source)
    model, candidate = (namespace["Model"](*namespace["get_init_inputs"]()).cuda() for _ in range(2))
    inputs = on_device(task)
    torch.testing.assert_close(candidate(*inputs), model(*inputs), rtol=1e-4, atol=1e-4)
    del inputs
    inputs = on_device(task)
    candidate_ms = timed(lambda: candidate(*inputs))
    reference_ms = timed(lambda: model(*inputs))
    return {"reference_ms": reference_ms, "candidate_ms": candidate_ms, "speedup": reference_ms / candidate_ms}


def evaluations(task: Task, count: int, threads: int, note: Callable[[dict[str, float]], None]) -> None:
    """``note`` gets each evaluation as it ends."""
    with ThreadPoolExecutor(threads) as pool:
        for waiting in as_completed([pool.submit(evaluation, task) for _ in range(count)]):
            note(waiting.result())


@torch.no_grad()
def beside_copies(task: Task, seconds: float, note: Callable[[dict[str, float]], None]) -> None:
    """The reference timed as candidate and as reference beside a thread that copies the task's inputs, and pauses."""
    namespace = exec_module(task.source)
    model = namespace["Model"](*namespace["get_init_inputs"]()).cuda()
    inputs, end, pause = on_device(task), time.perf_counter() + seconds, random.Random(SEED)
    host = [_uniform(spec.shape) for spec in task.inputs if spec.shape is not None]

    def copy() -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            for values in host:
                values.cuda()
            time.sleep(2 * pause.random() * (time.perf_counter() - start))

    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copy)
        while time.perf_counter() < end:
            candidate_ms, reference_ms = timed(lambda: model(*inputs)), timed(lambda: model(*inputs))
            pair = {"reference_ms": reference_ms, "candidate_ms": candidate_ms}
            note(pair | {"speedup": reference_ms / candidate_ms})
        copying.result()


def sound(task: Task) -> dict[str, Any]:
    """What the sound protocol says of the reference as its own candidate."""
    candidate = ForwardScaffold().parse(task, task.forward_body)
    if isinstance(candidate, Refusal):
        sys.exit(f"The reference is refused as a candidate: {candidate.reason}")
    settings = EvaluatorSettings(protocols=frozenset({ProtocolName.SOUND}))
    with CudaEvaluator([task], settings) as evaluator:
        (verdict,) = evaluator.evaluate([candidate])
    measured = verdict.sound
    if measured is None or not measured.correct:
        return {"reason": verdict.reason}
    return {
        "speedup": measured.speedup,
        "low": measured.speedup_low,
        "high": measured.speedup_high,
        "decision": str(measured.decision),
        "reference_ms": 1e3 * statistics.median(measured.reference_seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="4")
    parser.add_argument("--size", default="kernelbench")
    parser.add_argument("--alone", type=int, default=2, help="evaluations one at a time")
    parser.add_argument("--evaluations", type=int, default=8, help="evaluations in threads")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--beside", type=float, default=60.0, help="seconds of timing beside a thread that copies")
    reporting.add_arguments(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: this benchmark needs a CUDA device: run it on a machine with a GPU.")
    task = get_task(options.task, options.size)
    result: dict[str, Any] = {
        "benchmark": "shared_stream",
        "ratio": None,
        "task": task.key,
        "size": options.size,
        "threads": options.threads,
        "device": torch.cuda.get_device_name(),
        "sound": {"reason": "The program ended before it."},
        "alone": [],
        "together": [],
        "beside": [],
    }
    start = time.perf_counter()
    try:
        result["sound"] = sound(task)
    except UserError as error:
        result["sound"] = {"reason": str(error)}
    gc.collect()
    torch.cuda.empty_cache()

    def note(name: str, found: dict[str, float]) -> None:
        result[name].append(found)
        print(f"{name}: {found['speedup']:.3f} after {time.perf_counter() - start:.0f} s", file=sys.stderr)
        if options.out is not None:  # killed from here on, it leaves what it has
            reporting.write(result, options, "cuda")

    evaluations(task, options.alone, 1, partial(note, "alone"))
    beside_copies(task, options.beside, partial(note, "beside"))
    evaluations(task, options.evaluations, options.threads, partial(note, "together"))
    largest = {name: max(e["speedup"] for e in result[name]) for name in ("alone", "together")}
    result |= {"ratio": largest["together"] / largest["alone"], "seconds": time.perf_counter() - start}
    if not reporting.hand_over(result, options, "cuda"):
        return
    print(f"task {task.key}, size {options.size}, the reference as its own candidate, {result['device']}")
    for title, name in (
        ("one at a time", "alone"),
        ("beside copies", "beside"),
        (f"{options.threads} threads", "together"),
    ):
        speedups = sorted(e["speedup"] for e in result[name])
        if not speedups:
            continue
        print(
            f"{title:16} n={len(speedups):3}  speedup min {speedups[0]:.3f}  median {statistics.median(speedups):.3f}  "
            f"max {speedups[-1]:.1f}  called faster {sum(s > 1 for s in speedups)}/{len(speedups)}"
        )
    print(f"{'sound':16} {result['sound']}")


if __name__ == "__main__":
    main()
