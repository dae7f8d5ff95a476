"""What a run was measured on: commit, versions, device. Names no host, user or path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy", "pyarrow", "vegtts_core")


def git_commit(root: Path) -> dict[str, Any]:
    """The tree's commit and whether measuring code differs from it; ``commit`` is None outside a git tree."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        status = subprocess.run(
            [
                "git",
                "status",
                "--porcelain",
                "--untracked-files=no",
                "--",
                "vegtts_core",
                "benchmarks",
                "tests/exploits",
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}
    return {"commit": commit, "modified": bool(status)}


#: Of the clock of candidates on a CPU. What manifests do not name is 1. 2: threads are told where to run
#: (`vegtts_core.evaluator.cores`); until then the same call came in two speeds. 3: the reference is called until it
#: finds memory that it has touched, inputs and outputs are in memory (`vegtts_core.evaluator.session`), and pairs count
#: only while the cores are where they usually are (`vegtts_core.evaluator.core_watch`); until then a new reference's
#: first calls took up to three times as long, and others as the caches' other users and a machine's host had it.
CPU_CLOCK = "3"


def versions() -> dict[str, str]:
    """Python's version, those of the packages that numbers depend on, and that of the clock of candidates on a CPU."""
    found = {"python": platform.python_version(), "cpu_clock": CPU_CLOCK}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu() -> dict[str, Any]:
    """Processor model, usable cores and memory in GiB."""
    model = platform.processor() or platform.machine()
    memory = None
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemTotal"):
                memory = round(int(line.split()[1]) / 2**20, 1)
                break
    except OSError:
        pass
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": memory}


def device(name: str) -> dict[str, Any]:
    """The device that candidates were timed on: the CPU, or the GPU with its driver; and torch's threads.

    Another number of threads adds up in another order: log-probabilities then differ in their last digits.
    """
    import torch

    facts = cpu() | {"device": name, "threads": torch.get_num_threads()}
    if name.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "gpu": properties.name,
            "cuda": torch.version.cuda,
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        }
        facts["driver"] = _driver()
    return facts


def facts(name: str, root: Path) -> dict[str, Any]:
    """All of it, as a measurement's file carries it: ``machine``, ``versions``, ``commit``, ``modified``."""
    return {"machine": device(name), "versions": versions(), **git_commit(root)}


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
        return next(iter(said.split()), None)  # a line per GPU, all of one driver
    except (OSError, subprocess.SubprocessError):
        return None
