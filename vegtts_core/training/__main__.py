"""``python -m vegtts_core.training adapt --params cpu``: runs that move weights, on a terminal, with progress."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.training.adaptation import adapt
from vegtts_core.training.outer_loop import export_warm_start, outer_loop
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import first_process, leave, shown_here
from vegtts_core.training.warm_start import warm_start
from vegtts_core.training.warm_start_parameters import WarmStartParameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence, and an interrupted run goes on when it is started again."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.training", description="Train or adapt a policy.")
    parser.add_argument("what", choices=("adapt", "warm-start", "rlvr"), help="which run")
    parser.add_argument("--params", default="cpu", help="name in params/ or a YAML file (default: cpu)")
    parser.add_argument("--section", default="adaptation", help="adapt: which family of runs (default: adaptation)")
    parser.add_argument("--only", action="append", help="adapt: of that family, the run of this name (may be repeated)")
    parser.add_argument("--folder", type=Path, help="where the run goes (default: in runs/, named by its parameters)")
    parser.add_argument("--seed", type=int, help="replace the seed")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="replace the device of the policy")
    parser.add_argument("--export", type=Path, help="warm-start, rlvr: write the adapter here, in bfloat16")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True, quiet=not first_process())
    given = {"seed": chosen.seed, "device": chosen.device}
    try:
        if chosen.what == "rlvr":
            runs = [outer_loop(chosen.params, chosen.folder, chosen.export, given, console=console)[1]]
        elif chosen.what == "warm-start":
            parameters = WarmStartParameters.read("warm_start", chosen.params, given)
            runs = [warm_start(parameters, chosen.folder, console=console)]
            if chosen.export is not None and first_process():
                export_warm_start(runs[0], chosen.params, chosen.export)
        else:
            runs = []
            family = AdaptationParameters.family(chosen.section, chosen.params, given, chosen.only)
            for name, parameters in family.items():
                console.print(f"[bold]{name}[/bold]", highlight=False)
                runs.append(adapt(parameters, chosen.folder / name if chosen.folder else None, console=console))
    except UserError as error:
        if shown_here(error):
            Console(stderr=True).print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on where it stopped.")
        return 130
    finally:
        leave()
    for run in runs if first_process() else []:
        print(f"{run.folder}: {run.compute['rollouts']} rollouts in {run.compute['wall_seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
