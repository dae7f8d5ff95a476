"""Ten thousand candidates through one evaluator: do memory, open handles and rate stay where they were?

    python benchmarks/soak.py [--device cpu|cuda] [--candidates 10000] [--out data/measurement/soak_cpu.json] [--json]

No two candidates are the same text. In every hundred: 5 kernels (each compiled) and 95 bodies of ``forward`` that fail
in one way or another, one of them honest and timed. Memory is that of the evaluator's process and of all processes
below it (proportional share, MiB); handles are the evaluator's open file descriptors. With ``--json`` the object's
``ratio`` is the rate in the last tenth over that in the second.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import reporting

from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings, Limits
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, load_tasks

_FAILING = (
    "return torch.ones_like({0}) * {1}",
    "return {0}.reshape(-1)[: 3 + {1}]",
    "return {0}.reshape(3, 5, 7 + {1})",
)
_LAUNCH = {"cpu": "", "cuda": "\nlaunch: grid=(1), block=(32)"}


def hundred(task: Task, first: int, device: str) -> list[Candidate]:
    """Candidates ``first`` to ``first + 99``. Texts differ by a number in them."""
    name, kernels, bodies = task.forward_arguments[0], scaffold_for("kernel", device), scaffold_for("forward", device)
    head = ("__global__ " if device == "cuda" else "") + f"void kernel({KernelSignature.of(task).parameters()})"
    found = []
    for number in range(first, first + 100):
        if number % 20 == 0:
            parsed = kernels.parse(task, f"{head} {{ out[0] = {number}; }}{_LAUNCH[device]}")
        elif number % 100 == 1:
            parsed = bodies.parse(task, f"number = {number}\n{task.forward_body}")
        else:
            parsed = bodies.parse(task, _FAILING[number % 3].format(name, number + 1))
        if isinstance(parsed, Candidate):
            found.append(parsed)
    return found


def state() -> dict[str, float]:
    """Memory in MiB, open handles and processes now."""
    mine = _family(os.getpid())
    memory = sum(_proportional(pid) for pid in mine)
    return {"rss_mib": memory / 1024, "handles": len(os.listdir("/proc/self/fd")), "processes": len(mine)}


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [one for child in task.read_text().split() for one in _family(int(child))]
        except OSError:
            continue
    return found


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def soak(tasks: list[Task], device: str, count: int, seconds: float) -> list[dict[str, Any]]:
    """State and seconds after every hundred candidates; no hundred is begun after ``seconds``."""
    settings = EvaluatorSettings(limits=Limits(call_seconds=1.0))
    samples: list[dict[str, Any]] = []
    with evaluator_for("kernel", device, tasks, settings) as evaluator:
        start, done = time.perf_counter(), 0
        while done < count and time.perf_counter() - start < seconds:
            candidates = hundred(tasks[done // 100 % len(tasks)], done, device)
            verdicts = evaluator.evaluate(candidates)
            done += 100
            samples.append(
                {
                    "done": done,
                    "evaluated": len(verdicts),
                    "correct": sum(v.error is None for v in verdicts),
                    "seconds": round(time.perf_counter() - start, 2),
                    **state(),
                }
            )
            print(f"{done} of {count}: {samples[-1]}", file=sys.stderr, flush=True)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tasks", default="l1_seed42_eval")
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no hundred after so long")
    reporting.add_arguments(parser)
    options = parser.parse_args()
    try:
        samples = soak(load_tasks(options.tasks, "cpu"), options.device, options.candidates, options.seconds)
    except UserError as error:
        sys.exit(f"error: {error}")
    tenth = max(1, len(samples) // 10)
    rates = [
        sum(s["evaluated"] for s in samples[start + 1 : start + tenth + 1])
        / max(1e-9, samples[min(start + tenth, len(samples) - 1)]["seconds"] - samples[start]["seconds"])
        for start in (tenth, len(samples) - tenth - 1)
    ]
    result = {
        "benchmark": "soak",
        "ratio": rates[1] / rates[0] if rates[0] else None,
        "device": options.device,
        "candidates": sum(s["evaluated"] for s in samples),
        "seconds": samples[-1]["seconds"],
        "rates": rates,
        "samples": samples,
    }
    if not reporting.hand_over(result, options, options.device):
        return
    print("done  seconds  memory MiB  handles  processes")
    for sample in samples[:: max(1, len(samples) // 10)]:
        figures = f"{sample['rss_mib']:8.0f} {sample['handles']:8} {sample['processes']:6}"
        print(f"{sample['done']:6} {sample['seconds']:8.1f} {figures}")
    print(f"{result['candidates']} candidates; rate early {rates[0]:.2f}, late {rates[1]:.2f} per second")


if __name__ == "__main__":
    main()
