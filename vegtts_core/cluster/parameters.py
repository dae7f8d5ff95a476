"""Where a run's work is done: on which device, in this process and its children or on a Ray cluster."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from vegtts_core.parameters import Parameters

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5}")


class RayParameters(Parameters):
    """Which cluster, and how much of it."""

    address: str = "auto"
    """``auto``: the cluster that this machine is a node of; ``local``: a new one on this machine alone, ended with the
    process; ``host:port``: the head's address, from a machine that is a node of that cluster itself."""
    devices: int | None = Field(default=None, ge=1)
    """At most so many devices at once; None: all of the cluster, with ``local`` as many as ``evaluator.workers``."""
    deaths: int = Field(default=3, ge=1)
    """After so many deaths of its worker, with the node alive, a candidate is judged a crash and a sampling unit is
    given up (`UserError`). Deaths with the whole node do not count."""

    @field_validator("address")
    @classmethod
    def _form(cls, address: str) -> str:
        if address not in ("auto", "local") and not _HOST_AND_PORT.fullmatch(address):
            raise ValueError("use auto, local or host:port")
        return address


class PooledParameters(Parameters):
    """Parameters of a run whose work can be spread. Where it was done is no part of what the run is."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the policy runs and, unless ``evaluation_device`` says otherwise, the candidates."""
    evaluation_device: Literal["cpu", "cuda"] | None = None
    pool: Literal["local", "ray"] = "local"
    ray: RayParameters = RayParameters()

    @property
    def judged_on(self) -> Literal["cpu", "cuda"]:
        """The device that candidates are measured on."""
        return self.evaluation_device or self.device

    @property
    def identity(self) -> dict[str, Any]:
        """The parameters that decide the tables: a run begun locally may go on on a cluster, and on another one."""
        return self.model_dump(exclude={"pool", "ray"})

    @property
    def cluster(self) -> RayParameters | None:
        """The cluster, if one is asked for."""
        return self.ray if self.pool == "ray" else None
