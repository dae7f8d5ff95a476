"""Under pytest-xdist every worker gets cores, and a lock on timing, of its own.

So two workers neither disturb each other's processes nor wait for each other's measurements. What judges measured times
is marked `timing` and runs alone all the same: memory and caches are shared.
"""

from __future__ import annotations

import os

import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER")

if WORKER:
    # At import: torch and OpenMP count the cores that they may use when they are loaded.
    _place, _workers = int(WORKER.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, _cores[_place::_workers] or _cores)


@pytest.fixture(autouse=True, scope="session")
def _own_timing_lock(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The lock is a file in this folder: see `vegtts_core.evaluator.timing_lock`."""
    if WORKER:
        os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.getbasetemp())
