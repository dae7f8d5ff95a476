"""The sampling of a Best-of-N run, here or on a cluster, batch by batch; a batch is a unit that is on disk or missing.

It knows policies and prompts; it knows nothing of what completions are worth.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress

from vegtts_core.cluster.parameters import RayParameters
from vegtts_core.cluster.sampling import PolicySource, RayPolicies, SamplingUnit
from vegtts_core.errors import UserError
from vegtts_core.policy import load_policy
from vegtts_core.policy.load import is_served
from vegtts_core.policy.types import Completion, Metered, Policy
from vegtts_core.runs import machine
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.runs.store import RunStore
from vegtts_core.scaffolds import Prompt
from vegtts_core.search.parameters import BestOfNParameters
from vegtts_core.tasks import Task


class Sampling:
    """The sampling of one run; ``prompts`` by task key."""

    def __init__(
        self,
        parameters: BestOfNParameters,
        store: RunStore,
        console: Console,
        tasks: Sequence[Task],
        prompts: Mapping[str, Prompt],
    ) -> None:
        self.parameters = parameters
        self.store = store
        self.console = console
        self.tasks = tasks
        self.prompts = prompts

    def run(self, policy: Policy | None, progress: Progress) -> None:
        """Write every unit that is not on disk yet, by ``policy`` if one is given."""
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
            cuda_graphs=parameters.cuda_graphs,
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
        source = PolicySource(given.policy, given.adapter, given.dtype, given.device, given.cuda_graphs)
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


def _unit(seed: int, index: int) -> str:
    return f"{seed:010d}-{index:04d}"
