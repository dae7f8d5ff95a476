"""The connection to a Ray cluster, one per process, and what the cluster has.

Ray is imported here and only here. Ray's usage statistics are switched off.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from typing import Any

from vegtts_core.cluster.parameters import RayParameters
from vegtts_core.errors import UserError

#: The resource that a node offers: how many candidates it may measure at a time on its CPU, each on cores of its own.
DEVICE = "vegtts_device"
_REACHABLE_SECONDS = 5.0
_OBJECT_STORE = 256 << 20
#: Ray takes 127.0.0.1 for this machine's address on the network, and binds to that.
LOOPBACK = "127.0.0.2"
_connected: tuple[str, int] | None = None


def resource(device: str) -> str:
    """The Ray resource of which one measurement on ``device`` (``cpu`` or ``cuda``) takes 1."""
    return "GPU" if device == "cuda" else DEVICE


def ray_module() -> Any:
    """Ray. Raises UserError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UserError(
            "pool is ray and Ray is not installed here: pip install 'vegtts_core[ray]', or set pool to local."
        ) from None


def connect(parameters: RayParameters, local_devices: int) -> Any:
    """Ray, connected to the cluster of ``parameters`` (again, if it was another one). ``local_devices``: for ``local``.

    A connection that the caller made with ``ray.init`` is used as it is. Raises UserError where no cluster answers, or
    one with another version of Ray or Python.
    """
    global _connected
    ray = ray_module()
    wanted = (parameters.address, local_devices if parameters.address == "local" else 0)
    if ray.is_initialized():
        if _connected in (None, wanted):
            return ray
        ray.shutdown()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if parameters.address == "local":
        # Bound to loopback: nobody else can hand work to it.
        options |= {"num_cpus": 0, "resources": {DEVICE: local_devices}, "_node_ip_address": LOOPBACK}
        options |= {"object_store_memory": _OBJECT_STORE}
    else:
        del options["include_dashboard"]
        if parameters.address != "auto":
            _require_listener(parameters.address)
            if parameters.address.startswith(f"{LOOPBACK}:"):
                options |= {"_node_ip_address": LOOPBACK}
    try:
        ray.init(address=parameters.address, **options)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and bare Exception here
        raise UserError(_sentence(parameters.address, error)) from error
    _connected = wanted
    return ray


def devices(ray: Any, kind: str) -> int:
    """How many of resource ``kind`` the nodes that are alive have together."""
    return sum(int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"])


def require_devices(ray: Any, kind: str, address: str) -> int:
    """As `devices`. Raises UserError if there are none."""
    count = devices(ray, kind)
    if count:
        return count
    if kind == "GPU":
        raise UserError(
            f"No node of the Ray cluster ({address}) has a GPU: start its nodes with `ray start --num-gpus=N`, or set "
            "device to cpu."
        )
    raise UserError(
        f"No node of the Ray cluster ({address}) has the resource {DEVICE}: start its nodes with "
        f"`ray start --resources='{{\"{DEVICE}\": N}}'`, N being how many candidates a node may measure at a time."
    )


def node_alive(ray: Any, node: str) -> bool:
    """Whether Ray believes that the node is alive."""
    return any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())


def _require_listener(address: str) -> None:
    """Ray itself tries for a minute to reach an address where nobody listens."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHABLE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"No Ray cluster answers at {address} ({error}): start one there with `ray start --head`, or correct "
            "ray.address."
        ) from None


def _sentence(address: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "version mismatch" in text.lower():
        return (
            f"The Ray cluster ({address}) runs another version of Ray or Python ({text[:200]}): install the same "
            "versions on all nodes."
        )
    if address == "auto":
        return (
            "This machine is not a node of a running Ray cluster: start one with `ray start --head` (or join one with "
            "`ray start --address=host:port`), or set ray.address to local."
        )
    if address == "local":
        return f"Ray cannot start on this machine ({text[:200]}): free memory and processes, or set pool to local."
    return (
        f"The Ray cluster at {address} takes no connection from here ({text[:200]}): this machine must be a node of it "
        f"(`ray start --address={address}`)."
    )
