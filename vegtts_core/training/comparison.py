"""Policies side by side on the evaluation tasks: correct share, distinct correct candidates, spread of speeds.

    python -m vegtts_core.training.comparison --params embedded_adapter --out data/measurement/embedded_adapter.json

Every policy writes K rollouts per task, scaffold and temperature; a policy that was not trained may be shown worked
examples, one that was needs none. Equal candidates are judged once, whoever wrote them, so that a difference between
policies is one of what they wrote. In the samples table ``step`` is the number of the cell (policy, scaffold,
temperature); the manifest lists them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from rich.console import Console

from vegtts_core import __version__
from vegtts_core.cluster.parameters import PooledParameters
from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.judging import Judge
from vegtts_core.metrics.shares import under
from vegtts_core.parameters import Parameters
from vegtts_core.policy import load_policy
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import write_json
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.statistics import mean_interval
from vegtts_core.tasks import Size
from vegtts_core.training.parameters import ScaffoldName
from vegtts_core.training.slots import Slot, build_slots, write_prompts

KIND = "comparison"


class Contender(Parameters):
    """One policy of a comparison, as it would be used: with its adapter and the examples that its prompt shows."""

    adapter: str | None = None
    examples: tuple[int, ...] = DEFAULT_EXAMPLES


class ComparisonParameters(PooledParameters):
    """What is compared, on which tasks."""

    policy: str = "embedded"
    policies: dict[str, Contender] = Field(
        {"base": Contender(), "rlvr": Contender(adapter="embedded", examples=())}, min_length=1
    )
    """By the name that the table shows."""
    scaffolds: tuple[ScaffoldName, ...] = Field(("forward", "template"), min_length=1)
    tasks: str | tuple[int | str, ...] = "l1_seed42_eval"
    size: Size = Size.CPU
    temperatures: tuple[float, ...] = Field((0.25, 1.0), min_length=1)
    k: int = Field(32, ge=1)
    """Rollouts per policy, task, scaffold and temperature."""
    max_new_tokens: int = Field(96, ge=1)
    seed: int = 42
    protocol: ProtocolName = ProtocolName.SOUND
    evaluator: EvaluatorSettings = EvaluatorSettings()


@dataclass(frozen=True)
class Cell:
    """One policy in one scaffold at one temperature; ``number`` is its rows' ``step``."""

    number: int
    policy: str
    scaffold: str
    temperature: float


def cells(parameters: ComparisonParameters) -> list[Cell]:
    """Every combination, policy by policy."""
    every = [
        (name, scaffold, temperature)
        for name in parameters.policies
        for scaffold in parameters.scaffolds
        for temperature in parameters.temperatures
    ]
    return [Cell(number, *each) for number, each in enumerate(every)]


def compare(parameters: ComparisonParameters, folder: Path | None = None, *, console: Console | None = None) -> Run:
    """Sample and judge every cell (or go on, or return what is there). Raises UserError as `build_slots`."""
    identity = {"version": __version__} | parameters.identity
    folder = folder or runs_folder() / f"{KIND}-{fingerprint(KIND, identity)}"
    with RunStore.opened(folder, KIND, identity, console.print if console else None) as store:
        if not store.complete:
            _Comparison(parameters, store, console or Console(quiet=True)).run()
    return load_run(folder)


class _Comparison:
    """One run in progress."""

    def __init__(self, parameters: ComparisonParameters, store: RunStore, console: Console) -> None:
        self.parameters, self.store, self.console = parameters, store, console
        self.place = parameters.judged_on
        self.slots = {name: self._slots(contender) for name, contender in parameters.policies.items()}
        self.tasks = {slot.task.key: slot.task for slots in self.slots.values() for slot in slots}
        self.judge = Judge(
            store,
            self.tasks.values(),
            parameters.evaluator,
            self.place,
            parameters.protocol,
            parameters.cluster,
            console.print,
        )

    def run(self) -> None:
        """Sample what is missing, evaluate what is missing, then the final tables."""
        write_prompts(self.store.folder, [slot for slots in self.slots.values() for slot in slots])
        for name, contender in self.parameters.policies.items():
            missing = [c for c in cells(self.parameters) if c.policy == name and not self.store.has_unit(_unit(c))]
            if not missing:
                continue
            self.console.print(f"Loading {name} …")
            policy = load_policy(self.parameters.policy, contender.adapter, device=self.parameters.device)
            for cell in missing:
                self._sample(policy, cell)
        rows, facts = self.store.units()
        started = time.perf_counter()
        for scaffold in self.parameters.scaffolds:
            candidates = self.judge.candidates([row for row in rows if row["scaffold"] == scaffold])
            missing = self.judge.unjudged(candidates)
            if missing:
                self.console.print(f"{scaffold}: evaluating {len(missing)} of {len(candidates)} candidates …")
                with self.judge.evaluator(scaffold) as evaluator:
                    self.judge.judge(evaluator, missing)
        self._finish(rows, facts, time.perf_counter() - started)

    def _slots(self, contender: Contender) -> list[Slot]:
        given = self.parameters
        return build_slots(given.tasks, given.scaffolds, given.size, contender.examples, self.place)

    def _sample(self, policy: Any, cell: Cell) -> None:
        slots = [slot for slot in self.slots[cell.policy] if slot.scaffold == cell.scaffold]
        prompts = [slot.prompt for slot in slots]
        k = self.parameters.k
        self.console.print(
            f"{cell.policy}, {cell.scaffold}, T = {cell.temperature:g}: {k} rollouts of {len(slots)} tasks …"
        )
        sampling = SamplingParameters(cell.temperature, self.parameters.max_new_tokens)
        started = time.perf_counter()
        completions = policy.sample(prompts, k, sampling, self.parameters.seed)
        rows = [
            {"scaffold": slot.scaffold}
            | completion_columns(slot.task, self.parameters.seed, cell.number, sample, slot.prompt.id, completion)
            for slot, group in zip(slots, completions, strict=True)
            for sample, completion in enumerate(group)
        ]
        facts = {
            "sampling_seconds": time.perf_counter() - started,
            "prompt_tokens": k * sum(policy.prompt_tokens(prompts)),
            "policy": identity_facts(policy.identity),
            "versions": machine.versions() | policy.identity.versions,
            "machine": machine.device(self.place),
        }
        self.store.write_unit(_unit(cell), rows, facts)

    def _finish(self, rows: list[dict[str, Any]], facts: list[dict[str, Any]], seconds: float) -> None:
        sampling = sum(fact["sampling_seconds"] for fact in facts)
        evaluation = max(seconds, sum(sum(verdict.seconds.values()) for verdict in self.judge.verdicts.values()))
        tokens = sum(fact["prompt_tokens"] for fact in facts) + sum(row["tokens"] for row in rows)
        compute = {
            "rollouts": len(rows),
            "student_tokens": tokens,
            "distinct_candidates": len(self.judge.verdicts),
            "sampling_seconds": sampling,
            "evaluation_seconds": evaluation,
            "wall_seconds": sampling + evaluation,
            "device_seconds": sampling + evaluation,
        }
        manifest = {
            "policy": facts[0]["policy"],
            "adapters": {
                cell.policy: fact["policy"]["adapter_sha256"]
                for cell, fact in zip(cells(self.parameters), facts, strict=True)
            },
            "cells": {
                str(c.number): f"{c.policy}, {c.scaffold}, T = {c.temperature:g}" for c in cells(self.parameters)
            },
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "git": machine.git_commit(find_project_root()),
            "task_names": {key: task.name for key, task in self.tasks.items()},
        }
        self.store.finish([self.judge.row(row) for row in rows], [], compute, manifest, {"prompts.json": 1})


def _unit(cell: Cell) -> str:
    return f"{cell.number:06d}"


def report(run: Run) -> list[dict[str, Any]]:
    """One row per cell, as ``data/measurement/embedded_adapter.json`` holds them.

    ``correct`` (mean over tasks of the share under the run's protocol) with ``low`` and ``high`` (bootstrap over
    tasks); ``median_distinct_correct`` over tasks, of ``k`` rollouts; ``speedup_p10``, ``speedup_median`` and
    ``speedup_p90`` over correct rollouts (None without any); ``tasks_solved``: tasks with a correct rollout.
    """
    parameters = ComparisonParameters.checked({k: v for k, v in run.manifest["parameters"].items() if k != "version"})
    rows = under(run.samples, parameters.protocol).to_dict("records")
    return [_row(cell, [row for row in rows if row["step"] == cell.number], parameters.k) for cell in cells(parameters)]


def _row(cell: Cell, rows: Sequence[Mapping[str, Any]], k: int) -> dict[str, Any]:
    tasks = sorted({row["task"] for row in rows})
    shares = [np.mean([row["correct"] for row in rows if row["task"] == task]) for task in tasks]
    interval = mean_interval(np.array(shares), np.array(tasks))
    distinct = [len({row["fingerprint"] for row in rows if row["task"] == task and row["correct"]}) for task in tasks]
    speeds = np.array([row["speedup"] for row in rows if row["correct"] and np.isfinite(row["speedup"])])
    names = ("speedup_p10", "speedup_median", "speedup_p90")
    quantiles = np.quantile(speeds, (0.1, 0.5, 0.9)).tolist() if len(speeds) else [None, None, None]
    return {
        "policy": cell.policy,
        "scaffold": cell.scaffold,
        "temperature": cell.temperature,
        "samples": len(rows),
        "k": k,
        "tasks": len(tasks),
        "tasks_solved": sum(count > 0 for count in distinct),
        "correct": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "median_distinct_correct": float(np.median(distinct)),
    } | dict(zip(names, quantiles, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence, and an interrupted run goes on when it is started again."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.training.comparison", description=__doc__)
    parser.add_argument("--params", default="embedded_adapter", help="name in params/ or a YAML file")
    parser.add_argument("--folder", type=Path, help="where the run goes (default: in runs/)")
    parser.add_argument("--out", type=Path, help="write the table as JSON to this file")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        run = compare(ComparisonParameters.read(KIND, chosen.params, {}), chosen.folder, console=console)
    except UserError as error:
        console.print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on where it stopped.")
        return 130
    rows = report(run)
    if chosen.out is not None:
        facts = {name: run.manifest[name] for name in ("machine", "versions", "git", "adapters", "parameters")}
        write_json(chosen.out, {"rows": rows, "compute": run.compute, "commit": run.manifest["git"]["commit"]} | facts)
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.2f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
