"""``python -m vegtts_core.search --params cpu``: Best-of-N on a terminal, with progress; errors are one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.runs.store import Run
from vegtts_core.search.best_of_n import KIND, best_of_n
from vegtts_core.search.parameters import BestOfNParameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: run Best-of-N with progress; errors are one sentence."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.search", description="Run Best-of-N.")
    parser.add_argument("--params", default="cpu", help="name in params/ or a YAML file (default: cpu)")
    parser.add_argument("--section", default=KIND, help=f"which family of runs of it (default: {KIND})")
    parser.add_argument("--only", action="append", help="of that family, the run of this name (may be given again)")
    parser.add_argument(
        "--folder", type=Path, help="where the run goes, one of a family by its name (default: runs/best_of_n-<digest>)"
    )
    parser.add_argument("--seed", type=int, action="append", help="replace the seeds (may be given several times)")
    parser.add_argument("--k", type=int, help="samples per task and seed")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    runs: list[Run] = []
    try:
        overrides = {"seeds": chosen.seed, "k": chosen.k}
        family = BestOfNParameters.family(chosen.section, chosen.params, overrides, chosen.only)
        for name, parameters in family.items():
            folder = chosen.folder / name if chosen.folder and name != chosen.section else chosen.folder
            console.print(f"[bold]{name}[/bold]", highlight=False)
            runs.append(best_of_n(parameters, folder, console=console))
    except UserError as error:
        console.print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on where it stopped.")
        return 130
    for run in runs:
        compute = run.compute
        print(
            f"{run.folder}: {compute['rollouts']} rollouts, {compute['distinct_candidates']} distinct candidates, "
            f"sampling {compute['sampling_seconds']:.0f} s, evaluation {compute['evaluation_seconds']:.0f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
