"""Chapter 3.1's walk through the five stages: candidates of one task, recorded or evaluated now, and its tables.

It reads what ``vegtts_core.evaluator.walk`` makes and arranges it. What the verdicts mean is said in
``walking_words``.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from vegtts_core.book.prose import interval, number
from vegtts_core.errors import UserError
from vegtts_core.evaluator import sandbox
from vegtts_core.evaluator.choice import scaffold_for
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName, Stage
from vegtts_core.evaluator.walk import TASK, line_of
from vegtts_core.evaluator.walk import walk as evaluate_walk
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.types import Language
from vegtts_core.parameters import read_yaml
from vegtts_core.project import find_project_root
from vegtts_core.runs import machine
from vegtts_core.scaffolds import Refusal
from vegtts_core.scaffolds.types import Candidate, Role
from vegtts_core.tasks import Task, draw_inputs, get_task

#: Candidates of the walk that the chapter speaks of by their part in it.
REFERENCE = "the reference written back"
HONEST = "an honest kernel"
TEMPLATE = "a filled template"
TYPO = "typo"
HOST = "calls the host"
NARROW = "right for the benchmark's inputs only"

#: One candidate per scaffold, for the prompts.
BY_SCAFFOLD = {"forward": REFERENCE, "template": TEMPLATE, "kernel": HONEST}

#: Characters of a listing's line that fit beside each other on the page.
LINE = 72
_NO_WALK = "No walk is recorded in data/walk: make one with `python -m vegtts_core.evaluator.walk`, or use source=live."


@dataclass(frozen=True)
class Walk:
    """The candidates of one task on one device, in their order, each as ``walk.json`` holds it."""

    task: Task
    device: str
    machine: Mapping[str, Any]
    candidates: tuple[dict[str, Any], ...]

    @property
    def language(self) -> Language:
        """What kernels are written in on this device."""
        return Language.CPP if self.device == "cpu" else Language.CUDA

    @property
    def processor(self) -> str:
        """What the candidates were timed on, in words."""
        return str(self.machine["gpu"]) if "gpu" in self.machine else f"{self.machine['cores']} × {self.machine['cpu']}"

    @property
    def names(self) -> list[str]:
        """The candidates' names."""
        return [entry["name"] for entry in self.candidates]

    def entry(self, name: str) -> dict[str, Any]:
        """The candidate of this name. Raises UserError if the walk has none."""
        for entry in self.candidates:
            if entry["name"] == name:
                return entry
        raise UserError(f"The walk on {self.device} has no candidate {name!r}: record it again.")

    def parsed(self, name: str) -> Candidate | Refusal:
        """What the scaffold makes of a candidate's completion."""
        entry = self.entry(name)
        return scaffold_for(entry["scaffold"], self.device).parse(self.task, entry["text"])


def walks(source: str, params: str) -> list[Walk]:
    """The walk on the device that ``params`` (a file in ``params/`` or a path) name, then the recorded ones elsewhere.

    ``recorded``: all are read from ``data/walk/``; where there is none for that device, another comes first. ``live``:
    the first one is made now. Raises UserError.
    """
    recorded = _recorded()
    chosen = read_yaml(params)["best_of_n"]
    device = str(chosen["device"]).split(":")[0]
    if source == "live":
        return [_made(device, str(chosen["size"])), *(walk for walk in recorded if walk.device != device)]
    if source != "recorded":
        raise UserError(f"source is {source!r}: it must be recorded or live.")
    if not recorded:
        raise UserError(_NO_WALK)
    return sorted(recorded, key=lambda walk: walk.device != device)


def _recorded() -> list[Walk]:
    files = sorted((find_project_root() / "data" / "walk").glob("*/walk.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return [Walk(get_task(w["task"], w["size"]), w["device"], w["machine"], tuple(w["candidates"])) for w in found]


def _made(device: str, size: str) -> Walk:
    task = get_task(TASK, size)
    # To stderr, which the runner passes on to the terminal and drops from the executed copy.
    entries = evaluate_walk(task, device, lambda entry: print(line_of(entry), file=sys.stderr, flush=True))
    return Walk(task, device, machine.device(device), tuple(entries))


def elements(walk: Walk) -> int:
    """How many numbers a call has to put out."""
    return int(KernelSignature.of(walk.task).constants["out_n"])


def headroom(walk: Walk) -> float:
    """The reference's time over the task's floor on this device; NaN if nothing was timed."""
    for entry in rewarded(walk):
        found = entry["sound"]
        if found["floor_fraction"] and found["candidate_seconds"]:
            return found["reference_seconds"] / (found["floor_fraction"] * found["candidate_seconds"])
    return float("nan")


def dialogue(walk: Walk, scaffold: str) -> tuple[str, tuple[int, ...]]:
    """The question that this scaffold puts to a policy, what it begins itself, and a completion; the latter's lines.

    The system's message is left out, and of all scaffolds but ``forward`` the reference's source, which is the same.
    """
    messages = scaffold_for(scaffold, walk.device).prompt(walk.task).messages
    question = next(m.content for m in messages if m.role is Role.USER)
    opening = messages[-1].content
    if scaffold != "forward":
        question = question.split("```\n", 1)[1].lstrip()
    asked = "\n".join(_folded(line) for line in f"{question}\n\n{opening}".split("\n"))
    indent = " " * 8 if scaffold == "forward" else ""
    written = textwrap.indent(walk.entry(BY_SCAFFOLD[scaffold])["text"].strip("\n"), indent)
    first = asked.count("\n") + 2
    return f"{asked}\n{written}\n", tuple(range(first, first + written.count("\n") + 1))


def _folded(line: str) -> str:
    return "\n".join(textwrap.wrap(line, LINE, subsequent_indent="  ")) if len(line) > LINE else line


def signature_lines(walk: Walk) -> str:
    """What the kernel scaffold derives from the task and writes above the policy's code, but for the C library."""
    signature = KernelSignature.of(walk.task)
    return "\n".join([*signature.constant_lines(), f"{signature.c_declaration(walk.language)};"]) + "\n"


def unit_line(walk: Walk, name: str, line: int) -> int:
    """Where line ``line`` of a kernel's completion stands in the source that the compiler sees."""
    before, _, _ = walk.entry(name)["source"].partition("#line ")
    return before.count("\n") + 1 + line


def error_line(walk: Walk, name: str) -> int:
    """The line that the reason names, counted in the completion; 0 if it names none."""
    found = re.search(r"\bline (\d+)", walk.entry(name)["sound"]["reason"])
    return int(found.group(1)) if found else 0


def attempts(walk: Walk) -> str:
    """The kernels of the walk that are not honest, one after another, each under its name."""
    shown = [entry for entry in walk.candidates if entry["scaffold"] == "kernel" and entry["name"] != HONEST]
    bodies = ("\n".join(line for line in entry["text"].split("\n") if line.strip()) for entry in shown)
    return "\n\n".join(f"// {entry['name']}\n{body}" for entry, body in zip(shown, bodies, strict=True)) + "\n"


def ends(walk: Walk) -> pd.DataFrame:
    """Where each candidate ended under the sound protocol and why, with its reward under both."""
    rows = []
    for entry in walk.candidates:
        sound, paper = entry["sound"], entry["published"]
        said = sound["reason"] or f"{sound['decision']}: {speedup_of(sound)}"
        rows.append((entry["name"], entry["scaffold"], sound["stage"], said, sound["reward"], paper["reward"]))
    return pd.DataFrame(rows, columns=["candidate", "scaffold", "stage", "said", "sound", "published"])


def only_published(walk: Walk) -> list[str]:
    """Candidates that earn a reward under the published protocol and none under the sound one."""
    return [e["name"] for e in walk.candidates if e["published"]["reward"] > 0 and not e["sound"]["reward"] > 0]


def rewarded(walk: Walk) -> list[dict[str, Any]]:
    """Candidates that the sound protocol gives a reward."""
    return [entry for entry in walk.candidates if entry["sound"]["reward"] > 0]


def speedup_of(measured: Mapping[str, Any], fmt: str = ".2f") -> str:
    """A speedup with its interval where the protocol has one."""
    low, high = measured["speedup_low"], measured["speedup_high"]
    value = measured["speedup"]
    return number(value, fmt) if value is None or low is None or high is None else interval(value, low, high, fmt)


def stages(walk: Walk, name: str) -> pd.DataFrame:
    """What each stage puts out for one candidate, and what it cost in seconds (both protocols together)."""
    entry, made = walk.entry(name), walk.parsed(name)
    sound, seconds = entry["sound"], entry["sound"]["seconds"]
    source = made.source.count("\n") if isinstance(made, Candidate) else 0
    fingerprint = made.fingerprint if isinstance(made, Candidate) else "none"
    written = len(entry["text"].strip().split("\n"))
    budget = number(sound["max_error"], ".0%")
    output = {
        Stage.SCAFFOLD: f"candidate `{fingerprint}`: {written} lines written, {source} in the unit",
        Stage.COMPILE: "a library with one function, `kernel`" if walk.device == "cpu" else "a cubin with one kernel",
        Stage.CORRECTNESS: f"right on every draw; the largest error is {budget} of the budget",
        Stage.TIMING: f"{len(sound.get('pairs', []))} pairs of calls: {sound['decision']}, {speedup_of(sound)}",
        Stage.REWARD: number(sound["reward"], ".2f"),
    }
    rows = [(f"{place} {stage}", output[stage], seconds.get(stage)) for place, stage in enumerate(Stage, 1)]
    return pd.DataFrame(rows, columns=["stage", "output", "seconds"])


def draws(walk: Walk) -> pd.DataFrame:
    """The inputs on which a candidate has to be right, under both protocols.

    ``below`` is the share of elements below zero in a draw of that kind, from a seed that the evaluator never uses, at
    the size ``cpu``.
    """
    settings = EvaluatorSettings()
    task = get_task(walk.task.key, "cpu")
    (spec, *_) = task.inputs
    assert spec.benchmark is not None and spec.domain is not None
    benchmark, wide = spec.benchmark.description, spec.domain.description
    below = {name: _share_below_zero(task, name == wide) for name in (benchmark, wide)}
    trials, sound = settings.published.correctness_trials, settings.sound
    changed = ", ".join(f"`{name}`" for name in task.contract.sensitive_to)
    rows = [
        ("published", "the benchmark's, known seed", trials, benchmark),
        ("sound", "the benchmark's, secret seed", sound.benchmark_draws, benchmark),
        ("sound", f"the first again, with another {changed}", len(task.contract.sensitive_to), benchmark),
        ("sound", "the contract's whole domain", sound.wide_draws, wide),
        ("sound", "the first again, unchanged", 1, benchmark),
    ]
    frame = pd.DataFrame(rows, columns=["protocol", "draw", "count", "values"])
    return frame.assign(below=frame["values"].map(below))


def _share_below_zero(task: Task, wide: bool) -> float:
    (values, *_) = draw_inputs(task, 0, wide)
    assert isinstance(values, torch.Tensor)
    return float((values < 0).float().mean())


def rewards(walks: list[Walk]) -> pd.DataFrame:
    """What either protocol rewards: per device the sound speedup with its interval, the published one, and ``floor``.

    ``floor`` is the share of the task's least possible time (floor over the candidate's median time, sound protocol).
    """
    rows = []
    for walk in walks:
        paid = {*(entry["name"] for entry in rewarded(walk)), *only_published(walk)}
        for entry in (entry for entry in walk.candidates if entry["name"] in paid):
            sound, paper = entry["sound"], entry["published"]
            ours = f"{sound['decision']}, {speedup_of(sound)}" if sound["reward"] > 0 else "refused"
            theirs = f"{paper['decision']}, {number(paper['speedup'], '.2f')}" if paper["reward"] > 0 else "refused"
            rows.append((entry["name"], walk.processor, ours, theirs, sound["floor_fraction"]))
    return pd.DataFrame(rows, columns=["candidate", "device", "sound", "published", "floor"])


def call_ratios(walk: Walk) -> pd.DataFrame:
    """Reference time over candidate time of every pair of timed calls, of those that the sound protocol rewards."""
    rows = [
        {"candidate": entry["name"], "ratio": theirs / ours, "device": walk.processor}
        for entry in rewarded(walk)
        for theirs, ours in entry["sound"]["pairs"]
    ]
    return pd.DataFrame(rows, columns=["candidate", "ratio", "device"])


def estimates(walk: Walk) -> pd.DataFrame:
    """What both protocols make of those calls: one row per candidate and protocol, bounds only under ``sound``."""
    rows = []
    for entry in rewarded(walk):
        for protocol in (ProtocolName.SOUND, ProtocolName.PUBLISHED):
            found = entry[protocol]
            bounds = {key: found[f"speedup_{key}"] for key in ("low", "high")}
            rows.append({"candidate": entry["name"], "protocol": protocol.value, "speedup": found["speedup"]} | bounds)
    columns = ["candidate", "protocol", "speedup", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"speedup": float, "low": float, "high": float}).assign(device=walk.processor)


def sandbox_layers() -> pd.DataFrame:
    """The sandbox's layers with the sentence that its module gives each."""
    said = dict(re.findall(r"^    (\w+) {2,}(.+)$", sandbox.__doc__ or "", re.MULTILINE))
    rows = [(f"`{layer}`", _sentence(said[layer])) for layer in sandbox.Layer]
    return pd.DataFrame(rows, columns=["layer", "sentence"])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
