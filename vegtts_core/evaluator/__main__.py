"""``python -m vegtts_core.evaluator FILE --task 30``: what the evaluator says of one candidate.

FILE holds what a policy would write (a body of forward, the holes of a template, a kernel with its launch line) or a
whole KernelBench module, as ``--scaffold`` says. Prints a verdict to read, or with ``--json`` one object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from vegtts_core.errors import UserError
from vegtts_core.evaluator.baselines import COMPILED, over
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.evaluator.description import described, measured_by
from vegtts_core.evaluator.sandbox import Layer
from vegtts_core.evaluator.settings import EvaluatorSettings, Precision, SandboxSettings, SoundSettings
from vegtts_core.evaluator.types import Measurement, ProtocolName
from vegtts_core.scaffolds import Refusal
from vegtts_core.tasks import Size, load_tasks

#: Longest file that is read, in bytes: more than any scaffold takes.
_LONGEST = 1 << 20


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the usage."""
        raise UserError(f"{message[:1].upper()}{message[1:]}: see --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict on one candidate: 0 whatever it is, 2 after a user's mistake."""
    parser = _Parser(prog="python -m vegtts_core.evaluator", description=__doc__)
    parser.add_argument("file", help="what a policy would write, or a whole module; - reads standard input")
    parser.add_argument("--task", required=True, help="id or key of the task, e.g. 30 or level1/12-diag")
    parser.add_argument("--scaffold", default="forward", help="forward (default), module, kernel or template")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--size", help="cpu or kernelbench (default: cpu on the CPU, kernelbench on a GPU)")
    parser.add_argument("--protocol", default="sound", help="sound (default) or published")
    parser.add_argument(
        "--precision", default="float32", help="float32 (default), tf32, float16 or bfloat16 is allowed"
    )
    parser.add_argument("--baseline", choices=("eager", "compile"), default="eager", help="compile: torch.compile too")
    parser.add_argument(
        "--without", action="append", default=[], metavar="LAYER", help="run module where this sandbox layer is missing"
    )
    parser.add_argument("--json", action="store_true", help="print one object")
    try:
        chosen = parser.parse_args(arguments)
        said = _evaluate(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    print(json.dumps(said) if chosen.json else _readable(said))
    return 0


def _evaluate(chosen: argparse.Namespace) -> dict[str, Any]:
    protocol = _one_of(ProtocolName, chosen.protocol, "protocol")
    precision = _one_of(Precision, chosen.precision, "precision")
    without = frozenset(_one_of(Layer, name, "layer of the sandbox") for name in chosen.without)
    size = chosen.size or (Size.CPU if chosen.device == "cpu" else Size.KERNELBENCH)
    scaffold = scaffold_for(chosen.scaffold, chosen.device)
    text = _read(chosen.file)
    tasks = load_tasks(chosen.task, size)
    if len(tasks) != 1:
        raise UserError(f"{chosen.task!r} names {len(tasks)} tasks: name one, such as 30 or level1/12-diag.")
    (task,) = tasks
    candidate = scaffold.parse(task, text)
    if isinstance(candidate, Refusal):
        measurement = Measurement(correct=False, reason=candidate.reason)
        return described(task, chosen.scaffold, chosen.device, protocol, measurement, candidate)
    settings = EvaluatorSettings(
        protocols=frozenset({protocol}),
        sandbox=SandboxSettings(without=without),
        sound=SoundSettings(precision=precision),
    )
    with evaluator_for(chosen.scaffold, chosen.device, [task], settings) as evaluator:
        (verdict,) = evaluator.evaluate([candidate])
        found = measured_by(verdict, protocol)
        said = described(task, chosen.scaffold, chosen.device, protocol, found, verdict)
        if chosen.baseline == "compile" and found.correct:
            baseline = evaluator.baseline(task)
            compiled = measured_by(baseline, protocol)
            against = described(task, COMPILED, chosen.device, protocol, compiled, baseline)
            over_it = [number if math.isfinite(number) else None for number in over(found, compiled)]
            names = ("speedup_over_compiled", "speedup_over_compiled_low", "speedup_over_compiled_high")
            said |= {"compiled": against, **dict(zip(names, over_it, strict=True))}
    return said


def _one_of(kind: Any, name: str, what: str) -> Any:
    try:
        return kind(name)
    except ValueError:
        raise UserError(f"{name!r} is no {what}: use {' or '.join(repr(str(one)) for one in kind)}.") from None


def _read(name: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_LONGEST + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise UserError(f"{name} is longer than {_LONGEST} bytes: give the file with the candidate alone.")
        return data.decode()
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): name a file with a candidate.") from None
    except UnicodeDecodeError:
        raise UserError(f"{name} is not UTF-8 text: name a file with a candidate's source.") from None


def _readable(said: dict[str, Any]) -> str:
    task = f"{said['task']} {said['name']}, {said['size']} size"
    lines = [f"{task}; scaffold {said['scaffold']} on {said['device']}, protocol {said['protocol']}"]
    if said["correct"]:
        lines.append("correct    yes" + _share_of_budget(said["max_error"]))
        bounds = ""
        if said["speedup_low"] is not None and said["speedup_high"] is not None:
            bounds = f" [{said['speedup_low']:.3f}, {said['speedup_high']:.3f}]"
        lines.append(f"speedup    {said['speedup']:.3f}{bounds}: {said['decision']}")
        reference, candidate = said["reference_seconds"], said["candidate_seconds"]
        lines.append(
            f"times      reference {1e3 * reference:.3f} ms, candidate {1e3 * candidate:.3f} ms "
            f"(medians of {said['calls']} calls)"
        )
        lines += _over_compiled(said)
    else:
        lines.append(f"correct    no: {said['error']} at stage {said['stage']}")
        lines.append(f"reason     {said['reason']}")
        if said["max_error"] is not None:
            lines.append(f"errors     up to {said['max_error']:.3g} times the budget")
    lines.append(f"reward     {said['reward']:.3f}")
    if said["seconds"]:
        lines.append("took       " + ", ".join(f"{name} {spent:.2f} s" for name, spent in said["seconds"].items()))
    return "\n".join(lines)


def _over_compiled(said: dict[str, Any]) -> list[str]:
    if "compiled" not in said:
        return []
    if said["speedup_over_compiled"] is None:
        return [f"compiled   torch.compile's reference was not measured: {said['compiled']['reason']}"]
    low, high = said["speedup_over_compiled_low"], said["speedup_over_compiled_high"]
    bounds = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    itself = said["compiled"]["speedup"]
    return [
        f"compiled   {said['speedup_over_compiled']:.3f}{bounds} over torch.compile, which is {itself:.3f} over eager"
    ]


def _share_of_budget(error: float | None) -> str:
    return "" if error is None else f" (largest error {error:.2g} of the budget)"


if __name__ == "__main__":
    sys.exit(main())
