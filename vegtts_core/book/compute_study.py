"""The study's recorded runs, what each cost, and the command that makes it again (appendix C).

It reads manifests, compute records and the study's parameter file; what a run found is no concern of it.
"""

from __future__ import annotations

import pandas as pd

from vegtts_core.book.study import STUDY, studied
from vegtts_core.book.tables import Column
from vegtts_core.parameters import read_yaml
from vegtts_core.runs import Run

COLUMNS = {
    "name": Column("run"),
    "card": Column("card"),
    "rollouts": Column("rollouts", ",.0f"),
    "student": Column("student", ",.0f", "thousand tokens"),
    "teacher": Column("teacher", ",.0f", "thousand tokens"),
    "device": Column("device", ",.0f", "s"),
    "minutes": Column("device", ".1f", "min"),
}


def runs() -> dict[str, Run]:
    """Every recorded run of the study by name, each once, in the order of the parameter file."""
    listed = read_yaml(STUDY).get("recorded") or {}
    return {name: run for section in listed for name, run in studied(section).items()}


def table(found: dict[str, Run]) -> pd.DataFrame:
    """One row per run, whole runs, all seeds; columns of ``COLUMNS``. What was not recorded is a gap."""
    rows = []
    for name, run in found.items():
        cost, nan = run.compute, float("nan")
        device = cost.get("device_seconds", nan)
        row = {"name": name, "card": gpu(run), "rollouts": cost.get("rollouts", nan), "device": device}
        row |= {side: cost.get(f"{side}_tokens", nan) / 1e3 for side in ("student", "teacher")}
        rows.append(row | {"minutes": device / 60})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def gpu(run: Run) -> str:
    """The card as the manifest has it, without its maker: ``H200``, ``H100 80GB HBM3``."""
    return str(run.manifest["machine"].get("gpu") or "none").removeprefix("NVIDIA ")


def commands(found: dict[str, Run]) -> str:
    """One command per run, a line each."""
    return "\n".join(command(name, run) for name, run in found.items())


def command(name: str, run: Run) -> str:
    """What makes ``run`` again from the study's parameter file; a comment where that file does not have it."""
    kind = run.manifest["kind"]
    if kind == "warm_start":
        return f"python -m vegtts_core.training warm-start --params {STUDY} --folder runs/{name}"
    if kind == "probe":
        origin = run.manifest["parameters"]["origin"]
        chosen = "".join(f" --{key} {origin[key]}" for key in ("first", "seed") if origin[key] is not None)
        runs = f"--run runs/{origin['run']} --samples runs/{origin['samples']}"
        return f"python -m vegtts_core.training.probe {runs}{chosen}"
    section = _section(name)
    chosen = f"--params {STUDY} --section {section} --only {name} --folder runs"
    if section and kind == "best_of_n":
        return f"python -m vegtts_core.search {chosen}"
    if section and kind == "adaptation":
        return f"python -m vegtts_core.training adapt {chosen}"
    return f"# {name}: no section of params/{STUDY}.yaml has it"


def _section(name: str) -> str | None:
    for section, values in read_yaml(STUDY).items():
        if isinstance(values, dict) and name in (values.get("vary") or {}):
            return str(section)
    return None
