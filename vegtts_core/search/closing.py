"""``python -m vegtts_core.search.closing FOLDER --why "One sentence."``: end a Best-of-N run that cannot go on.

For runs on devices that are lent by the minute. What is whole stays: tasks that were sampled under every seed and of
which every candidate has a verdict. The manifest says under ``cut`` which tasks are missing, how many correct
candidates were not timed again, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.runs.store import Run, RunStore, load_run
from vegtts_core.search.best_of_n import KIND, Search
from vegtts_core.search.parameters import BestOfNParameters


def close_run(folder: Path, why: str) -> Run:
    """End the unfinished run in ``folder``. Raises UserError if it is none, or if no task of it is whole."""
    parameters = _parameters(folder)
    version = parameters.pop("version")
    given = BestOfNParameters(**parameters)
    with RunStore.opened(folder, KIND, parameters | {"version": version}) as store:
        search = Search(given, store, Console(quiet=True))
        rows, facts = store.units()
        candidates = search.judge.candidates(rows)
        unjudged = {candidate.task_key for candidate in search.judge.unjudged(candidates)}
        sampled = Counter(row["task"] for row in rows)
        whole = {key for key, n in sampled.items() if n == given.k * len(given.seeds)} - unjudged
        if not whole:
            raise UserError(f"{folder.name} has no task that is sampled and judged to its end: go on with it instead.")
        kept = [row for row in rows if row["task"] in whole]
        missing = [task.key for task in search.tasks if task.key not in whole]
        for fact in facts:
            fact["prompt_tokens"] = {key: n for key, n in fact["prompt_tokens"].items() if key in whole}
        again = search.judge.not_retimed(c for c in candidates if c.task_key in whole)
        cut: dict[str, Any] = {"why": why, "tasks_left_out": missing, "not_retimed": len(again)}
        search.finish(kept, facts, {"cut": cut})
    return load_run(folder)


def _parameters(folder: Path) -> dict[str, Any]:
    """Those of the unfinished run."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run: name the folder of an unfinished one.") from None
    except json.JSONDecodeError:
        raise UserError(f"{folder / 'manifest.json'} is damaged: go on with the run, which begins anew.") from None
    if manifest.get("kind") != KIND or manifest.get("status") != "running":
        raise UserError(f"{folder} holds no unfinished Best-of-N run: there is nothing to close.")
    return dict(manifest["parameters"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.search.closing", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of an unfinished run")
    parser.add_argument("--why", required=True, help="one sentence for the manifest")
    chosen = parser.parse_args(arguments)
    try:
        run = close_run(chosen.run, chosen.why)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    cut = run.manifest["cut"]
    print(f"{run.folder}: {len(run.samples)} rollouts kept, {len(cut['tasks_left_out'])} tasks left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
