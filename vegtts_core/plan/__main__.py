"""``python -m vegtts_core.plan PARAMS``: what every run of a parameter file will cost, before anything runs.

Nothing is sampled, executed or trained, unless ``--measure`` asks for a short measurement of this machine. Rates given
with ``--rates`` are recorded runs, or a JSON or YAML file of seconds by kind:

    policy: embedded
    sampling: {prompt_token: 0.0029, step: 0.07, token: 0.007}
    update: {prompt_token: 0.007, token: 0.012}
    score_token: 0.0033
    evaluation: {forward: {session: 2.0, wrong: 0.1, correct: 3.4}}
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.plan.library import Library
from vegtts_core.plan.planning import RunPlan, plan
from vegtts_core.plan.table import duration, sentence, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m vegtts_core.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("params", help="name in params/ or a YAML file")
    parser.add_argument("--section", help="only this family of runs")
    parser.add_argument("--devices", type=int, default=1, help="devices that share the work (default: 1)")
    parser.add_argument("--sharded", action="store_true", help="weights and optimiser are split over the devices")
    parser.add_argument(
        "--rates", nargs="+", default=[], help="recorded runs of one kind of machine, or files of rates"
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure this machine's rates first (minutes) and keep them"
    )
    parser.add_argument("--config", type=Path, help="config.json of the policy, where it is not on this machine")
    parser.add_argument("--completion-tokens", type=float, help="expected length of a completion, where it is known")
    parser.add_argument("--device-memory", type=float, help="GiB of a device (default: this machine's)")
    parser.add_argument("--limit-hours", type=float, help="refuse a plan that takes longer (exit status 1)")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # libraries print there when they are imported: DeepSpeed does
            plans = _planned(chosen, console)
        if chosen.json:
            print(json.dumps({"runs": [each.to_json() for each in plans], "sentence": sentence(plans, chosen.devices)}))
        else:
            show(plans, Console(), chosen.devices)
            print(sentence(plans, chosen.devices))
        _refuse_beyond(plans, chosen.limit_hours)
    except UserError as error:
        console.print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; what was measured up to here is kept.")
        return 130
    return 0


def _planned(chosen: argparse.Namespace, console: Console) -> list[RunPlan]:
    if chosen.devices < 1:
        raise UserError(f"--devices is {chosen.devices}: give at least 1.")
    if chosen.completion_tokens is not None and chosen.completion_tokens <= 0:
        raise UserError(f"--completion-tokens is {chosen.completion_tokens:g}: give a positive length.")
    if chosen.device_memory is not None and chosen.device_memory <= 0:
        raise UserError(f"--device-memory is {chosen.device_memory:g}: give a positive number of GiB.")
    if chosen.measure and chosen.rates:
        raise UserError("--measure and --rates both say where rates come from: give one of them.")
    with console.status("Reading recorded runs …"):
        library = Library.opened(chosen.rates)
    if chosen.measure:
        from vegtts_core.plan.measure import measure_all

        measure_all(chosen.params, chosen.section, library, console)
    with console.status("Planning …") as status:
        return plan(
            chosen.params,
            library,
            chosen.section,
            devices=chosen.devices,
            sharded=chosen.sharded,
            config=chosen.config,
            completion_tokens=chosen.completion_tokens,
            device_gib=chosen.device_memory,
            progress=lambda work: status.update(f"Planning {work.family.name} …"),
        )


def _refuse_beyond(plans: Sequence[RunPlan], hours: float | None) -> None:
    if hours is None:
        return
    unknown = [each.name for each in plans if each.wall_seconds is None]
    if unknown:
        raise UserError(
            f"The time of {', '.join(unknown)} is not known, so a limit cannot be kept: give rates, or --measure."
        )
    total = sum(each.wall_seconds or 0.0 for each in plans)
    if total > hours * 3600:
        raise UserError(
            f"The plan takes {duration(total)}, more than the {duration(hours * 3600)} allowed: lower k, steps or "
            "tasks, or plan one --section."
        )


if __name__ == "__main__":
    sys.exit(main())
