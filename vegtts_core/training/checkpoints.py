"""Checkpoints of a training run: which are whole, what they belong to, and how one becomes an adapter to ship.

A checkpoint folder counts from the moment its ``DONE`` file is there, which is written last: whatever a killed process
left behind is made again. It knows files; it knows no models.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.policy.cache import files_sha256
from vegtts_core.policy.folders import ADAPTER_FILES, ORIGIN
from vegtts_core.runs.files import write_json

DONE = "complete.json"
#: Files of a checkpoint that only the newest one needs.
_STATE = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")
_NAME = re.compile(r"checkpoint-(\d+)")


def step_folder(folder: Path, step: int) -> Path:
    """Where the policy after ``step`` updates lies (transformers' own name for it)."""
    return folder / f"checkpoint-{step}"


def steps_on_disk(folder: Path) -> list[int]:
    """Steps whose checkpoints are whole, in order."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*") if (path / DONE).is_file())
    return sorted(int(match[1]) for match in found if match)


def latest_step(folder: Path) -> int:
    """The newest whole checkpoint's step; 0 if there is none."""
    return max(steps_on_disk(folder), default=0)


def drop_older(folder: Path, step: int, keep_every: int) -> None:
    """Delete checkpoints before ``step``'s, but for multiples of ``keep_every``, and the states of those that stay."""
    for older in range(1, step):
        if older % keep_every:
            shutil.rmtree(step_folder(folder, older), ignore_errors=True)
        for name in _STATE:
            for path in step_folder(folder, older).glob(name):
                path.unlink()


def settle_configuration(folder: Path) -> None:
    """Write the adapter's configuration in one order: peft writes a set, which comes in another one per process."""
    path = folder / ADAPTER_FILES[0]
    if path.is_file():
        configuration = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(configuration.get("target_modules"), list):
            configuration["target_modules"].sort()
        write_json(path, configuration)


def adapter_sha256(folder: Path) -> str:
    """The adapter's digest, as a manifest names it. Raises UserError where a file is missing."""
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"The adapter in {folder.name} has no {missing[0]}: it was only half written; name another.")
    return files_sha256([folder / name for name in ADAPTER_FILES])


def export_adapter(source: Path, target: Path, origin: dict[str, Any], half: bool = False) -> str:
    """Copy a checkpoint's adapter to ``target`` with a note of its origin; return its sha256.

    ``origin`` needs ``weights_sha256``, the base model's: a policy refuses the adapter on any other. ``half`` stores
    the weights in bfloat16, half the size; they are float32 again once loaded.
    """
    adapter_sha256(source)
    target.mkdir(parents=True, exist_ok=True)
    configuration = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    configuration["base_model_name_or_path"] = origin.get("policy")  # not the cache folder of whoever trained it
    write_json(target / "adapter_config.json", configuration)
    if half:
        import torch
        from safetensors.torch import load_file, save_file

        weights = load_file(source / ADAPTER_FILES[1])
        save_file({name: value.to(torch.bfloat16) for name, value in weights.items()}, target / ADAPTER_FILES[1])
    else:
        shutil.copyfile(source / ADAPTER_FILES[1], target / ADAPTER_FILES[1])
    write_json(target / ORIGIN, origin)
    return adapter_sha256(target)
