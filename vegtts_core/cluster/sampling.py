"""Policies on the devices of a Ray cluster: sampling units go out, completions come back.

A unit's completions are a function of prompts, k, sampling parameters and seed: where and when they were made does not
show. Every worker uses as many threads as this process would, since another number adds up in another order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from vegtts_core.cluster import place
from vegtts_core.cluster.connection import connect, require_devices, resource
from vegtts_core.cluster.parameters import RayParameters
from vegtts_core.cluster.workers import Lost, Report, Workers
from vegtts_core.errors import UserError
from vegtts_core.policy import load_policy
from vegtts_core.policy.types import Completion, Policy, PolicyIdentity, SamplingParameters
from vegtts_core.runs import machine
from vegtts_core.scaffolds.types import Prompt


@dataclass(frozen=True)
class PolicySource:
    """What `load_policy` loads, on every node: folders must be there under the same path."""

    name: str
    adapter: str | None
    dtype: str
    device: str
    cuda_graphs: bool = True


@dataclass(frozen=True)
class SamplingUnit:
    """What is sampled in one piece."""

    name: str
    prompts: tuple[Prompt, ...]
    k: int
    sampling: SamplingParameters
    seed: int


@dataclass(frozen=True)
class SampledUnit:
    """A unit's completions (per prompt), what they cost, and who wrote them on what."""

    completions: list[list[Completion]]
    prompt_tokens: list[int]
    seconds: float
    identity: PolicyIdentity
    versions: dict[str, str]
    machine: dict[str, Any]


class RayPolicies:
    """One policy per device of the cluster. A context manager: leaving it ends them."""

    def __init__(
        self, source: PolicySource, parameters: RayParameters, local_devices: int, report: Report | None = None
    ) -> None:
        """``local_devices``: of the cluster that address ``local`` starts. Raises UserError as `connect`."""
        kind = resource(source.device)
        ray = connect(parameters, parameters.devices or local_devices)
        count = min(require_devices(ray, kind, parameters.address), parameters.devices or 1 << 30)
        take = {"num_gpus": 1} if kind == "GPU" else {"resources": {kind: 1}}
        remote = ray.remote(num_cpus=0, max_restarts=0, **take)(SamplingWorker)
        threads = torch.get_num_threads()
        self._workers = Workers(ray, kind, count, parameters.deaths, lambda: remote.remote(source, threads), report)

    def __enter__(self) -> RayPolicies:
        self._workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def sample(self, units: Sequence[SamplingUnit]) -> Iterator[tuple[SamplingUnit, SampledUnit]]:
        """Units with their completions, as they come. Raises UserError for one that killed its workers, too."""

        def work(actor: Any, items: Sequence[int]) -> Any:
            return actor.sample.options(num_returns="streaming").remote(units[items[0]])

        for index, result in self._workers.run([[index] for index in range(len(units))], work):
            if isinstance(result, Lost):
                raise UserError(
                    f"Sampling unit {units[index].name} killed its worker {result.deaths} times, perhaps for want of "
                    "memory: lower prompts_per_batch or k; the units that came back are kept."
                )
            yield units[index], result


class SamplingWorker:
    """On a node: a policy on a device of its own."""

    def __init__(self, source: PolicySource, threads: int) -> None:
        self._source, self._threads = source, threads
        self._policy: Policy | None = None

    def start(self) -> dict[str, Any]:
        """Take a device and load the policy; what it runs on."""
        source = self._source
        facts = place.take(resource(source.device), source.device)
        torch.set_num_threads(self._threads)
        self._policy = load_policy(
            source.name, source.adapter, source.dtype, source.device, cuda_graphs=source.cuda_graphs
        )
        return facts

    def sample(self, unit: SamplingUnit) -> Iterator[SampledUnit]:
        """The unit's completions (one result)."""
        policy = self._policy
        assert policy is not None
        started = time.perf_counter()
        completions = policy.sample(unit.prompts, unit.k, unit.sampling, unit.seed)
        seconds = time.perf_counter() - started
        yield SampledUnit(
            completions,
            policy.prompt_tokens(unit.prompts),
            seconds,
            policy.identity,
            machine.versions() | policy.identity.versions,
            machine.device(self._source.device),
        )
