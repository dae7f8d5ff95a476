"""Best-of-N: sample K completions per task, evaluate every distinct candidate, keep all of it as a run.

A run is a function of its parameters: started again after being killed it goes on where it stopped, and started again
after it finished it returns the tables on disk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from rich.console import Console
from rich.progress import Progress

from vegtts_core import __version__
from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings, ForwardEvaluator
from vegtts_core.evaluator.types import ErrorKind, ProtocolName, Stage, Verdict
from vegtts_core.kernels import ceilings
from vegtts_core.parameters import Parameters
from vegtts_core.policy import load_policy
from vegtts_core.policy.types import Policy, SamplingParameters
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.rows import (
    completion_columns,
    retimed_columns,
    verdict_columns,
    verdict_from_json,
    verdict_to_json,
)
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.scaffolds import Candidate, ForwardScaffold, Prompt, Refusal
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.search.references import reference_rows
from vegtts_core.tasks import Size, Task, get_task, load_tasks

KIND = "best_of_n"


class BestOfNParameters(Parameters):
    """Parameters of a Best-of-N run; defaults are the paper's (sections 3.1, 4.1, appendix A) where it has them."""

    policy: str = "embedded"
    """``embedded``, a hub id, a folder or a GGUF file."""
    adapter: str | None = None
    """Folder of a LoRA adapter."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    scaffold: Literal["forward"] = "forward"
    tasks: str | tuple[int | str, ...] = "subset_1"
    """A selection's name, or task numbers or keys."""
    size: Size = Size.CPU
    examples: tuple[int, ...] = DEFAULT_EXAMPLES
    """Training tasks whose worked examples stand in the prompt."""
    seeds: tuple[int, ...] = Field((42, 43), min_length=1)
    k: int = Field(64, ge=1)
    """Samples per task and seed."""
    temperature: float = Field(0.25, ge=0)
    max_new_tokens: int = Field(1024, ge=1)
    prompts_per_batch: int = Field(5, ge=1)
    """Prompts that are sampled together: a unit of work that is either done or not."""
    protocol: ProtocolName = ProtocolName.SOUND
    """Which protocol's reward a sample carries."""
    evaluator: EvaluatorSettings = EvaluatorSettings()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @property
    def sampling(self) -> SamplingParameters:
        """How tokens are drawn."""
        return SamplingParameters(self.temperature, self.max_new_tokens)


def best_of_n(
    parameters: BestOfNParameters,
    folder: Path | None = None,
    *,
    console: Console | None = None,
    policy: Policy | None = None,
) -> Run:
    """Run Best-of-N (or go on with it, or return it if it is done).

    ``folder`` defaults to one named after the parameters in the runs folder. ``console`` shows progress; in a
    notebook leave it out. ``policy`` replaces the one that the parameters name (an already loaded one).
    Raises UserError for parameters that do not fit together.
    """
    # The version belongs to a run's identity: other code may measure something else.
    identity = parameters.model_dump() | {"version": __version__}
    folder = folder or runs_folder() / f"{KIND}-{fingerprint(KIND, identity)}"
    report = console.print if console else None
    with RunStore.opened(folder, KIND, identity, report) as store:
        if not store.complete:
            _Search(parameters, store, console or Console(quiet=True)).run(policy)
    return load_run(folder)


class _Search:
    """One run in progress."""

    def __init__(self, parameters: BestOfNParameters, store: RunStore, console: Console):
        self.parameters = parameters
        self.store = store
        self.console = console
        self.tasks = load_tasks(parameters.tasks, parameters.size)
        self.scaffold = ForwardScaffold()
        examples = [get_task(example, parameters.size) for example in parameters.examples]
        asked = {(task.level, task.id) for task in self.tasks}
        for example in examples:
            if (example.level, example.id) in asked:
                raise UserError(
                    f"Task {example.key} is evaluated and stands as an example in the prompt: take it out of examples."
                )
        self.prompts = {task.key: self.scaffold.prompt(task, examples) for task in self.tasks}

    def run(self, policy: Policy | None) -> None:
        """Sample what is missing, evaluate what is missing, then write the final tables."""
        with Progress(console=self.console, transient=True) as progress:
            self._sample(policy, progress)
            candidates, refusals = self._candidates()
            self._evaluate(candidates, progress)
        self._finish(refusals)

    # -- sampling ------------------------------------------------------------------------------------------------

    def _sample(self, policy: Policy | None, progress: Progress) -> None:
        size = self.parameters.prompts_per_batch
        batches = [self.tasks[start : start + size] for start in range(0, len(self.tasks), size)]
        units = [(seed, index) for seed in self.parameters.seeds for index in range(len(batches))]
        missing = [(seed, index) for seed, index in units if not self.store.has_unit(_unit(seed, index))]
        bar = progress.add_task("sampling", total=len(units), completed=len(units) - len(missing))
        if not missing:
            return
        if policy is None:
            self.console.print(f"Loading the policy {self.parameters.policy} …")
            policy = load_policy(
                self.parameters.policy, self.parameters.adapter, self.parameters.dtype, self.parameters.device
            )
        for seed, index in missing:
            self._sample_unit(policy, seed, index, batches[index], progress)
            progress.advance(bar)

    def _sample_unit(self, policy: Policy, seed: int, index: int, batch: Sequence[Task], progress: Progress) -> None:
        parameters = self.parameters
        prompts: list[Prompt] = [self.prompts[task.key] for task in batch]
        total = len(prompts) * parameters.k
        bar = progress.add_task(f"seed {seed}, tasks {', '.join(str(task.id) for task in batch)}", total=total)

        def show(tokens: int, running: int) -> None:
            progress.update(bar, completed=total - running, description=f"seed {seed}: {tokens} tokens")

        started = time.perf_counter()
        completions = policy.sample(prompts, parameters.k, parameters.sampling, seed, show)
        seconds = time.perf_counter() - started
        rows = [
            completion_columns(task, seed, 0, sample, prompt.id, completion)
            for task, prompt, group in zip(batch, prompts, completions, strict=True)
            for sample, completion in enumerate(group)
        ]
        lengths = dict(zip((task.key for task in batch), policy.prompt_tokens(prompts), strict=True))
        identity = policy.identity
        facts = {
            "sampling_seconds": seconds,
            "prompt_tokens": lengths,
            "policy": {
                "name": identity.name,
                "weights_sha256": identity.weights_sha256,
                "adapter_sha256": identity.adapter_sha256,
                "dtype": identity.dtype,
                "device": identity.device,
            },
            "versions": machine.versions() | identity.versions,
            "machine": machine.device(parameters.device),
        }
        self.store.write_unit(_unit(seed, index), rows, facts)
        progress.remove_task(bar)

    # -- evaluation ----------------------------------------------------------------------------------------------

    def _candidates(self) -> tuple[list[Candidate], dict[tuple[str, str], Refusal]]:
        """Distinct candidates, and the refusals by (task, completion)."""
        by_key = {task.key: task for task in self.tasks}
        rows, _ = self.store.units()
        candidates: dict[tuple[str, str], Candidate] = {}
        refusals: dict[tuple[str, str], Refusal] = {}
        for row in rows:
            parsed = self.scaffold.parse(by_key[row["task"]], row["completion"])
            if isinstance(parsed, Refusal):
                refusals[row["task"], row["completion"]] = parsed
            else:
                candidates[parsed.task_key, parsed.fingerprint] = parsed
        return list(candidates.values()), refusals

    def _evaluate(self, candidates: Sequence[Candidate], progress: Progress) -> None:
        done = {record["verdict"]["fingerprint"] for record in self.store.verdicts() if record["kind"] == "verdict"}
        have_references = {record["task"] for record in self.store.verdicts() if record["kind"] == "reference"}
        missing = [candidate for candidate in candidates if candidate.fingerprint not in done]
        tasks = [task for task in self.tasks if task.key not in have_references]
        bar = progress.add_task("evaluating", total=len(candidates), completed=len(candidates) - len(missing))
        unconfirmed = self._not_retimed(candidates)
        if not missing and not tasks and not unconfirmed:
            return

        def keep(_: int, verdict: Verdict) -> None:
            self.store.append_verdict({"kind": "verdict", "verdict": verdict_to_json(verdict)})
            progress.advance(bar)

        # Sampling leaves caches behind that evaluation does not need.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        limits = ceilings.measure(self.parameters.evaluator.threads)
        with ForwardEvaluator(self.tasks, self.parameters.evaluator, self.parameters.device) as evaluator:
            for row in reference_rows(evaluator, self.scaffold, tasks, limits):
                self.store.append_verdict({"kind": "reference"} | row)
            evaluator.evaluate(missing, on_verdict=keep)
            # Whatever a table selects was lucky to be selected: each candidate that can be is measured once more.
            again = self._not_retimed(candidates)
            bar = progress.add_task("timing again", total=len(again))

            def keep_again(_: int, verdict: Verdict) -> None:
                self.store.append_verdict({"kind": "retimed", "verdict": verdict_to_json(verdict)})
                progress.advance(bar)

            evaluator.evaluate(again, on_verdict=keep_again, fresh=True)

    def _not_retimed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Distinct candidates that were correct and have no second evaluation yet."""
        verdicts, retimed = self._verdicts("verdict"), self._verdicts("retimed")
        keys = [(candidate.task_key, candidate.fingerprint) for candidate in candidates]
        return [
            candidate
            for key, candidate in zip(keys, candidates, strict=True)
            if key in verdicts and verdicts[key].error is None and key not in retimed
        ]

    def _verdicts(self, kind: str) -> dict[tuple[str, str], Verdict]:
        """What is on disk, by task and fingerprint."""
        return {
            (record["verdict"]["task_key"], record["verdict"]["fingerprint"]): verdict_from_json(record["verdict"])
            for record in self.store.verdicts()
            if record["kind"] == kind
        }

    # -- the end -------------------------------------------------------------------------------------------------

    def _finish(self, refusals: dict[tuple[str, str], Refusal]) -> None:
        rows, facts = self.store.units()
        records = self.store.verdicts()
        verdicts, retimed = self._verdicts("verdict"), self._verdicts("retimed")
        by_key = {task.key: task for task in self.tasks}
        order = {task.key: index for index, task in enumerate(self.tasks)}
        references = [record for record in records if record["kind"] == "reference"]
        references.sort(key=lambda record: order[record["task"]])
        samples = [self._row(row, by_key[row["task"]], refusals, verdicts, retimed) for row in rows]
        compute = self._compute(samples, facts, verdicts, retimed)
        manifest = {
            "policy": facts[0]["policy"],
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "git": machine.git_commit(find_project_root()),
            "task_names": {task.key: task.name for task in self.tasks},
        }
        kept = [{name: value for name, value in record.items() if name != "kind"} for record in references]
        self.store.finish(samples, kept, compute, manifest)

    def _row(
        self,
        row: dict[str, Any],
        task: Task,
        refusals: dict[tuple[str, str], Refusal],
        verdicts: dict[tuple[str, str], Verdict],
        retimed: dict[tuple[str, str], Verdict],
    ) -> dict[str, Any]:
        refusal = refusals.get((row["task"], row["completion"]))
        if refusal is not None:
            error = ErrorKind(f"refused_{refusal.kind.value}")
            wrong = {f"{protocol.value}_correct": False for protocol in self.parameters.evaluator.protocols}
            return (
                row
                | wrong
                | {
                    "stage": Stage.SCAFFOLD.value,
                    "error": error.value,
                    "reason": refusal.reason,
                    "reward": 0.0,
                    "evaluation_seconds": 0.0,
                }
            )
        candidate = self.scaffold.parse(task, row["completion"])
        assert isinstance(candidate, Candidate)
        verdict = verdicts[task.key, candidate.fingerprint]
        measurement = verdict.sound if self.parameters.protocol is ProtocolName.SOUND else verdict.published
        reward = measurement.reward if measurement else 0.0
        named = {"body": candidate.body, "fingerprint": candidate.fingerprint}
        again = retimed.get((task.key, candidate.fingerprint))
        return row | named | verdict_columns(verdict, reward) | (retimed_columns(again) if again else {})

    def _compute(
        self,
        samples: Sequence[dict[str, Any]],
        facts: Sequence[dict[str, Any]],
        verdicts: dict[tuple[str, str], Verdict],
        retimed: dict[tuple[str, str], Verdict],
    ) -> dict[str, Any]:
        """Section 4.6: rollouts and tokens. The paper counts a prompt's tokens once per rollout; so does this."""
        lengths = {key: length for fact in facts for key, length in fact["prompt_tokens"].items()}
        prompt_tokens = sum(lengths[row["task"]] for row in samples)
        completion_tokens = sum(row["tokens"] for row in samples)
        sampling = sum(fact["sampling_seconds"] for fact in facts)
        evaluation = sum(sum(verdict.seconds.values()) for verdict in verdicts.values())
        return {
            "rollouts": len(samples),
            "prompt_tokens": prompt_tokens,
            "prompt_tokens_computed": sum(sum(fact["prompt_tokens"].values()) for fact in facts),
            "completion_tokens": completion_tokens,
            "student_tokens": prompt_tokens + completion_tokens,
            "teacher_tokens": 0,
            "distinct_candidates": len(verdicts),
            "sampling_seconds": sampling,
            "evaluation_seconds": evaluation,
            "retiming_seconds": sum(sum(verdict.seconds.values()) for verdict in retimed.values()),
            "wall_seconds": sampling + evaluation,
            "device_seconds": sampling + evaluation,
        }


def _unit(seed: int, index: int) -> str:
    return f"{seed:010d}-{index:04d}"
