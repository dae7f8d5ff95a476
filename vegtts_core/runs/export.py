"""``python -m vegtts_core.runs.export RUN NAME``: keep a finished run in ``data/runs/NAME``, as chapters read it.

Checkpoints stay behind (the manifest has their sha256), and a parameter that names a folder by an absolute path keeps
the path's last two parts: where somebody's machine had it is nobody's business. It knows files, not what is in them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.project import recorded_folder
from vegtts_core.runs.files import write_json
from vegtts_core.runs.store import load_run


def export_run(folder: Path, target: Path) -> None:
    """Copy the complete run in ``folder`` to ``target``. Raises UserError if it is unfinished, or ``target`` exists."""
    run = load_run(folder)
    if target.exists():
        raise UserError(f"There is a recorded run {target.name} already: remove it or choose another name.")
    target.mkdir(parents=True)
    for name in run.manifest["files"]:
        shutil.copyfile(folder / name, target / name)
    write_json(target / "manifest.json", _without_paths(run.manifest))
    load_run(target)


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and value.startswith("/") and Path(value).parts[2:]:
        return "/".join(Path(value).parts[-2:])
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.runs.export", description="Keep a run for the book.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="its name in data/runs/")
    chosen = parser.parse_args(arguments)
    try:
        export_run(chosen.run, recorded_folder() / chosen.name)
    except (UserError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
