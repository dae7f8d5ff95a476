"""Warm start by rejection sampling: sample, keep what the evaluator calls correct, fine-tune on it.

A policy that is hardly ever right gives GRPO nothing to climb. Each stage samples at a high temperature, judges, keeps
the correct candidates and fits the adapter to all that were kept so far: distinct candidates once each, however often
they were written, faster ones with more weight. In scaffolds named in ``demonstrations``, in which the untrained policy
is never right, the first stage has our own worked answers to training tasks in place of samples. It is maximum
likelihood, not RL. Evaluation tasks are refused.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.judging import Judge
from vegtts_core.kernels.types import Language
from vegtts_core.policy.load import load_trainable
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.types import Completion, SamplingParameters, StopReason
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import append_line, read_lines
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.training.checkpoints import adapter_sha256, latest_step, step_folder
from vegtts_core.training.demonstrations import demonstrations
from vegtts_core.training.groups import StepReport
from vegtts_core.training.kept_candidates import kept_candidates, weighted_group
from vegtts_core.training.processes import join
from vegtts_core.training.slots import build_slots, refuse_evaluation_tasks, write_prompts
from vegtts_core.training.stage_record import of_stage
from vegtts_core.training.update import train
from vegtts_core.training.warm_start_parameters import WarmStartParameters

KIND = "warm_start"
#: The first stage: the untrained policy's samples, or worked answers in their place. Rounds count from 1.
FIRST = 0
_STREAM = 0x3A57


def warm_start(parameters: WarmStartParameters, folder: Path | None = None, *, console: Console | None = None) -> Run:
    """Make the warm start (or go on with it, or return it); its adapter lies in ``adapter``. Raises UserError,

    also under ``accelerate launch``, where only one that is finished can be returned.
    """
    identity = parameters.identity | {"version": __version__}
    folder = folder or runs_folder() / f"{KIND}-{fingerprint(KIND, identity)}"
    if join(parameters.device).count > 1:
        try:
            return load_run(folder)
        except UserError:
            raise UserError(
                "A warm start runs in one process: make it without accelerate launch, then start this again."
            ) from None
    with RunStore.opened(folder, KIND, identity, console.print if console else None) as store:
        if not store.complete:
            _WarmStart(parameters, store, console or Console(quiet=True)).run()
    return load_run(folder)


class _WarmStart:
    """One warm start in progress. Its stages are counted 0 (demonstrations), 1, 2, … (rounds)."""

    def __init__(self, parameters: WarmStartParameters, store: RunStore, console: Console) -> None:
        self.parameters, self.store, self.console = parameters, store, console
        arguments = (parameters.tasks, parameters.scaffolds, parameters.size)
        self.bare = build_slots(*arguments, (), parameters.judged_on)
        self.shown = {
            slot.key: slot for slot in build_slots(*arguments, parameters.examples, parameters.judged_on, skip=True)
        }
        self.slots = {slot.key: slot for slot in self.bare}
        tasks = {slot.task.key: slot.task for slot in self.bare}
        refuse_evaluation_tasks(list(tasks.values()), parameters.split)
        self.judge = Judge(
            store,
            tasks.values(),
            parameters.evaluator,
            parameters.judged_on,
            parameters.protocol,
            parameters.cluster,
            console.print,
        )
        self.records = store.folder / "parts" / "steps.jsonl"

    def run(self) -> None:
        """Stage by stage: get completions, judge them, fit the adapter."""
        parameters = self.parameters
        model, tokenizer, identity = load_trainable(
            parameters.policy, None, parameters.lora, parameters.device, parameters.seed
        )
        self.tokenizer = tokenizer
        self.policy = TransformersPolicy(model, tokenizer, identity)
        write_prompts(self.store.folder, [*self.bare, *self.shown.values()])
        stages = range(parameters.rounds + 1)
        with Progress(console=self.console, transient=True) as self.progress, ExitStack() as self.stack:
            self.evaluator: Any = None
            for stage in stages:
                if not self.store.has_unit(_unit(stage)):
                    self._sample(stage)
                rows, facts = self.store.unit(_unit(stage))
                seconds = self._judge(rows)
                self._fit(model, stage, facts, [self.judge.row(row) for row in rows], seconds)
        self._finish(stages[-1])

    def _sample(self, stage: int) -> None:
        """The stage's completions, written by the policy as it is, or by us."""
        parameters = self.parameters
        slots = self.bare if stage > FIRST else [self.shown[key] for key in self.slots]
        started = time.perf_counter()
        sampling = SamplingParameters(parameters.temperature, parameters.max_new_tokens)
        language = Language.CPP if parameters.judged_on == "cpu" else Language.CUDA
        worked = {
            slot.key: [
                self._completion(text)
                for text in demonstrations(slot.task, slot.scaffold, language, count, parameters.seed)
            ]
            for slot in slots
            if stage == FIRST and (count := parameters.demonstrations.get(slot.scaffold, 0))
        }
        prompts = [slot.prompt for slot in slots if slot.key not in worked]
        bar = self.progress.add_task(f"stage {stage}: sampling", total=len(prompts) * parameters.k)
        sampled = iter(
            self.policy.sample(
                prompts,
                parameters.k,
                sampling,
                parameters.seed + (stage << 32),
                lambda tokens, running: self.progress.update(bar, completed=len(prompts) * parameters.k - running),
            )
        )
        self.progress.remove_task(bar)
        groups = [worked[slot.key] if slot.key in worked else next(sampled) for slot in slots]
        counts: dict[str, int] = {}  # one task may stand in several scaffolds
        rows = []
        for slot, group in zip(slots, groups, strict=True):
            for completion in group:
                number = counts.get(slot.task.key, 0)
                counts[slot.task.key] = number + 1
                columns = completion_columns(slot.task, parameters.seed, stage, number, slot.prompt.id, completion)
                rows.append({"scaffold": slot.scaffold} | columns)
        identity = self.policy.identity
        lengths = self.policy.prompt_tokens([slot.prompt for slot in slots])
        facts = {
            "sampling_seconds": time.perf_counter() - started,
            "prompt_tokens": {slot.key: length for slot, length in zip(slots, lengths, strict=True)},
            "policy": identity_facts(identity),
            "versions": machine.versions() | identity.versions,
            "machine": machine.device(parameters.judged_on),
        }
        self.store.write_unit(_unit(stage), rows, facts)

    def _completion(self, text: str) -> Completion:
        """A worked answer as if it had been sampled; nobody wrote it, so it has no log-probabilities."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Completion(tuple(ids), text.removesuffix("```"), StopReason.STOP_STRING, (), ())

    def _judge(self, rows: Sequence[dict[str, Any]]) -> float:
        """Evaluate what has no verdict yet; the seconds that it took."""
        missing = self.judge.unjudged(self.judge.candidates(rows))
        started = time.perf_counter()
        if missing:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.evaluator is None:
                self.evaluator = self.stack.enter_context(self.judge.evaluator(self.parameters.scaffolds[0]))
            bar = self.progress.add_task("evaluating", total=len(missing))
            self.judge.judge(self.evaluator, missing, advance=lambda: self.progress.advance(bar))
            self.progress.remove_task(bar)
        return time.perf_counter() - started

    def _fit(self, model: Any, stage: int, facts: dict[str, Any], rows: list[dict[str, Any]], seconds: float) -> None:
        """Maximum likelihood on what was kept, weighted; a stage that kept nothing changes nothing."""
        parameters = self.parameters
        judged = (self.judge.row(row) for row in self.store.units()[0] if row["step"] <= stage)
        kept = kept_candidates(judged, parameters.most)
        groups = [
            weighted_group(prompt_token_ids(self.tokenizer, self.slots[key].prompt), found, parameters.power)
            for key, found in kept.items()
        ]
        per = parameters.tasks_per_update
        updates = max(1, math.ceil(parameters.epochs * len(groups) / per)) if groups else 0
        order = np.random.default_rng([parameters.seed, stage, _STREAM])
        places = [place for _ in range(math.ceil(parameters.epochs) + 1) for place in order.permutation(len(groups))]
        folder = self.store.folder / "checkpoints" / f"stage-{stage}"
        losses: list[float] = []
        started = time.perf_counter()
        bar = self.progress.add_task(f"stage {stage}: fitting", total=updates)

        def show(report: StepReport) -> None:
            losses.append(report.loss)
            self.progress.advance(bar)

        done = latest_step(folder) == updates
        if updates and not done:
            if stage > FIRST:
                self._load_previous(model, stage)
            train(
                model,
                self.tokenizer,
                lambda step: [groups[place] for place in places[step * per : (step + 1) * per]],
                folder,
                parameters.update,
                steps=updates,
                groups=per,
                temperature=1.0,
                seed=parameters.seed,
                on_step=show,
                keep_every=updates,
                save_every=updates,
            )
        elif done:
            _load(model, step_folder(folder, updates))
        self.progress.remove_task(bar)
        if any(record["step"] == stage for record in read_lines(self.records)):
            return
        record = of_stage(
            stage,
            rows,
            facts,
            kept=sum(len(found) for found in kept.values()),
            updates=updates,
            loss=losses[-1] if losses else None,
            evaluation_seconds=seconds,
            update_seconds=time.perf_counter() - started,
        )
        append_line(self.records, record)
        self.console.print(
            f"stage {stage}: correct {record['correct']:.0%}, a correct one on {record['tasks_with_correct']} of "
            f"{record['tasks']}, kept {record['kept']}, {record['wall_seconds']:.0f} s",
            highlight=False,
        )

    def _load_previous(self, model: Any, stage: int) -> None:
        """The adapter of the newest stage before; the model may have come this far already."""
        folder = self._last_adapter(stage - 1)
        if folder is not None:
            _load(model, folder)

    def _last_adapter(self, stage: int) -> Path | None:
        for earlier in range(stage, -1, -1):
            folder = self.store.folder / "checkpoints" / f"stage-{earlier}"
            if step := latest_step(folder):
                return step_folder(folder, step)
        return None

    def _finish(self, stage: int) -> None:
        rows, facts = self.store.units()
        samples = [self.judge.row(row) for row in rows]
        steps = {record["step"]: record for record in read_lines(self.records)}
        target = self.store.folder / "steps.jsonl"
        target.unlink(missing_ok=True)
        for number in sorted(steps):
            append_line(target, steps[number])
        names = ["rollouts", "student_tokens", "teacher_tokens", "sampling_seconds", "evaluation_seconds"]
        names += ["update_seconds", "wall_seconds", "device_seconds"]
        compute = {name: sum(record[name] for record in steps.values()) for name in names}
        last = self._last_adapter(stage)
        manifest = {
            "policy": facts[0]["policy"],
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "git": machine.git_commit(find_project_root()),
            "task_names": {slot.task.key: slot.task.name for slot in self.bare},
        }
        if last is not None:
            shutil.copytree(last, self.store.folder / "adapter", dirs_exist_ok=True)
            manifest["adapters"] = {"adapter": adapter_sha256(self.store.folder / "adapter")}
        self.store.finish(samples, [], compute, manifest, {"steps.jsonl": len(steps), "prompts.json": 1})


def _load(model: Any, folder: Path) -> None:
    """Put a checkpoint's weights into the model's adapter."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def _unit(stage: int) -> str:
    return f"{stage:06d}"
