"""Reference rows: floors of the device that measured, and tasks that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vegtts_core.errors import DeviceMemoryError
from vegtts_core.evaluator.floors import device_ceilings
from vegtts_core.kernels.ceilings import Ceilings, Rung
from vegtts_core.project import recorded_folder
from vegtts_core.runs.store import load_run
from vegtts_core.scaffolds import Candidate, ForwardScaffold
from vegtts_core.search.references import reference_rows
from vegtts_core.tasks import Size, get_task

BEST_OF_N = sorted(path for path in recorded_folder().glob("best_of_n_*") if path.is_dir())


class Full:
    """An evaluator on a device that is too small for whatever is asked."""

    def evaluate(self, candidates: Sequence[Candidate], fresh: bool = False) -> list[Any]:
        raise DeviceMemoryError("Task level1/30 does not fit: take it at size 'cpu'.")


def test_a_task_that_does_not_fit_is_noted_and_the_others_go_on() -> None:
    tasks = [get_task("level1/30", Size.CPU), get_task("level1/4", Size.CPU)]
    rows = list(
        reference_rows(Full(), ForwardScaffold(), tasks, Ceilings(1e9, 1e9, 2, "none", (Rung(1, 1e9),), 0, True))
    )  # type: ignore[arg-type]
    assert [row["task_id"] for row in rows] == [30, 4]
    assert all("does not fit" in row["note"] and row["reference_seconds"] is None for row in rows)


@pytest.mark.parametrize("folder", BEST_OF_N, ids=lambda folder: folder.name)
def test_no_recorded_reference_is_faster_than_its_device_allows(folder: Path) -> None:
    rows = load_run(folder).references.dropna(subset=["reference_seconds", "floor_seconds"])
    shares = [float(r) / float(f) for r, f in zip(rows["reference_seconds"], rows["floor_seconds"], strict=True)]
    assert all(share > 0.5 for share in shares)


@pytest.mark.gpu
def test_ceilings_are_those_of_the_device() -> None:
    assert device_ceilings("cuda", 2).cpu_model == torch.cuda.get_device_name(0)
