"""Checkpoints of an adaptation run, judged on other tasks (section 5.5, cross-subset transfer).

    python -m vegtts_core.training.transfer --run data/runs/adaptation_cpu_42 --out data/runs/transfer_cpu_42

It is `adapt` with no update, once per checkpoint, in one run: a sample's ``step`` is the checkpoint that wrote it, 0
the policy that the run started from. All checkpoints draw with the run's seed, so with the same random numbers, and
equal candidates are judged once, whoever wrote them: a difference between checkpoints is one of what they wrote.
Samples of the next seed at step 0 are the control, Best-of-N: the same policy, other random numbers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.judging import Judge
from vegtts_core.metrics.adaptation import trajectory
from vegtts_core.metrics.checkpoints import best_of_adaptation
from vegtts_core.policy import load_policy
from vegtts_core.policy.types import Policy
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.run_adapters import StepAdapter, run_adapters, shown
from vegtts_core.training.slots import Slot, build_slots, write_prompts

KIND = "transfer"


@dataclass(frozen=True)
class _Draw:
    """One sampling unit: which checkpoint writes, with which seed, how many rollouts per task."""

    step: int
    seed: int
    k: int

    @property
    def unit(self) -> str:
        return f"{self.step:06d}-{self.seed:010d}"


def steps_worth_judging(run: Run) -> list[int]:
    """0, Best-of-Adaptation's step and the last one that has a checkpoint, in order, each once."""
    protocol = run.manifest["parameters"]["protocol"]
    best = best_of_adaptation(trajectory(run.samples, protocol, resamples=1))["step"]
    made = {int(step) for step in run.manifest["adapters"]}
    return sorted({0, *(int(step) for step in best if int(step) in made), *([max(made)] if made else [])})


def transfer(
    adaptation: Run,
    tasks: str | Sequence[int | str],
    folder: Path | None = None,
    *,
    steps: Sequence[int] | None = None,
    k: int | None = None,
    control_k: int | None = None,
    checkpoints: Path | None = None,
    base_adapter: str | None = None,
    console: Console | None = None,
) -> Run:
    """Judge checkpoints of ``adaptation`` on ``tasks``, everything else as in that run (or go on, or return it).

    ``steps``: `steps_worth_judging` by default, always with 0. ``k``: rollouts per task and checkpoint (the run's).
    ``control_k``: those of the control (None: 2 k, what Best-of-Adaptation has spent by step 1; 0: no control).
    Raises UserError for adapters that are missing or not the run's, and for tasks that the run was adapted on.
    """
    given = dict(adaptation.manifest["parameters"])
    version = given.pop("version")
    parameters = AdaptationParameters.checked(given)
    adapters = run_adapters(adaptation, [0, *(steps or steps_worth_judging(adaptation))], checkpoints, base_adapter)
    k = k or parameters.k
    control_k = 2 * k if control_k is None else control_k
    start = parameters.adapter
    left_out = {"update", "rewards", "advantages", "replay", "distillation", "patience"}
    kept = {name: value for name, value in parameters.identity.items() if name not in left_out}
    identity = kept | {
        "version": __version__,
        "adapter": adapters[0].name if start is not None else None,
        "tasks": tasks if isinstance(tasks, str) else list(tasks),
        "adapted_on": list(given["tasks"]) if not isinstance(given["tasks"], str) else given["tasks"],
        "k": k,
        "steps": 0,
        "checkpoints": {str(step): adapter.facts() for step, adapter in adapters.items()},
        "control": {"seed": parameters.seed + 1, "k": control_k},
        "run": adaptation.folder.name,
        "run_sha256": adaptation.manifest["files"]["samples.parquet"]["sha256"],
        "run_version": version,
    }
    folder = folder or runs_folder() / f"{KIND}-{fingerprint(KIND, identity)}"
    report = console.print if console else None
    with RunStore.opened(folder, KIND, identity, report) as store:
        if not store.complete:
            slots = build_slots(tasks, parameters.scaffolds, parameters.size, parameters.examples, parameters.judged_on)
            again = {slot.task.key for slot in slots} & set(adaptation.samples["task"])
            if again:
                raise UserError(f"{adaptation.folder.name} was adapted on {sorted(again)[0]}: name other tasks.")
            draws = [_Draw(step, parameters.seed, k) for step in adapters]
            draws += [_Draw(0, parameters.seed + 1, control_k)] if control_k else []
            _Transfer(parameters, store, slots, adapters, draws, console or Console(quiet=True)).run()
    return load_run(folder)


class _Transfer:
    """One run in progress."""

    def __init__(
        self,
        parameters: AdaptationParameters,
        store: RunStore,
        slots: Sequence[Slot],
        adapters: dict[int, StepAdapter],
        draws: Sequence[_Draw],
        console: Console,
    ) -> None:
        self.parameters, self.store, self.slots = parameters, store, list(slots)
        self.adapters, self.draws, self.console = adapters, draws, console
        tasks = {slot.task.key: slot.task for slot in slots}
        self.judge = Judge(store, tasks.values(), parameters.evaluator, parameters.judged_on, parameters.protocol)

    def run(self) -> None:
        """Sample what is missing, evaluate what is missing, then the final tables."""
        write_prompts(self.store.folder, self.slots)
        for step, adapter in self.adapters.items():
            missing = [d for d in self.draws if d.step == step and not self.store.has_unit(d.unit)]
            if not missing:
                continue
            self.console.print(f"Loading checkpoint {step} …")
            policy = load_policy(
                self.parameters.policy,
                adapter.location,
                device=self.parameters.device,
                sampler=self.parameters.sampler,
                vllm=self.parameters.vllm,
            )
            with closing(policy):
                for draw in missing:
                    self._sample(policy, draw)
        rows, facts = self.store.units()
        candidates = self.judge.candidates(rows)
        missing = self.judge.unjudged(candidates)
        started = time.perf_counter()
        if missing:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.console.print(f"Evaluating {len(missing)} of {len(candidates)} candidates …")
            with self.judge.evaluator(self.parameters.scaffolds[0]) as evaluator:
                self.judge.judge(evaluator, missing)
        self._finish(rows, facts, time.perf_counter() - started)

    def _sample(self, policy: Policy, draw: _Draw) -> None:
        prompts = [slot.prompt for slot in self.slots]
        self.console.print(f"Sampling {draw.k} rollouts of {len(prompts)} tasks, seed {draw.seed} …")
        started = time.perf_counter()
        completions = policy.sample(prompts, draw.k, self.parameters.sampling, draw.seed)
        rows = [
            {"scaffold": slot.scaffold}
            | completion_columns(slot.task, draw.seed, draw.step, sample, slot.prompt.id, completion)
            for slot, group in zip(self.slots, completions, strict=True)
            for sample, completion in enumerate(group)
        ]
        facts = {
            "sampling_seconds": time.perf_counter() - started,
            "prompt_tokens": draw.k * sum(policy.prompt_tokens(prompts)),
            "policy": identity_facts(policy.identity),
            "versions": machine.versions() | policy.identity.versions,
            "machine": machine.device(self.parameters.judged_on),
        }
        self.store.write_unit(draw.unit, rows, facts)

    def _finish(self, rows: list[dict[str, Any]], facts: list[dict[str, Any]], seconds: float) -> None:
        samples = [self.judge.row(row) for row in rows]
        prompt_tokens = sum(fact["prompt_tokens"] for fact in facts)
        completion_tokens = sum(row["tokens"] for row in rows)
        sampling = sum(fact["sampling_seconds"] for fact in facts)
        evaluation = max(seconds, sum(sum(verdict.seconds.values()) for verdict in self.judge.verdicts.values()))
        compute = {
            "rollouts": len(rows),
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "student_tokens": prompt_tokens + completion_tokens,
            "teacher_tokens": 0,
            "distinct_candidates": len(self.judge.verdicts),
            "sampling_seconds": sampling,
            "evaluation_seconds": evaluation,
            "wall_seconds": sampling + evaluation,
            "device_seconds": sampling + evaluation,
        }
        manifest = {
            "policy": facts[0]["policy"],
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "git": machine.git_commit(find_project_root()),
            "task_names": {slot.task.key: slot.task.name for slot in self.slots},
        }
        self.store.finish(samples, [], compute, manifest, {"prompts.json": 1})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; errors are one sentence, and an interrupted run goes on when it is started again."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.training.transfer", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the adaptation run")
    parser.add_argument("--tasks", default="subset_2", help="the tasks to judge on (default: subset_2)")
    parser.add_argument("--out", type=Path, help="where the run goes (default: in runs/)")
    parser.add_argument("--steps", type=int, nargs="+", help="checkpoints (default: the best and the last)")
    parser.add_argument("--k", type=int, help="rollouts per task and checkpoint (default: the run's)")
    parser.add_argument(
        "--control-k", type=int, help="rollouts per task of the Best-of-N control (default: twice that)"
    )
    parser.add_argument("--checkpoints", type=Path, help="folder of checkpoint-<step> (default: in the run)")
    parser.add_argument("--base-adapter", help="where the run's starting adapter lies now")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        run = transfer(
            load_run(chosen.run),
            chosen.tasks,
            chosen.out,
            steps=chosen.steps,
            k=chosen.k,
            control_k=chosen.control_k,
            checkpoints=chosen.checkpoints,
            base_adapter=chosen.base_adapter,
            console=console,
        )
    except UserError as error:
        console.print(f"error: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on where it stopped.")
        return 130
    compute = run.compute
    print(f"{shown(run.folder)}: {compute['rollouts']} rollouts in {compute['wall_seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
