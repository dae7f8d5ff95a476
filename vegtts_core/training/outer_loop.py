"""The outer loop (sections 3.1, 3.3, appendix B): warm start, GRPO on the training tasks, an adapter to ship.

It puts `warm_start` and `adapt` one after the other and writes the adapter with the note that says how it was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.project import runs_folder
from vegtts_core.runs.store import Run
from vegtts_core.training.adaptation import adapt
from vegtts_core.training.checkpoints import export_adapter, step_folder
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import first_process
from vegtts_core.training.warm_start import warm_start
from vegtts_core.training.warm_start_parameters import WarmStartParameters


def outer_loop(
    params: str | Path,
    folder: Path | None = None,
    export: Path | None = None,
    overrides: dict[str, Any] | None = None,
    *,
    console: Console | None = None,
) -> tuple[Run | None, Run]:
    """The warm start (None if the YAML has no section for one) and the GRPO run that ``params`` describes.

    Sections ``warm_start`` and ``rlvr``. The GRPO run starts from the warm start's adapter. ``export`` receives the
    last checkpoint's adapter, in bfloat16. Both lie in ``folder``, which goes on where it stopped. Raises UserError for
    evaluation tasks among the training tasks.
    """
    folder = folder or runs_folder() / f"rlvr-{Path(params).stem}"
    warm = None
    values = dict(overrides or {})
    if "warm_start" in _sections(params):
        warm = warm_start(
            WarmStartParameters.read("warm_start", params, values), folder / "warm_start", console=console
        )
        values["adapter"] = str(folder / "warm_start" / "adapter")
    parameters = AdaptationParameters.read("rlvr", params, values)
    if not parameters.training_only:
        raise UserError("The outer loop trains on training tasks alone: set training_only to true in section rlvr.")
    run = adapt(parameters, folder / "rlvr", console=console)
    if export is not None and first_process():
        step = max(int(step) for step in run.manifest["adapters"])
        used = {"rlvr": run.manifest["parameters"] | {"adapter": "the warm start's"}}
        if warm is not None:
            used["warm_start"] = warm.manifest["parameters"]
        origin = origin_of(run, "rlvr", params, used, run.manifest["adapters"][str(step)]) | {"step": step}
        export_adapter(step_folder(folder / "rlvr" / "checkpoints", step), export, origin, half=True)
    return warm, run


def export_warm_start(run: Run, params: str | Path, export: Path) -> None:
    """Write the adapter of a finished warm start to ``export``, in bfloat16. ``params``: what it was made from."""
    trained = run.manifest["adapters"]["adapter"]
    origin = origin_of(run, "warm-start", params, {"warm_start": run.manifest["parameters"]}, trained)
    export_adapter(run.folder / "adapter", export, origin, half=True)


def origin_of(run: Run, what: str, params: str | Path, used: dict[str, Any], trained: str) -> dict[str, Any]:
    """What goes with an exported adapter: how ``run`` made it, and the sha256 (``trained``) of its float32 weights."""
    return {
        "policy": run.manifest["parameters"]["policy"],
        "weights_sha256": run.manifest["policy"]["weights_sha256"],
        "trained_sha256": trained,
        "made_by": f"python -m vegtts_core.training {what} --params {Path(params).stem}",
        "parameters": used,
        "git": run.manifest["git"],
        "machine": run.manifest["machine"],
        "versions": run.manifest["versions"],
    }


def _sections(params: str | Path) -> dict[str, Any]:
    from vegtts_core.parameters import read_yaml

    return read_yaml(params)
