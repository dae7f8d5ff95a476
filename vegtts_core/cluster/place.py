"""What a worker does first, on its node: take a device for itself, and say what it runs on.

A node of N devices gives each worker every Nth core and a timing lock of its own, as the local pool does. A node of
one device uses the machine's timing lock, which evaluators outside Ray use too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import vegtts_core
from vegtts_core.cluster.connection import ray_module
from vegtts_core.errors import UserError
from vegtts_core.runs import machine

_WAIT_SECONDS = 60.0
_held: list[int] = []


@cache
def code() -> str:
    """A digest of the library's source: workers that run other code would measure something else."""
    root = Path(vegtts_core.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("*.py", "*.cpp", "*.cu") for path in root.rglob(pattern)):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """What must be the same everywhere."""
    ray = ray_module()
    return {"vegtts_core": code(), "python": platform.python_version(), "ray": ray.__version__}


def take(kind: str, device: str) -> dict[str, Any]:
    """In a worker that holds 1 of resource ``kind``: keep to its share of the node, and describe it.

    Returns ``node`` (Ray's id), ``versions`` and ``machine``. Raises UserError for more devices than cores.
    """
    ray = ray_module()
    node = ray.get_runtime_context().get_node_id()
    resources = next(entry["Resources"] for entry in ray.nodes() if entry["NodeID"] == node)
    count = int(resources[kind])
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if kind == "GPU":
        share = "gpu-" + "-".join(str(place) for place in ray.get_gpu_ids())
    else:
        cores = sorted(os.sched_getaffinity(0))
        if count > len(cores):
            raise UserError(f"A node offers {count} of {kind} on {len(cores)} cores: start it with fewer.")
        slot = _slot(base, node, count)
        os.sched_setaffinity(0, cores[slot::count])
        share = f"{slot}-of-{count}"
    if count > 1:
        folder = base / f"vegtts-core-{os.getuid()}-{share}"
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ["XDG_RUNTIME_DIR"] = str(folder)
    return {"node": node, "versions": versions(), "machine": machine.device(device)}


def _slot(base: Path, node: str, count: int) -> int:
    """The first place of ``count`` on the node that no living worker holds; the kernel gives a dead one's back."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        for slot in range(count):
            path = base / f"vegtts-core-{os.getuid()}-{node[:16]}-{slot}.lock"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            _held.append(handle)
            return slot
        if time.monotonic() > deadline:
            raise UserError("All devices of a node are held by workers that Ray has given up: restart that node.")
        time.sleep(0.1)


def check_same(mine: dict[str, str], theirs: dict[str, str]) -> None:
    """Raises UserError if a worker runs other versions than this process."""
    for name, version in mine.items():
        if theirs.get(name) != version:
            shown = "source code" if name == "vegtts_core" else "version"
            raise UserError(
                f"A node of the Ray cluster has another {shown} of {name} ({theirs.get(name)}) than this machine "
                f"({version}): install the same on all nodes."
            )
