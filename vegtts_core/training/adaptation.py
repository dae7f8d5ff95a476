"""A run that moves weights: sample, judge, record, update, step by step (sections 3.1, 3.3 to 3.6).

Test-time training, isolated runs, SDPO and the outer loop's GRPO are this with different parameters. The run is written
as it goes: a step's rollouts are on disk before they are judged, each verdict before the next, each checkpoint before
the next step; started again with the same parameters it goes on, with the result of an unbroken run on one device.
Under ``accelerate launch`` this is what the main process does; the others are in ``following``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.judging import Judge
from vegtts_core.metrics.checkpoints import early_stopping
from vegtts_core.metrics.shares import sample_fast_p, under
from vegtts_core.policy.load import load_trainable, load_vllm
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.vllm.policy import VllmPolicy
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import append_line, read_lines
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.training.batches import BatchMaker
from vegtts_core.training.checkpoints import adapter_sha256, step_folder, steps_on_disk
from vegtts_core.training.following import agreed, follow, sample_together, share
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import Processes, join
from vegtts_core.training.slots import build_slots, refuse_evaluation_tasks, schedule, write_prompts
from vegtts_core.training.update import Group, StepReport, Stop, train

KIND = "adaptation"


def adapt(parameters: AdaptationParameters, folder: Path | None = None, *, console: Console | None = None) -> Run:
    """Make the run (or go on with it, or return it if it is done); its adapters lie in ``checkpoints``.

    ``folder`` defaults to one named after the parameters in the runs folder. Every process of an ``accelerate launch``
    calls this with the same arguments; what a run gives does not depend on their number, except for last digits, and
    it may go on under another number. Raises UserError for parameters that do not fit together, and if a loss is not
    finite (everything up to then is kept).
    """
    identity = parameters.identity | {"version": __version__}
    folder = folder or runs_folder() / f"{KIND}-{fingerprint(KIND, identity)}"
    report = console.print if console else None
    processes = join(parameters.device)
    if processes.count > 1 and parameters.sampler == "vllm":
        raise UserError(
            "vLLM spreads its own work over devices: set sampler to transformers, or start without accelerate launch."
        )
    with ExitStack() as stack:
        mine: list[_Adaptation] = []

        def begin() -> bool:
            store = stack.enter_context(RunStore.opened(folder, KIND, identity, report))
            if not store.complete:
                # Loaded here first: what is converted or missing is converted, or missed, once.
                mine.append(_Adaptation(parameters, store, console or Console(quiet=True), processes))
            return store.complete

        if not processes.broadcast(begin):
            if mine:
                mine[0].run()
            else:
                follow(parameters, folder / "checkpoints", processes)
    processes.wait()
    return load_run(folder)


class _Adaptation:
    """One run in progress."""

    def __init__(
        self, parameters: AdaptationParameters, store: RunStore, console: Console, processes: Processes
    ) -> None:
        self.parameters = parameters
        self.processes = processes
        self.store = store
        self.console = console
        slots = build_slots(
            parameters.tasks, parameters.scaffolds, parameters.size, parameters.examples, parameters.judged_on
        )
        self.slots = slots
        tasks = {slot.task.key: slot.task for slot in slots}
        if parameters.training_only:
            refuse_evaluation_tasks(list(tasks.values()), parameters.split)
        self.plan = schedule(slots, parameters.tasks_per_step, parameters.seed)
        self.judge = Judge(
            store,
            tasks.values(),
            parameters.evaluator,
            parameters.judged_on,
            parameters.protocol,
            parameters.cluster,
            console.print,
        )
        self.checkpoints = store.folder / "checkpoints"
        self.records = store.folder / "parts" / "steps.jsonl"
        self.pending: dict[int, dict[str, Any]] = {}
        self.scores: dict[int, float] = {}
        console.print(f"Loading the policy {parameters.policy} …")
        self.model, self.tokenizer, identity = load_trainable(
            parameters.policy, parameters.adapter, parameters.lora, parameters.device, parameters.seed
        )
        self.policy: TransformersPolicy | VllmPolicy = TransformersPolicy(self.model, self.tokenizer, identity)

    def run(self) -> None:
        """All steps that are missing, then the final tables."""
        parameters, model, tokenizer = self.parameters, self.model, self.tokenizer
        write_prompts(self.store.folder, self.slots)
        self.batches = BatchMaker(parameters, model, tokenizer)
        for step in range(max(steps_on_disk(self.checkpoints), default=0)):
            self.batches.remember(step, self.plan(step), self._rows(step))
            self._score(step)
        with Progress(console=self.console, transient=True) as self.progress, ExitStack() as self.stack:
            self.evaluator: Any = None
            if parameters.sampler == "vllm":
                self.console.print("Starting vLLM …")
                self.policy = self.stack.enter_context(closing(self._engine()))
            self.bar = self.progress.add_task("steps", total=parameters.steps)
            made = train(
                model,
                tokenizer,
                self._groups,
                self.checkpoints,
                parameters.update,
                steps=parameters.steps,
                groups=len(self.plan(0)),
                temperature=parameters.temperature_of_loss,
                seed=parameters.seed,
                on_step=self._keep,
                keep_every=parameters.keep_every,
            )
            if parameters.judge_last and made == parameters.steps:
                self._sample(made)
                self._judged(made)
                self._keep(StepReport(made, True, 0))
        self._finish()

    def _engine(self) -> VllmPolicy:
        """A vLLM engine that takes the run's adapters."""
        parameters = self.parameters
        settings = parameters.vllm.model_copy(
            update={"max_lora_rank": max(parameters.lora.rank, parameters.vllm.max_lora_rank)}
        )
        return load_vllm(parameters.policy, None, "float32", parameters.device, settings, adapters=True)

    # -- a step --------------------------------------------------------------------------------------------------

    def _groups(self, step: int) -> list[Group]:
        """The step's rollouts, judged, as the update wants them. Raises Stop where early stopping says so."""
        self._sample(step)
        return agreed(self.processes.broadcast(lambda: self._decided(step)))

    def _decided(self, step: int) -> list[Group] | Stop:
        rows = self._judged(step)
        patience = self.parameters.patience
        if patience is not None and early_stopping(pd.Series(self.scores), patience).regressed:
            self.console.print(f"Step {step}: fast_1 has regressed for {patience} step(s), stopping early.")
            self._keep(StepReport(step, True, 0))
            return Stop(step)
        started = time.perf_counter()
        batch = self.batches.batch(step, self.plan(step), rows)
        self.pending[step] |= batch.facts | {"preparing_seconds": time.perf_counter() - started}
        if batch.sentence:
            self.console.print(f"Step {step}: {batch.sentence}")
        self.updating = time.perf_counter()
        return batch.groups

    def _judged(self, step: int) -> list[dict[str, Any]]:
        """Evaluate what is missing; the step's rows in full."""
        rows, facts = self.store.unit(_unit(step))
        candidates = self.judge.candidates(rows)
        missing = self.judge.unjudged(candidates)
        started = time.perf_counter()
        if missing:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.evaluator is None:
                self.evaluator = self.stack.enter_context(self.judge.evaluator(self.parameters.scaffolds[0]))
            bar = self.progress.add_task(f"step {step}: evaluating", total=len(missing))
            self.judge.judge(self.evaluator, missing, advance=lambda: self.progress.advance(bar))
            self.progress.remove_task(bar)
        seconds = time.perf_counter() - started
        rows = [self.judge.row(row) for row in rows]
        self._score(step)
        self.pending[step] = _record(step, rows, facts, seconds, len(missing), self.parameters) | {
            "score": self.scores[step]
        }
        return rows

    def _sample(self, step: int) -> None:
        """The step's rollouts, unless they are on disk; every process writes a share."""
        if not self.processes.broadcast(lambda: not self.store.has_unit(_unit(step))):
            return
        parameters, slots = self.parameters, self.plan(step)
        prompts = [slot.prompt for slot in slots]
        total = len(share(slots, self.processes)) * parameters.k
        bar = self.progress.add_task(f"step {step}: sampling", total=total)

        def show(tokens: int, running: int) -> None:
            self.progress.update(bar, completed=total - running)

        started = time.perf_counter()
        if isinstance(self.policy, VllmPolicy):
            # What the trained model's weights are now: those that the run starts with, or the newest checkpoint's.
            self.policy.use_adapter(str(step_folder(self.checkpoints, step)) if step else parameters.adapter)
        completions = sample_together(self.policy, parameters, step, slots, self.processes, show)
        seconds = time.perf_counter() - started
        rows = [
            {"scaffold": slot.scaffold}
            | completion_columns(slot.task, parameters.seed, step, sample, slot.prompt.id, completion)
            for slot, group in zip(slots, completions, strict=True)
            for sample, completion in enumerate(group)
        ]
        identity = self.policy.identity
        facts = {
            "sampling_seconds": seconds,
            "prompt_tokens": {
                slot.key: length for slot, length in zip(slots, self.policy.prompt_tokens(prompts), strict=True)
            },
            "policy": identity_facts(identity),
            "versions": machine.versions() | identity.versions,
            "machine": machine.device(parameters.judged_on),
        }
        self.store.write_unit(_unit(step), rows, facts)
        self.progress.remove_task(bar)

    def _rows(self, step: int) -> list[dict[str, Any]]:
        """A finished step's rows, in full."""
        return [self.judge.row(row) for row in self.store.unit(_unit(step))[0]]

    def _score(self, step: int) -> None:
        """Aggregate fast_1 of the step's rollouts: algorithm 1's validation, at no extra budget."""
        frame = pd.DataFrame(self._rows(step))
        for name in ("speedup", "speedup_low", "speedup_high", "decision"):
            for protocol in self.parameters.evaluator.protocols:
                column = f"{protocol.value}_{name}"
                if column not in frame and (protocol.value == "sound" or name == "speedup"):
                    frame[column] = None
        if "fingerprint" not in frame:
            frame["fingerprint"] = None
        self.scores[step] = float(sample_fast_p(under(frame, self.parameters.protocol.value)))

    def _keep(self, report: StepReport) -> None:
        """What a step was and cost, on disk before its checkpoint counts."""
        record = self.pending.pop(report.step)
        record |= {
            "skipped": report.skipped,
            "silent_groups": report.silent_groups,
            "loss": _known(report.loss),
            "grad_norm": _known(report.grad_norm),
            "entropy": _known(report.entropy),
            "kl": _known(report.kl),
            "update_seconds": 0.0 if report.skipped else time.perf_counter() - self.updating,
        }
        checkpoint = step_folder(self.checkpoints, report.step + 1)
        if (checkpoint / "adapter_config.json").is_file():
            record["adapter_sha256"] = adapter_sha256(checkpoint)
        record["wall_seconds"] = sum(
            record.get(name, 0.0)
            for name in ("sampling_seconds", "evaluation_seconds", "preparing_seconds", "update_seconds")
        )
        record["device_seconds"] = record["wall_seconds"] * self.processes.count
        append_line(self.records, record)
        if hasattr(self, "progress"):
            self.progress.update(self.bar, completed=report.step + 1)
        self.console.print(
            f"step {report.step}: correct {record['correct']:.0%}, fast_1 {record['score']:.0%}, "
            f"{record['distinct_candidates']} distinct candidates, {record['wall_seconds']:.0f} s",
            highlight=False,
        )

    # -- the end -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        rows, facts = self.store.units()
        samples = [self.judge.row(row) for row in rows]
        steps = {record["step"]: record for record in read_lines(self.records)}  # the last of a step that was redone
        ordered = [steps[step] for step in sorted(steps)]
        target = self.store.folder / "steps.jsonl"
        target.unlink(missing_ok=True)
        for record in ordered:
            append_line(target, record)
        names = ["rollouts", "prompt_tokens", "completion_tokens", "student_tokens", "teacher_tokens"]
        names += ["sampling_seconds", "evaluation_seconds", "preparing_seconds", "update_seconds"]
        names += ["wall_seconds", "device_seconds"]
        compute = {name: sum(record.get(name, 0) for record in ordered) for name in names}
        compute["distinct_candidates"] = len(self.judge.verdicts)
        compute["skipped_updates"] = sum(
            bool(record["skipped"]) for record in ordered if record["step"] < len(ordered) - 1
        )
        manifest = {
            "policy": facts[0]["policy"],
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "processes": self.processes.count,
            "git": machine.git_commit(find_project_root()),
            "task_names": {slot.task.key: slot.task.name for slot in self.slots},
            "adapters": {
                str(step): adapter_sha256(step_folder(self.checkpoints, step))
                for step in steps_on_disk(self.checkpoints)
            },
        }
        self.store.finish(samples, [], compute, manifest, {"steps.jsonl": len(ordered), "prompts.json": 1})


def _record(
    step: int,
    rows: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    evaluation_seconds: float,
    evaluated: int,
    parameters: AdaptationParameters,
) -> dict[str, Any]:
    """The step's rollouts in numbers. A prompt's tokens count once per rollout (section 4.6)."""
    prompt_tokens = sum(facts["prompt_tokens"][f"{row['scaffold']}:{row['task']}"] for row in rows)
    completion_tokens = sum(row["tokens"] for row in rows)
    rewards = np.array([row["reward"] for row in rows], dtype=float)
    right = rewards > 0
    return {
        "step": step,
        "tasks": sorted({f"{row['scaffold']}:{row['task']}" for row in rows}),
        "rollouts": len(rows),
        "correct": float(np.mean([bool(row.get(f"{parameters.protocol.value}_correct")) for row in rows])),
        "mean_speedup": float(rewards[right].mean()) if right.any() else None,
        "distinct_candidates": len({(row["task"], row["fingerprint"]) for row in rows if row.get("fingerprint")}),
        "evaluated": evaluated,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "student_tokens": prompt_tokens + completion_tokens,
        "teacher_tokens": 0,
        "sampling_seconds": facts["sampling_seconds"],
        "evaluation_seconds": evaluation_seconds,
    }


def _known(value: float) -> float | None:
    return None if value != value else value


def _unit(step: int) -> str:
    return f"{step:06d}"
