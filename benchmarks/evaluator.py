"""Candidates per second over a mixed set: honest, wrong, broken, crashing and hanging, with the time of each stage.

The set is made for the tasks given (the 20 evaluation tasks of seed 42) and each scaffold: per task an honest
candidate, a wrong one, one that does not compile or build and one that crashes; and ``--hanging`` endless loops in all
(kernels only: ``forward`` allows no loops). A hanging one costs ``--call-seconds``. Both protocols run, unless
``--protocol`` names one. What is computed once per task (inputs, answers) is timed apart, and counts in the rate.

    python benchmarks/evaluator.py [--device cpu|cuda] [--scaffold kernel ...] [--kernelbench CHECKOUT] [--json]

With ``--kernelbench`` the same candidates of scaffold ``forward`` also go through KernelBench's own
``eval_kernel_against_ref`` with its full protocol (5 correctness and 50 timing trials; CUDA only), and ``ratio`` is
its seconds over ours for the candidates of the tasks that both finished. Without a peer ``ratio`` is null.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import resource
import statistics
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import reporting
import torch

from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings, Limits, ProtocolName, Stage, Verdict
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.evaluator.forward import ForwardEvaluator
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.templates.honest import honest_filling
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, load_tasks

#: Bodies of kernels that fit any signature, in both languages; {0} is the parameter list.
_CPP = {
    "wrong": "void kernel({0}) {{\n  for (long long i = 0; i < out_n; ++i) out[i] = 1;\n}}",
    "broken": "void kernel({0}) {{ out[0] = undeclared; }}",
    "crashing": "void kernel({0}) {{ out[-(1LL << 33)] = 1; }}",
    "hanging": "void kernel({0}) {{\n  volatile float* o = (volatile float*)out;\n  while (o[0] != 12345.f) {{}}\n}}",
}
_CUDA = {
    "wrong": "__global__ void kernel({0}) {{\n  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;\n"
    "  if (i < out_n) out[i] = 1;\n}}\nlaunch: grid=(cdiv(out_n, 256)), block=(256)",
} | {name: f"__global__ {text}\nlaunch: grid=(1), block=(32)" for name, text in _CPP.items() if name != "wrong"}
_FORWARD = {
    "wrong": "return torch.ones_like({0}) * 7.0",
    "broken": "return self.no_such_attribute({0})",
    "crashing": "return {0}.reshape(3, 5, 7)",
}


def mixed_set(tasks: list[Task], scaffold: str, device: str, hanging: int) -> list[tuple[str, Candidate]]:
    """(kind, candidate), task by task. Kinds that a scaffold refuses are left out."""
    reader, found = scaffold_for(scaffold, device), []
    for number, task in enumerate(tasks):
        kinds = ["honest", "wrong", "broken", "crashing"] + ["hanging"] * (number < hanging)
        for kind in kinds:
            text = completion(task, scaffold, device, kind)
            candidate = reader.parse(task, text) if text is not None else None
            if isinstance(candidate, Candidate):
                found.append((kind, candidate))
    return found


def completion(task: Task, scaffold: str, device: str, kind: str) -> str | None:
    if scaffold == "forward":
        first = task.forward_arguments[0]
        return task.forward_body if kind == "honest" else _FORWARD[kind].format(first) if kind in _FORWARD else None
    if scaffold == "template" or kind == "honest":
        try:
            return honest_filling(task) if kind == "honest" and scaffold == "template" else None
        except UserError:
            return None
    texts = _CPP if device == "cpu" else _CUDA
    return texts[kind].format(KernelSignature.of(task).parameters())


def honest_kernels(tasks: list[Task], device: str) -> list[tuple[str, Candidate]]:
    """Honest kernels for the set of scaffold ``kernel``: those of the templates."""
    return [pair for pair in mixed_set(tasks, "template", device, 0) if pair[0] == "honest"]


def ours(options: argparse.Namespace, scaffold: str, tasks: list[Task]) -> dict[str, Any]:
    candidates = mixed_set(tasks, scaffold, options.device, options.hanging)
    if scaffold == "kernel":
        candidates += honest_kernels(tasks, options.device)
    protocols = frozenset(ProtocolName) if options.protocol == "both" else frozenset({ProtocolName(options.protocol)})
    settings = EvaluatorSettings(protocols=protocols, limits=Limits(call_seconds=options.call_seconds))
    with evaluator_for(scaffold, options.device, tasks, settings) as evaluator:
        warm = [candidate for kind, candidate in candidates if kind == "honest"][:1]
        evaluator.evaluate(warm, fresh=True)  # processes started, ceilings measured: what is paid once
        fitting, left_out = _fitting(evaluator, tasks, options.size)
        candidates = [pair for key in fitting for pair in candidates if pair[1].task_key == key]
        start = time.perf_counter()
        verdicts, spent = _streamed(evaluator, [candidate for _, candidate in candidates], start + options.seconds)
        seconds = time.perf_counter() - start
    for _, candidate in candidates[len(verdicts) :]:
        left_out[candidate.task_key] = "The time that --seconds allows was over."
    candidates = candidates[: len(verdicts)]
    by_kind: dict[str, list[float]] = {}
    for (kind, _), verdict in zip(candidates, verdicts, strict=True):
        by_kind.setdefault(kind, []).append(sum(verdict.seconds.values()))
    return {
        "scaffold": scaffold,
        "candidates": len(candidates),
        "left_out": left_out,
        "seconds": seconds,
        "candidates_per_second": len(candidates) / seconds,
        "preparing_seconds_per_task": (seconds - sum(sum(v.seconds.values()) for v in verdicts)) / max(1, len(spent)),
        "seconds_by_task": spent,
        "seconds_by_kind": {kind: statistics.mean(values) for kind, values in by_kind.items()},
        "slowest_by_kind": {kind: max(values) for kind, values in by_kind.items()},
        "count_by_kind": {kind: len(values) for kind, values in by_kind.items()},
        "seconds_by_stage": {stage.value: sum(v.seconds.get(stage, 0.0) for v in verdicts) for stage in Stage},
        "outcomes": {kind: _outcomes(candidates, verdicts, kind) for kind in by_kind},
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _fitting(evaluator: ForwardEvaluator, tasks: list[Task], size: str) -> tuple[list[str], dict[str, str]]:
    """Keys of the tasks that this device can hold, and why others are left out. Found before the clock starts."""
    left_out: dict[str, str] = {}
    for task in tasks if size == "kernelbench" else []:
        try:
            evaluator.prepare(task)
        except UserError as error:
            left_out[task.key] = str(error)
    return [task.key for task in tasks if task.key not in left_out], left_out


def _streamed(
    evaluator: ForwardEvaluator, candidates: list[Candidate], end: float
) -> tuple[list[Verdict], dict[str, float]]:
    """Verdicts of whole tasks, none begun after ``end``, and the seconds of each task, its preparation included.

    The candidates go in as one stream, as a search hands them in, so that what comes next is compiled ahead.
    """
    verdicts: list[Verdict] = []
    spent: dict[str, float] = {}
    before = time.perf_counter()
    for index, verdict in evaluator.stream(candidates):
        key, now = candidates[index].task_key, time.perf_counter()
        verdicts.append(verdict)
        spent[key] = spent.get(key, 0.0) + now - before
        before = now
        if now > end and index + 1 < len(candidates) and candidates[index + 1].task_key != key:
            break
    return verdicts, spent


def _outcomes(candidates: list[tuple[str, Candidate]], verdicts: list[Verdict], kind: str) -> dict[str, int]:
    pairs = zip(candidates, verdicts, strict=True)
    return dict(Counter(str(v.error.value if v.error else "passed") for (k, _), v in pairs if k == kind))


#: What KernelBench's helpers import to ask hosted models; evaluating calls none of it.
_CLIENTS = {"dotenv": "load_dotenv", "openai": "OpenAI", "litellm": "completion"}


def peers_own(checkout: str) -> Callable[..., Any]:
    """KernelBench's evaluation. Ends the program if it cannot be imported: before anything is measured.

    Its module of helpers imports the clients of hosted models; those that are not installed get an empty stand-in.
    """
    sys.path.insert(0, f"{checkout}/src")
    for name, member in _CLIENTS.items():
        if importlib.util.find_spec(name) is None:
            stand_in = types.ModuleType(name)
            setattr(stand_in, member, lambda *_, **__: None)
            sys.modules[name] = stand_in
    try:
        importlib.import_module("kernelbench.utils")
        return importlib.import_module("kernelbench.eval").eval_kernel_against_ref
    except (ImportError, AttributeError) as error:
        sys.exit(
            f"error: --kernelbench {checkout} cannot be imported ({error}): name a checkout, and install what it needs."
        )


def peer(evaluate: Callable[..., Any], options: argparse.Namespace, tasks: list[Task]) -> dict[str, Any]:
    """KernelBench's own evaluation of the candidates of scaffold ``forward``, one after another."""
    sources = {task.key: task.source for task in tasks}
    by_task: dict[str, list[float]] = {}
    count = Counter[str]()
    begun = time.perf_counter()
    for _, candidate in mixed_set(tasks, "forward", options.device, 0):
        key = candidate.task_key
        if key not in by_task and time.perf_counter() - begun > options.peer_seconds:
            break
        start = time.perf_counter()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it prints; --json prints one object and nothing else
                result = evaluate(
                    sources[key],
                    candidate.source,
                    num_correct_trials=5,
                    num_perf_trials=50,
                    measure_performance=True,
                    device=torch.device("cuda:0"),
                )
            count["correct" if result is not None and result.correctness else "failed"] += 1
        except Exception:  # its own candidates can end it with any exception: that is one of its outcomes
            count["exceptions"] += 1
        by_task.setdefault(key, []).append(time.perf_counter() - start)
        print(f"KernelBench: {key} {by_task[key][-1]:.1f} s", file=sys.stderr)
    seconds = [each for every in by_task.values() for each in every]
    return {
        "candidates": len(seconds),
        "seconds": sum(seconds),
        "candidates_per_second": len(seconds) / sum(seconds),
        "slowest_seconds": max(seconds),
        "seconds_by_task": {key: sum(every) for key, every in by_task.items()},
        "outcomes": dict(count),
    }


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float | None:
    """Its seconds over ours, summed over the tasks that both finished: the same candidates."""
    common = ours["seconds_by_task"].keys() & theirs["seconds_by_task"].keys()
    if not common:
        return None
    return sum(theirs["seconds_by_task"][key] for key in common) / sum(ours["seconds_by_task"][key] for key in common)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--scaffold", action="append", choices=("forward", "kernel", "template"))
    parser.add_argument("--tasks", nargs="+", default=["l1_seed42_eval"], help="a selection, or keys")
    parser.add_argument("--size", default="cpu")
    parser.add_argument("--hanging", type=int, default=2, help="endless loops in the set of scaffold kernel")
    parser.add_argument("--call-seconds", type=float, default=1.0, help="limit of one call")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no more tasks after so long")
    parser.add_argument("--protocol", default="both", choices=("both", "sound", "published"))
    parser.add_argument("--kernelbench", help="a checkout of KernelBench to compare with (CUDA only)")
    parser.add_argument("--peer-seconds", type=float, default=600.0, help="start no more of the peer's after so long")
    reporting.add_arguments(parser)
    options = parser.parse_args()
    evaluate = peers_own(options.kernelbench) if options.kernelbench else None
    try:
        tasks = load_tasks(options.tasks[0] if len(options.tasks) == 1 else options.tasks, options.size)
        found = [ours(options, name, tasks) for name in options.scaffold or ("forward", "kernel", "template")]
    except UserError as error:
        sys.exit(f"error: {error}")
    theirs = peer(evaluate, options, tasks) if evaluate else None
    forward = next((each for each in found if each["scaffold"] == "forward"), None)
    ratio = _ratio(forward, theirs) if forward and theirs else None
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    result = {"benchmark": "evaluator", "ratio": ratio, "device": device, "size": options.size, "ours": found} | {
        "peer": theirs,
        "protocol": options.protocol,
        "call_seconds": options.call_seconds,
    }
    if not reporting.hand_over(result, options, options.device):
        return
    print(f"{device}, size {options.size}, protocols: {options.protocol}, call limit {options.call_seconds:g} s")
    for each in found:
        print(f"{each['scaffold']}: {each['candidates']} candidates, {each['candidates_per_second']:.2f} per second")
        for key, reason in each["left_out"].items():
            print(f"  {key} left out: {reason}")
        if each["preparing_seconds_per_task"] is not None:
            print(f"  preparing {each['preparing_seconds_per_task']:7.3f} s a task: inputs and their answers")
        for kind, seconds in each["seconds_by_kind"].items():
            slowest = each["slowest_by_kind"][kind]
            said = ", ".join(f"{n} {name}" for name, n in each["outcomes"][kind].items())
            print(f"  {kind:9} {seconds:7.3f} s each (slowest {slowest:.2f}): {said}")
        print("  stages    " + ", ".join(f"{name} {s:.1f} s" for name, s in each["seconds_by_stage"].items() if s))
    if theirs:
        print(f"KernelBench: {theirs['candidates']} candidates, {theirs['candidates_per_second']:.3f} per second")
        print(f"ratio (forward): {ratio:.1f}" if ratio else "")


if __name__ == "__main__":
    main()
