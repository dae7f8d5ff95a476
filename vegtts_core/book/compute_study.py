"""Recorded runs, what each cost, and the command that makes it again (appendix C).

It reads manifests, compute records and parameter files; what a run found is no concern of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd

from vegtts_core.book.prose import listed
from vegtts_core.book.study import STUDY, card, policy, studied
from vegtts_core.book.tables import Column
from vegtts_core.parameters import read_yaml
from vegtts_core.policy.folders import ORIGIN
from vegtts_core.project import recorded_folder
from vegtts_core.runs import Run
from vegtts_core.training.checkpoints import adapter_sha256

COLUMNS = {
    "name": Column("run"),
    "card": Column("card"),
    "start": Column("began from"),
    "rollouts": Column("rollouts", ",.0f"),
    "student": Column("student", ",.0f", "thousand tokens"),
    "teacher": Column("teacher", ",.0f", "thousand tokens"),
    "minutes": Column("device", ".1f", "min"),
}


#: Parameter files that recorded runs were made from, by section, and the one whose command makes the shipped adapter.
_MADE_FROM = (STUDY, "recorded_cpu")
_ADAPTER = "embedded_adapter"


def runs(params: str = STUDY) -> dict[str, Run]:
    """Every run that a parameter file lists as recorded, by name, each once and in its order."""
    listed = read_yaml(params).get("recorded") or {}
    return {name: run for section in listed for name, run in studied(section, params).items()}


def table(found: dict[str, Run]) -> pd.DataFrame:
    """One row per run, whole runs, all seeds; columns of ``COLUMNS``. What was not recorded is a gap."""
    rows = []
    for name, run in found.items():
        cost, nan = run.compute, float("nan")
        row = {"name": name, "card": card(run), "start": start(run) or "–", "rollouts": cost.get("rollouts", nan)}
        row |= {side: cost.get(f"{side}_tokens", nan) / 1e3 for side in ("student", "teacher")}
        rows.append(row | {"minutes": cost.get("device_seconds", nan) / 60})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def start(run: Run) -> str:
    """The beginning of the digest of the adapter that a run's policy had at first; empty if it had none."""
    return str(run.manifest["policy"].get("adapter_sha256") or "")[:8]


def starts_text(found: Mapping[str, Run]) -> str:
    """Whether runs of one policy began from one adapter, and from which not; empty if all did."""
    starts: dict[str, dict[str, list[str]]] = {}
    for name, run in found.items():
        if start(run):
            starts.setdefault(policy(run), {}).setdefault(start(run), []).append(f"`{name}`")
    several = [
        f"Runs of {name} began from {len(by_start)} adapters: "
        + "; ".join(f"`{digest}` ({listed(names)})" for digest, names in by_start.items())
        for name, by_start in starts.items()
        if len(by_start) > 1
    ]
    if not several:
        return ""
    shown = {digest for by_start in starts.values() for digest in by_start}
    kept = [f" `{copy}` is `{of}` in bfloat16." for copy, of in copies().items() if {copy, of} <= shown]
    return f"{'. '.join(several)}.{''.join(kept)} Runs are paired within one of them only."


def copies() -> dict[str, str]:
    """Adapters that are kept with the code, in bfloat16, by `start`; of which trained one each is a copy, likewise."""
    folders = (path.parent for path in sorted(recorded_folder().parent.glob(f"adapters/*/{ORIGIN}")))
    read = {folder: json.loads((folder / ORIGIN).read_text(encoding="utf-8")) for folder in folders}
    return {adapter_sha256(folder)[:8]: str(origin["trained_sha256"])[:8] for folder, origin in read.items()}


def cuts_text(found: Mapping[str, Run]) -> str:
    """Which runs were cut, with a space in front: why, and what of them is missing; empty if none was."""
    texts = []
    for name, run in found.items():
        if cut := run.manifest.get("cut"):
            tasks = [key.rpartition("/")[2] for key in cut["tasks_left_out"]]
            missing = f"task{'s' * (len(tasks) != 1)} {listed(tasks)}" if tasks else "no task"
            again = f", and {cut['not_retimed']} correct candidates were not timed again" if cut["not_retimed"] else ""
            texts.append(f" `{name}` was cut: {cut['why'].rstrip('.')}. It lacks {missing}{again}.")
    return "".join(texts)


def commands(found: dict[str, Run]) -> str:
    """One command per run, a line each."""
    return "\n".join(command(name, run) for name, run in found.items())


def command(name: str, run: Run) -> str:
    """What makes ``run`` again from the parameter file that has it; a comment where none has."""
    kind, parameters = run.manifest["kind"], run.manifest["parameters"]
    if parameters.get("policy") == "embedded" and (kind == "warm_start" or parameters.get("training_only")):
        return f"python -m vegtts_core.training rlvr --params {_ADAPTER} --export FOLDER  # {name}"
    if kind == "warm_start":
        return f"python -m vegtts_core.training warm-start --params {STUDY} --folder runs/{name}"
    if kind == "probe":
        origin = parameters["origin"]
        chosen = "".join(f" --{key} {origin[key]}" for key in ("first", "seed") if origin[key] is not None)
        runs = f"--run runs/{origin['run']} --samples runs/{origin['samples']}"
        return f"python -m vegtts_core.training.probe {runs}{chosen}"
    if kind == "transfer":
        steps = " ".join(step for step in parameters["checkpoints"] if step != "0")
        chosen = f"--tasks {parameters['tasks']} --k {parameters['k']} --control-k {parameters['control']['k']}"
        return f"python -m vegtts_core.training.transfer --run runs/{parameters['run']} {chosen} --steps {steps}"
    params, section = _origin(name)
    chosen = f"--params {params} --section {section} --only {name} --folder runs"
    if section and kind == "best_of_n":
        return f"python -m vegtts_core.search {chosen}"
    if section and kind == "adaptation":
        return f"python -m vegtts_core.training adapt {chosen}"
    return f"# {name}: no parameter file has it"


def _origin(name: str) -> tuple[str, str]:
    """The parameter file and the section that vary into a run of this name; empty if none does."""
    for params in _MADE_FROM:
        for section, values in read_yaml(params).items():
            if isinstance(values, dict) and name in (values.get("vary") or {}):
                return params, str(section)
    return "", ""
