"""A run that moves weights: sample, judge, record, update, step by step (sections 3.1, 3.3 to 3.6).

Test-time training, isolated runs, SDPO and the outer loop's GRPO are this with different parameters. The run is written
as it goes: a step's rollouts are on disk before they are judged, each verdict before the next, each checkpoint before
the next step; started again with the same parameters it goes on, with the result of an unbroken run on one device.
Under ``accelerate launch`` this is what the main process does; the others are in ``following``.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.judging import Judge
from vegtts_core.metrics.checkpoints import early_stopping
from vegtts_core.policy.load import load_trainable, load_vllm
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.vllm.policy import VllmPolicy
from vegtts_core.project import runs_folder
from vegtts_core.runs.files import append_line
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.training.adaptation_tables import write_tables
from vegtts_core.training.batches import BatchMaker
from vegtts_core.training.checkpoints import step_folder, steps_on_disk
from vegtts_core.training.following import agreed, follow
from vegtts_core.training.groups import Group, StepReport, Stop
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import Processes, join
from vegtts_core.training.slots import build_slots, refuse_evaluation_tasks, schedule, write_prompts
from vegtts_core.training.step_record import of_rollouts, score_of, with_update
from vegtts_core.training.step_sampling import sample_together, share, unit_of
from vegtts_core.training.update import train

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
        self.policy: TransformersPolicy | VllmPolicy = TransformersPolicy(
            self.model, self.tokenizer, identity, cuda_graphs=parameters.cuda_graphs
        )

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
        write_tables(self.store, self.judge, self.slots, self.records, self.checkpoints, processes=self.processes.count)

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
        self.pending[step] = of_rollouts(step, rows, facts, seconds, len(missing), self.parameters.protocol.value) | {
            "score": self.scores[step]
        }
        return rows

    def _sample(self, step: int) -> None:
        """The step's rollouts, unless they are on disk; every process writes a share."""
        if not self.processes.broadcast(lambda: not self.store.has_unit(_unit(step))):
            return
        parameters, slots = self.parameters, self.plan(step)
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
        rows, facts = unit_of(self.policy, parameters, step, slots, completions, seconds)
        self.store.write_unit(_unit(step), rows, facts)
        self.progress.remove_task(bar)

    def _rows(self, step: int) -> list[dict[str, Any]]:
        """A finished step's rows, in full."""
        return [self.judge.row(row) for row in self.store.unit(_unit(step))[0]]

    def _score(self, step: int) -> None:
        """Aggregate fast_1 of the step's rollouts: algorithm 1's validation, at no extra budget."""
        self.scores[step] = score_of(self._rows(step), self.parameters.evaluator, self.parameters.protocol)

    def _keep(self, report: StepReport) -> None:
        """What a step was and cost, on disk before its checkpoint counts."""
        seconds = 0.0 if report.skipped else time.perf_counter() - self.updating
        checkpoint = step_folder(self.checkpoints, report.step + 1)
        record = with_update(self.pending.pop(report.step), report, seconds, checkpoint, self.processes.count)
        append_line(self.records, record)
        if hasattr(self, "progress"):
            self.progress.update(self.bar, completed=report.step + 1)
        self.console.print(
            f"step {report.step}: correct {record['correct']:.0%}, fast_1 {record['score']:.0%}, "
            f"{record['distinct_candidates']} distinct candidates, {record['wall_seconds']:.0f} s",
            highlight=False,
        )


def _unit(step: int) -> str:
    return f"{step:06d}"
