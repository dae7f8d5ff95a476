"""The runs that a chapter reports: its own, recorded or live, and the study's recorded runs beside them.

The study is what ``params/h100.yaml`` was made of; its ``recorded`` section lists the folders in ``data/runs/``. A live
chapter makes its own run anew and sets the study's beside it all the same. It knows names of runs, not what is in them.
"""

from __future__ import annotations

from pathlib import Path

from vegtts_core.book.runs import best_of_n_run, honest_run, names_runs, training_runs
from vegtts_core.parameters import read_yaml
from vegtts_core.project import recorded_folder
from vegtts_core.runs import Run

#: The parameter file of the study.
STUDY = "h100"
_EMBEDDED = "SmolLM2-135M"


def studied(section: str, params: str = STUDY) -> dict[str, Run]:
    """The study's recorded runs of a family (``adaptation``, …) by name; none if none is recorded yet."""
    names = (read_yaml(params).get("recorded") or {}).get(section) or []
    return {name: honest_run(recorded_folder() / name) for name in ([names] if isinstance(names, str) else names)}


def searches(source: str, params: str | Path, seed: int | None = None, k: int | None = None) -> dict[str, Run]:
    """Best-of-N runs by label: the chapter's own first, then the study's. Raises UserError."""
    own = best_of_n_run(source, params, seed, k)
    found = {label(own): own}
    for run in studied("best_of_n_study").values():
        found.setdefault(label(run), run)
    return found


def adaptations(
    source: str, params: str | Path, section: str = "adaptation", seed: int | None = None
) -> dict[str, Run]:
    """Runs that move weights by name: the chapter's own first (where ``params`` has any), then the study's."""
    own = training_runs(source, params, section, seed) if names_runs(source, params, section) else {}
    return own | {name: run for name, run in studied(section).items() if name not in own}


def label(run: Run) -> str:
    """What tells a run from others: policy, scaffold, temperature, device (``1.5B, template, T = 1, H100``)."""
    parameters = run.manifest["parameters"]
    scaffolds = parameters.get("scaffold") or " and ".join(parameters["scaffolds"])
    return f"{policy(run)}, {scaffolds}, T = {parameters['temperature']:g}, {card(run)}"


def card(run: Run) -> str:
    """What a run was measured on, in a word: ``H100``, ``CPU``."""
    return str(run.measured_on.get("gpu", "")).removeprefix("NVIDIA ").split(" ")[0] or "CPU"


def policy(run: Run) -> str:
    """The policy in short: ``SmolLM2-135M`` or ``Qwen2.5-Coder-1.5B``, with ``adapted`` where it has an adapter."""
    identity = run.manifest["policy"]
    name = _EMBEDDED if identity["name"] == "embedded" else str(identity["name"]).rsplit("/", 1)[-1]
    name = name.split("-Instruct")[0]
    return f"{name}, adapted" if identity.get("adapter_sha256") else name


def short(name: str) -> str:
    """A label for narrow tables: the policy's size in place of its name, the scaffold where it is not a template.

    Adapted is what most are: those that are not are called *base*.
    """
    if ", adapted" not in name:
        name = name.replace(",", " base,", 1)
    for long in ("Qwen2.5-Coder-", "SmolLM2-", ", adapted", ", template"):
        name = name.replace(long, "")
    return name
