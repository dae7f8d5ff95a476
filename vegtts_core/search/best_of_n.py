"""Best-of-N: sample K completions per task, evaluate every distinct candidate, keep all of it as a run.

A run is a function of its parameters: started again after being killed it goes on where it stopped, and started again
after it finished it returns the tables on disk.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from rich.console import Console
from rich.progress import Progress

from vegtts_core import __version__
from vegtts_core.cluster.evaluation import RayEvaluators
from vegtts_core.cluster.parameters import PooledParameters, RayParameters
from vegtts_core.cluster.sampling import PolicySource, RayPolicies, SamplingUnit
from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.floors import device_ceilings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.judging import Judge
from vegtts_core.policy import load_policy
from vegtts_core.policy.load import is_served
from vegtts_core.policy.served import ServedParameters
from vegtts_core.policy.types import Completion, Metered, Policy, SamplingParameters, Usage
from vegtts_core.policy.vllm.parameters import VllmParameters, is_default_sampler
from vegtts_core.project import find_project_root, runs_folder
from vegtts_core.runs import machine
from vegtts_core.runs.files import canonical_json
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.runs.store import Run, RunStore, fingerprint, load_run
from vegtts_core.scaffolds import Candidate, ForwardScaffold, Prompt
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.search.references import reference_rows
from vegtts_core.tasks import Size, Task, get_task, load_tasks

KIND = "best_of_n"


class BestOfNParameters(PooledParameters):
    """Parameters of a Best-of-N run; defaults are the paper's (sections 3.1, 4.1, appendix A) where it has them."""

    policy: str = "embedded"
    """``embedded``, a hub id, a folder, a GGUF file, or ``served:MODEL`` for a model behind a server."""
    served: ServedParameters | None = None
    """How that server is reached and asked."""
    adapter: str | None = None
    """Folder of a LoRA adapter."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the policy runs and, unless ``evaluation_device`` says otherwise, the candidates."""
    evaluation_device: Literal["cpu", "cuda"] | None = None
    sampler: Literal["transformers", "vllm"] = Field("transformers", exclude_if=is_default_sampler)
    """What runs the policy; the completions are the same up to rounding."""
    vllm: VllmParameters = Field(VllmParameters(), exclude=True)
    """The engine of sampler *vllm*. It changes no result and is no part of a run's identity."""
    scaffold: Literal["forward", "template", "kernel"] = "forward"
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
    def judged_on(self) -> Literal["cpu", "cuda"]:
        """The device that candidates are measured on."""
        return self.evaluation_device or self.device

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
    notebook leave it out. ``policy`` replaces the one that the parameters name (an already loaded one, which samples
    here whatever ``pool`` says).
    Raises UserError for parameters that do not fit together.
    """
    # The version belongs to a run's identity: other code may measure something else.
    identity = parameters.identity | {"version": __version__}
    if parameters.served is None:
        del identity["served"]  # runs without a server are the same runs as before there was this parameter
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
        self.judge = Judge(
            store,
            self.tasks,
            parameters.evaluator,
            parameters.judged_on,
            parameters.protocol,
            parameters.cluster,
            console.print,
        )
        scaffold = self.judge.scaffold(parameters.scaffold)
        examples = [get_task(example, parameters.size) for example in parameters.examples]
        asked = {(task.level, task.id) for task in self.tasks}
        for example in examples:
            if (example.level, example.id) in asked:
                raise UserError(
                    f"Task {example.key} is evaluated and stands as an example in the prompt: take it out of examples."
                )
        self.prompts = {task.key: scaffold.prompt(task, examples) for task in self.tasks}

    def run(self, policy: Policy | None) -> None:
        """Sample what is missing, evaluate what is missing, then write the final tables."""
        with Progress(console=self.console, transient=True) as progress:
            self._sample(policy, progress)
            rows, facts = self.store.units()
            self._evaluate(self.judge.candidates(rows), progress)
        self._finish(rows, facts)

    # -- sampling ------------------------------------------------------------------------------------------------

    def _sample(self, policy: Policy | None, progress: Progress) -> None:
        size = self.parameters.prompts_per_batch
        batches = [self.tasks[start : start + size] for start in range(0, len(self.tasks), size)]
        units = [(seed, index) for seed in self.parameters.seeds for index in range(len(batches))]
        missing = [(seed, index) for seed, index in units if not self.store.has_unit(_unit(seed, index))]
        bar = progress.add_task("sampling", total=len(units), completed=len(units) - len(missing))
        if not missing:
            return
        cluster = self.parameters.cluster
        # A server and vLLM spread their work themselves: they are asked from here, and the cluster evaluates alone.
        elsewhere = is_served(self.parameters.policy) or self.parameters.sampler == "vllm"
        if policy is None and cluster is not None and not elsewhere:
            self._sample_on_cluster(cluster, missing, batches, lambda: progress.advance(bar))
            return
        with self._policy(policy) as policy:
            for seed, index in missing:
                self._sample_unit(policy, seed, index, batches[index], progress)
                progress.advance(bar)

    @contextmanager
    def _policy(self, given: Policy | None) -> Iterator[Policy]:
        """``given``, or the one that the parameters name, closed before anything is timed."""
        if given is not None:
            yield given
            return
        parameters = self.parameters
        self.console.print(f"Loading the policy {parameters.policy} …")
        policy = load_policy(
            parameters.policy,
            parameters.adapter,
            parameters.dtype,
            parameters.device,
            parameters.sampler,
            parameters.vllm,
            served=parameters.served,
            journal=self.store.folder / "parts" / "requests.jsonl",
        )
        with closing(policy):
            yield policy

    def _sample_unit(self, policy: Policy, seed: int, index: int, batch: Sequence[Task], progress: Progress) -> None:
        parameters = self.parameters
        prompts: list[Prompt] = [self.prompts[task.key] for task in batch]
        total = len(prompts) * parameters.k
        bar = progress.add_task(f"seed {seed}, tasks {', '.join(str(task.id) for task in batch)}", total=total)

        def show(tokens: int, running: int) -> None:
            progress.update(bar, completed=total - running, description=f"seed {seed}: {tokens} tokens")

        started = time.perf_counter()
        completions = policy.sample(prompts, parameters.k, parameters.sampling, seed, show)
        facts = {
            "sampling_seconds": time.perf_counter() - started,
            "policy": identity_facts(policy.identity),
            "versions": machine.versions() | policy.identity.versions,
            "machine": machine.device(parameters.judged_on),
        }
        lengths = policy.prompt_tokens(prompts)
        if isinstance(policy, Metered):
            facts["served"] = dataclasses.asdict(policy.spent())
        self._keep(seed, index, batch, completions, lengths, facts)
        progress.remove_task(bar)

    def _sample_on_cluster(
        self,
        cluster: RayParameters,
        missing: Sequence[tuple[int, int]],
        batches: Sequence[Sequence[Task]],
        advance: Callable[[], object],
    ) -> None:
        """Each unit is on disk as soon as it comes, in any order. Raises UserError if the nodes' weights differ."""
        given = self.parameters
        source = PolicySource(given.policy, given.adapter, given.dtype, given.device)
        places = {_unit(*one): one for one in missing}
        units = [
            SamplingUnit(name, tuple(self.prompts[task.key] for task in batches[index]), given.k, given.sampling, seed)
            for name, (seed, index) in places.items()
        ]
        known = [fact["policy"]["weights_sha256"] for fact in self.store.units()[1]]
        with RayPolicies(source, cluster, given.evaluator.workers, self.console.print) as policies:
            for unit, sampled in policies.sample(units):
                policy = identity_facts(sampled.identity)
                known.append(policy["weights_sha256"])
                if known[0] != known[-1]:
                    raise UserError(
                        f"The nodes of the cluster have different weights for {given.policy}: put the same on all."
                    )
                seed, index = places[unit.name]
                facts = {"sampling_seconds": sampled.seconds, "policy": policy}
                facts |= {"versions": sampled.versions, "machine": sampled.machine}
                self._keep(seed, index, batches[index], sampled.completions, sampled.prompt_tokens, facts)
                advance()

    def _keep(
        self,
        seed: int,
        index: int,
        batch: Sequence[Task],
        completions: Sequence[Sequence[Completion]],
        prompt_tokens: Sequence[int],
        facts: dict[str, Any],
    ) -> None:
        rows = [
            {"scaffold": self.parameters.scaffold}
            | completion_columns(task, seed, 0, sample, self.prompts[task.key].id, completion)
            for task, group in zip(batch, completions, strict=True)
            for sample, completion in enumerate(group)
        ]
        lengths = dict(zip((task.key for task in batch), prompt_tokens, strict=True))
        self.store.write_unit(_unit(seed, index), rows, facts | {"prompt_tokens": lengths})

    # -- evaluation ----------------------------------------------------------------------------------------------

    def _evaluate(self, candidates: Sequence[Candidate], progress: Progress) -> None:
        have_references = {record["task"] for record in self.store.verdicts() if record["kind"] == "reference"}
        missing = self.judge.unjudged(candidates)
        tasks = [task for task in self.tasks if task.key not in have_references]
        bar = progress.add_task("evaluating", total=len(candidates), completed=len(candidates) - len(missing))
        if not missing and not tasks and not self.judge.not_retimed(candidates):
            return
        # Sampling leaves caches behind that evaluation does not need.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with self.judge.evaluator(self.parameters.scaffold) as evaluator:
            on_cluster = isinstance(evaluator, RayEvaluators)
            given = self.parameters
            limits = evaluator.ceilings() if on_cluster else device_ceilings(given.judged_on, given.evaluator.threads)
            for row in reference_rows(evaluator, ForwardScaffold(), tasks, limits):
                self.store.append_verdict({"kind": "reference"} | row)
            self.judge.judge(evaluator, missing, advance=lambda: progress.advance(bar))
            # Whatever a table selects was lucky to be selected: each candidate that can be is measured once more.
            again = self.judge.not_retimed(candidates)
            second = progress.add_task("timing again", total=len(again))
            self.judge.judge(evaluator, again, again=True, advance=lambda: progress.advance(second))
            if on_cluster:
                for facts in evaluator.facts:
                    self.store.append_verdict({"kind": "worker", "machine": facts["machine"]})

    # -- the end -------------------------------------------------------------------------------------------------

    def _finish(self, rows: Sequence[dict[str, Any]], facts: Sequence[dict[str, Any]]) -> None:
        order = {task.key: index for index, task in enumerate(self.tasks)}
        references = [record for record in self.store.verdicts() if record["kind"] == "reference"]
        references.sort(key=lambda record: order[record["task"]])
        samples = [self.judge.row(row) for row in rows]
        manifest = {
            "policy": facts[0]["policy"],
            "versions": facts[0]["versions"],
            "machine": facts[0]["machine"],
            "git": machine.git_commit(find_project_root()),
            "task_names": {task.key: task.name for task in self.tasks},
        }
        measured_on = [record["machine"] for record in self.store.verdicts() if record["kind"] == "worker"]
        if measured_on:  # on a cluster: every kind of node that measured, once
            kinds = {canonical_json(one): one for one in measured_on}
            manifest |= {"machine": measured_on[0], "machines": list(kinds.values())}
        kept = [{name: value for name, value in record.items() if name != "kind"} for record in references]
        self.store.finish(samples, kept, self._compute(samples, facts), manifest)

    def _compute(
        self,
        samples: Sequence[dict[str, Any]],
        facts: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """Section 4.6: rollouts and tokens. The paper counts a prompt's tokens once per rollout; so does this."""
        lengths = {key: length for fact in facts for key, length in fact["prompt_tokens"].items()}
        prompt_tokens = sum(lengths[row["task"]] for row in samples)
        completion_tokens = sum(row["tokens"] for row in samples)
        sampling = sum(fact["sampling_seconds"] for fact in facts)
        evaluation = sum(sum(verdict.seconds.values()) for verdict in self.judge.verdicts.values())
        return {
            "rollouts": len(samples),
            "prompt_tokens": prompt_tokens,
            "prompt_tokens_computed": sum(sum(fact["prompt_tokens"].values()) for fact in facts),
            "completion_tokens": completion_tokens,
            "student_tokens": prompt_tokens + completion_tokens,
            "teacher_tokens": 0,
            "distinct_candidates": len(self.judge.verdicts),
            "sampling_seconds": sampling,
            "evaluation_seconds": evaluation,
            "retiming_seconds": sum(sum(verdict.seconds.values()) for verdict in self.judge.retimed.values()),
            "wall_seconds": sampling + evaluation,
            "device_seconds": sampling + evaluation,
            **_served(facts),
        }


def _served(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a server counted (and may charge for), requests that were cut off included; nothing without a server."""
    total = sum((Usage(**fact["served"]) for fact in facts if "served" in fact), Usage())
    return {"served": dataclasses.asdict(total)} if total.requests else {}


def _unit(seed: int, index: int) -> str:
    return f"{seed:010d}-{index:04d}"
