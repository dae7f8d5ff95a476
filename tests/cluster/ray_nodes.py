"""A cluster of three Ray nodes on this machine, bound to loopback, and its processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vegtts_core.cluster.connection import DEVICE, LOOPBACK, ray_module

STORE = 80 << 20
ATTEMPTS = 5


class Nodes:
    """The head and two others, one device each."""

    def __init__(self) -> None:
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "40")
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")
        ray_module()
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.others: list[Any] = []
        self._add(include_dashboard=False, include_log_monitor=False, no_monitor=True)
        self.replace()

    @property
    def address(self) -> str:
        return self.cluster.address

    def _add(self, **more: Any) -> Any:
        # A raylet gives its helpers 15 s to start and dies if they do not: on a busy machine, try again.
        for attempt in range(ATTEMPTS):
            try:
                return self.cluster.add_node(
                    num_cpus=0, resources={DEVICE: 1}, object_store_memory=STORE, node_ip_address=LOOPBACK, **more
                )
            except Exception:
                if attempt == ATTEMPTS - 1:
                    raise

    def kill_one(self) -> None:
        """Kill all processes of a node other than the head."""
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def replace(self) -> None:
        """Add nodes until there are three again."""
        while len(self.others) < 2:
            self.others.append(self._add())

    def stop(self) -> None:
        self.cluster.shutdown()


def workers(title: str) -> list[int]:
    """Processes below this one that Ray has named ``ray::<title>...``."""
    return [pid for pid in _family(os.getpid()) if _title(pid).startswith(f"ray::{title}")]


def kill(title: str) -> None:
    """Wait for such a process and kill it."""

    def killed() -> bool:
        for pid in workers(title):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return True
        return False

    wait_until(killed)


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.02)


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [one for child in task.read_text().split() for one in _family(int(child))]
        except OSError:
            continue
    return found


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
