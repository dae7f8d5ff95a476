"""The run behind a chapter: recorded or live, the same tables. It knows where runs lie, not what is in them."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vegtts_core.errors import UserError
from vegtts_core.parameters import read_yaml
from vegtts_core.project import recorded_folder
from vegtts_core.runs import Run, load_run
from vegtts_core.runs.intervals import with_between_evaluations

#: Set by the runner when it has a terminal: the kernel's stderr is passed on to it, so progress bars may move.
TERMINAL = "VEGTTS_TERMINAL"


def honest_run(folder: Path) -> Run:
    """A finished run for a chapter: as `load_run`, its intervals with what differs between evaluations.

    Every run that the book reads comes through here or through `best_of_n_run` and `training_runs`. Files stay as they
    are; what a run was measured without is added by today's rule (`vegtts_core.runs.intervals`), which the run's
    manifest then names under ``intervals``. Raises UserError as `load_run`.
    """
    return with_between_evaluations(load_run(folder), again=True)


def best_of_n_run(source: str, params: str | Path, seed: int | None = None, k: int | None = None) -> Run:
    """The Best-of-N run that ``params`` (a file in ``params/`` or a path) names.

    ``recorded``: read from ``data/runs/``, cut down to ``seed`` and to the first ``k`` samples where given (its compute
    file still tells what the whole run cost). ``live``: made now, or read if it has been made before, with ``seed`` and
    ``k`` in place of the file's. Raises UserError.
    """
    if source == "recorded":
        name = (read_yaml(params).get("recorded") or {}).get("best_of_n")
        if not name:
            raise UserError(f"The parameters {params} name no recorded run: use source=live or other parameters.")
        return _cut(honest_run(recorded_folder() / name), seed, k)
    if source == "live":
        from vegtts_core.search import BestOfNParameters, best_of_n

        given = {"seeds": None if seed is None else (seed,), "k": k}
        parameters = BestOfNParameters.read("best_of_n", params, given)
        terminal = True if os.environ.get(TERMINAL) else None
        console = Console(file=sys.stderr, force_jupyter=False, force_terminal=terminal)
        return with_between_evaluations(best_of_n(parameters, console=console))
    raise UserError(f"source is {source!r}: it must be recorded or live.")


def _cut(run: Run, seed: int | None, k: int | None) -> Run:
    samples = run.samples
    if seed is not None:
        seeds = sorted(int(value) for value in samples["seed"].unique())
        if seed not in seeds:
            raise UserError(f"The recorded run has no seed {seed}, only {seeds}: choose one of them or source=live.")
        samples = samples[samples["seed"] == seed]
    if k is not None:
        most = int(samples["sample"].max()) + 1
        if not 1 <= k <= most:
            raise UserError(f"The recorded run has {most} samples per group, not {k}: choose fewer or source=live.")
        samples = samples[samples["sample"] < k]
    return replace(run, samples=samples.reset_index(drop=True))


def names_runs(source: str, params: str | Path, section: str) -> bool:
    """Whether ``params`` has runs of a family: recorded ones, or for live chapters a section that says how to make."""
    values = read_yaml(params)
    return bool(((values.get("recorded") or {}) if source == "recorded" else values).get(section))


def training_runs(source: str, params: str | Path, section: str, seed: int | None = None) -> dict[str, Run]:
    """The runs of a family (``adaptation``, ``sdpo_feedback``, ``isolated``, ``learning_rates`` …) by name.

    ``recorded``: the folders that ``recorded.<section>`` of ``params`` lists, by their own names; with ``seed``, those
    of that seed alone. ``live``: what section ``<section>`` asks for, made now or read if made before, with ``seed`` in
    place of the file's. Raises UserError.
    """
    if source == "recorded":
        names = (read_yaml(params).get("recorded") or {}).get(section)
        if not names:
            raise UserError(f"The parameters {params} name no recorded {section}: use source=live or other parameters.")
        found = {name: honest_run(recorded_folder() / name) for name in names}
        if seed is not None:
            found = {name: run for name, run in found.items() if run.manifest["parameters"]["seed"] == seed}
        if not found:
            raise UserError(f"No recorded run of {section} has seed {seed}: choose another or source=live.")
        return found
    if source == "live":
        from vegtts_core.training.adaptation import adapt
        from vegtts_core.training.parameters import AdaptationParameters

        terminal = True if os.environ.get(TERMINAL) else None
        console = Console(file=sys.stderr, force_jupyter=False, force_terminal=terminal)
        variants = AdaptationParameters.family(section, params, {"seed": seed})
        runs = {name: adapt(parameters, console=console) for name, parameters in variants.items()}
        return {name: with_between_evaluations(run) for name, run in runs.items()}
    raise UserError(f"source is {source!r}: it must be recorded or live.")
