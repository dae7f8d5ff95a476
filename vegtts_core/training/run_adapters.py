"""The adapters of a finished adaptation run, step by step, checked against its manifest: what scores or is judged.

Step 0 is the policy that the run started with. A manifest names an adapter by a path below the project's folder, or by
its last folder's name: a path of the machine that made it would say nothing to anyone else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vegtts_core.errors import UserError
from vegtts_core.policy.embedded import EMBEDDED, EMBEDDED_ADAPTER
from vegtts_core.project import find_project_root
from vegtts_core.runs.store import Run
from vegtts_core.training.checkpoints import adapter_sha256, step_folder


@dataclass(frozen=True)
class StepAdapter:
    """``location`` is what `load_policy` takes (None: no adapter), ``name`` what a manifest says, with its digest."""

    location: str | None
    name: str | None
    sha256: str | None

    def facts(self) -> dict[str, str | None]:
        """For a manifest."""
        return {"name": self.name, "sha256": self.sha256}


def run_adapters(
    run: Run, steps: Sequence[int] | None = None, checkpoints: Path | None = None, base_adapter: str | None = None
) -> dict[int, StepAdapter]:
    """The adapter of each of ``steps`` (None: 0 and every checkpoint that the run made).

    ``checkpoints``: the folder that holds ``checkpoint-<step>`` (None: ``checkpoints`` in the run). ``base_adapter``
    replaces where the run's starting adapter lies. Raises UserError for a step that the run does not have, and for an
    adapter that is missing or is not the one that the run's manifest names.
    """
    known = {int(step): digest for step, digest in run.manifest["adapters"].items()}
    found: dict[int, StepAdapter] = {}
    for step in sorted(set(steps)) if steps is not None else [0, *sorted(known)]:
        if step == 0:
            found[0] = _start(run, base_adapter)
            continue
        if step not in known:
            raise UserError(f"{run.folder.name} has no checkpoint {step}: it has {', '.join(map(str, sorted(known)))}.")
        place = step_folder(checkpoints or run.folder / "checkpoints", step)
        found[step] = StepAdapter(str(place), shown(place), _checked(place, known[step], run))
    return found


def shown(path: Path) -> str:
    """How a manifest names a folder: relative to the project, else its own name."""
    try:
        return str(path.resolve().relative_to(find_project_root()))
    except ValueError:
        return path.name


def _start(run: Run, base_adapter: str | None) -> StepAdapter:
    stated = run.manifest["policy"]["adapter_sha256"]
    location = base_adapter or run.manifest["parameters"]["adapter"]
    if stated is None or location is None:
        return StepAdapter(None, None, None)
    place = EMBEDDED_ADAPTER if location == EMBEDDED else Path(location).expanduser()
    name = EMBEDDED if location == EMBEDDED else shown(place)
    return StepAdapter(location, name, _checked(place, stated, run))


def _checked(place: Path, stated: str, run: Run) -> str:
    if not place.is_dir():
        raise UserError(f"There is no adapter in {place}: say where those of {run.folder.name} lie, or run it again.")
    if adapter_sha256(place) != stated:
        raise UserError(f"The adapter in {place} is not the one that {run.folder.name} made: name its own.")
    return stated
