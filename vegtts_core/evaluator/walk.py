"""One task through all stages: candidates that end in each of them, recorded for chapter 3.1.

    python -m vegtts_core.evaluator.walk [--device cpu|cuda] [--size cpu] [--out data/walk/DEVICE]

Writes ``walk.json``: machine, versions, settings and, for every candidate, its completion, the verdict under both
protocols and the seconds of each timed call. The candidates are ours; which stage ends them is the evaluator's finding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.evaluator.description import described, measured_by
from vegtts_core.evaluator.settings import EvaluatorSettings, Limits
from vegtts_core.evaluator.types import Measurement, ProtocolName
from vegtts_core.kernels.examples import example_text
from vegtts_core.kernels.templates.honest import honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.project import find_project_root
from vegtts_core.runs import machine
from vegtts_core.runs.files import write_json
from vegtts_core.scaffolds import Refusal
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, get_task

#: Swish, y = x * sigmoid(x): short enough that a reader sees what is wrong with each candidate.
TASK = 25

_HEAD = {"cpu": "void kernel(const float* x, float* out) {{\n    {0}\n}}\n"}
_HEAD["cuda"] = "__global__ " + _HEAD["cpu"] + "launch: grid=(cdiv(out_n, 256)), block=(256)\n"
_EACH = {
    "cpu": "for (long long i = 0; i < out_n; i++) {0}",
    "cuda": "long long i = blockIdx.x * 256LL + threadIdx.x;\n    if (i < out_n) {0}",
}
_ROW = {
    "typo": "out[i] = x[i] / (1.0f + exp_f(-x[i]));",
    "half of the answer": "out[i] = x[i] * 0.5f;",
    "right for the benchmark's inputs only": "out[i] = x[i] < 0.0f ? 0.0f : x[i] / (1.0f + expf(-x[i]));",
}
_WHOLE = {
    "writes beyond its output": "for (long long i = 0; i < 8; i++) out[out_n + i] = 1.0f;",
    "leaves the output as it is": "",
    "writes its input": "((float*)x)[0] = 1.0f; out[0] = 1.0f;",
    "never ends": "volatile float* o = (volatile float*)out; while (o[0] != 12345.0f) {{}}",
}

OnEntry = Callable[[dict[str, Any]], None]
"""Called with a candidate's entry in ``walk.json``."""


def completions(task: Task, device: str) -> dict[str, tuple[str, str]]:
    """Name -> (scaffold, what a policy would write)."""
    example = example_text(task.id, Language.CPP if device == "cpu" else Language.CUDA)
    assert example is not None
    head, each = _HEAD[device], _EACH[device]
    lines = {name: each.format(line) for name, line in _ROW.items()} | {
        name: body.format() for name, body in _WHOLE.items()
    }
    found = {
        "the reference written back": ("forward", task.forward_body),
        "an honest kernel": ("kernel", example),
        "a filled template": ("template", honest_filling(task)),
        "calls the host": ("kernel", head.format('system("rm -rf /");')),
    }
    return found | {name: ("kernel", head.format(body)) for name, body in lines.items()}


def walk(task: Task, device: str, on_entry: OnEntry | None = None) -> list[dict[str, Any]]:
    """Evaluates the candidates one after another; ``on_entry`` gets each one's entry as soon as it is known."""
    settings = EvaluatorSettings(limits=Limits(call_seconds=2.0))
    found = []
    texts = completions(task, device)
    with evaluator_for("kernel", device, [task], settings) as evaluator:
        for name, (scaffold, text) in texts.items():
            entry: dict[str, Any] = {"name": name, "scaffold": scaffold, "text": text}
            parsed = scaffold_for(scaffold, device).parse(task, text)
            if isinstance(parsed, Refusal):
                nothing = Measurement(correct=False, reason=parsed.reason)
                for protocol in ProtocolName:
                    entry[protocol.value] = described(task, scaffold, device, protocol, nothing, parsed)
            else:
                entry["source"] = parsed.source
                entry |= _evaluated(evaluator, task, device, parsed)
            found.append(entry)
            if on_entry is not None:
                on_entry(entry)
    return found


def line_of(entry: dict[str, Any]) -> str:
    """An entry in one line: name, stage, and the reason or what the timing says."""
    sound = entry["sound"]
    return f"{entry['name']:40} {sound['stage']:12} {sound['reason'] or sound['decision']}"


def _evaluated(evaluator: Any, task: Task, device: str, candidate: Candidate) -> dict[str, Any]:
    (verdict,) = evaluator.evaluate([candidate], fresh=True)
    entry: dict[str, Any] = {}
    for protocol in ProtocolName:
        measured = measured_by(verdict, protocol)
        entry[protocol.value] = described(task, candidate.scaffold, device, protocol, measured, verdict) | {
            "pairs": [list(pair) for pair in zip(measured.reference_seconds, measured.candidate_seconds, strict=False)]
        }
    return entry


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk and write: 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m vegtts_core.evaluator.walk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", default="cpu", help="cpu (default) or kernelbench")
    parser.add_argument("--out", type=Path, help="folder (default: data/walk/DEVICE)")
    chosen = parser.parse_args(arguments)
    try:
        root = find_project_root()
        task = get_task(TASK, chosen.size)
        folder = chosen.out or root / "data" / "walk" / chosen.device
        facts = {
            "kind": "walk",
            "task": task.key,
            "size": chosen.size,
            "device": chosen.device,
            "machine": machine.device(chosen.device),
            "versions": machine.versions(),
            **machine.git_commit(root),
        }
        found = walk(task, chosen.device, lambda entry: print(line_of(entry)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "walk.json", facts | {"candidates": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
