"""What the evaluator's own experiments recorded: the files in ``data/measurement``, and what to say if one is missing.

Chapter 9 always reads recordings: the experiments take hours, and some need a GPU. A book made on a machine without
one has the rows of the CPU alone and says so. It knows where files lie and what they were measured on, not what they
mean: ``measurement_aa``, ``_run``, ``_cpu``, ``_stream``, ``_attempts``, ``_pace`` and ``_tuning`` do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.prose import listed
from vegtts_core.book.tables import Column
from vegtts_core.errors import UserError
from vegtts_core.project import find_project_root

#: Every recording that the chapter reads, by the stem of its file, with what it holds.
RECORDINGS = {
    "shared_stream": "four evaluations on one stream (GPU)",
    "launch_gate": "one kernel in two places (GPU)",
    "cpu_clock": "first calls and caches (CPU)",
    "exploits_cpu": "attempts to cheat (CPU)",
    "exploits_cuda": "attempts to cheat (GPU)",
    "evaluator_cpu": "speed of the evaluator (CPU)",
    "evaluator_cuda": "speed of the evaluator (GPU, benchmark's shapes)",
    "evaluator_cuda_small": "speed of the evaluator (GPU, small shapes)",
    "soak_cpu": "ten thousand candidates (CPU)",
    "soak_cuda": "ten thousand candidates (GPU)",
    "tuning_spread_cpu": "spread of the tuning grids (CPU)",
    "tuning_spread_cuda": "spread of the tuning grids (GPU)",
}

SHAPES = {"cpu": "small shapes", "kernelbench": "benchmark's shapes"}
"""In words, by size of the tasks (``vegtts_core.tasks.Size``)."""

NOTHING = "nothing recorded"
"""What stands in a table or figure of which no part was measured."""


@dataclass(frozen=True)
class Recording:
    """One file: its name and what it says. Older files do not say on what they were measured."""

    name: str
    data: Mapping[str, Any]

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``: what its facts say, else its name."""
        return str(self.machine.get("device") or ("cpu" if self.name.endswith("_cpu") else "cuda")).split(":")[0]

    @property
    def machine(self) -> Mapping[str, Any]:
        """The facts about the machine; empty if the file has none."""
        return self.data.get("machine") or {}

    @property
    def label(self) -> str:
        """``CPU``, or the GPU's short name."""
        return label(self.machine, self.device, str(self.data.get("device", "")))

    @property
    def where(self) -> str:
        """The label with the shapes of the tasks, where the file names them."""
        shapes = SHAPES.get(str(self.data.get("size", "")))
        return f"{self.label}, {shapes}" if shapes else self.label


def label(machine: Mapping[str, Any], device: str, named: str = "") -> str:
    """``CPU``, or a GPU's short name (``H100`` of ``NVIDIA H100 80GB HBM3``), ``GPU`` if it is not known."""
    if device == "cpu":
        return "CPU"
    found = re.search(r"\b[A-Z]+\d+\w*", str(machine.get("gpu") or named))
    return found.group() if found else "GPU"


def in_full(machine: Mapping[str, Any]) -> str:
    """The machine in words, for a table; empty if nothing is known of it."""
    if not machine:
        return ""
    if "gpu" in machine:
        return str(machine["gpu"])
    return f"{machine['cores']} cores of {machine['cpu']}" if "cpu" in machine else ""


def measurement_folder() -> Path:
    """Where the recordings lie."""
    return find_project_root() / "data" / "measurement"


def recorded(*names: str) -> list[Recording]:
    """The recordings of these names that exist, in this order. Raises UserError for a file that cannot be read."""
    found = []
    for name in names:
        path = measurement_folder() / f"{name}.json"
        if not path.is_file():
            continue
        try:
            found.append(Recording(name, json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as problem:
            raise UserError(
                f"data/measurement/{name}.json is not valid JSON ({problem}): record it again."
            ) from problem
    return found


def absent(expected: Iterable[str], found: Iterable[Recording]) -> str:
    """A sentence for a caption, with a space in front, about the recordings that are missing; else empty."""
    there = {recording.name for recording in found}
    missing = [RECORDINGS[name] for name in expected if name not in there]
    return f" Not recorded for this edition: {'; '.join(missing)}." if missing else ""


def or_nothing(frame: pd.DataFrame, first: str) -> pd.DataFrame:
    """``frame``, or one row that says that nothing was recorded: a table needs a body."""
    return frame if len(frame) else pd.DataFrame([{name: None for name in frame.columns} | {first: NOTHING}])


def empty_chart(text: str = NOTHING) -> alt.Chart:
    """What stands for a figure of which nothing was recorded."""
    data = pd.DataFrame({"text": [text]})
    return alt.Chart(data).mark_text(fontSize=13).encode(text="text:N").properties(width=theme.WIDTH, height=60)


def sources(others: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> pd.DataFrame:
    """One row per recording, after ``others`` (what it is, its manifest): columns what, machine, commit."""
    found = {recording.name: recording.data for recording in recorded(*RECORDINGS)}
    rows = [*others, *((what, found.get(name)) for name, what in RECORDINGS.items())]
    return pd.DataFrame([_source(what, data) for what, data in rows], columns=["what", "machine", "commit"])


def _source(what: str, data: Mapping[str, Any] | None) -> tuple[str, str | None, str | None]:
    if data is None:
        return what, "not recorded", None
    made = data.get("git") or data
    commit = str(made.get("commit") or "")[:7]
    if commit and made.get("modified"):
        commit += ", changed"
    return what, in_full(data.get("machine") or {}) or str(data.get("device", "")) or None, commit or None


SOURCE_COLUMNS = {"what": Column("recording"), "machine": Column("measured on"), "commit": Column("commit")}


def grouped(texts: Iterable[tuple[str, str]]) -> str:
    """``a: this. b and c: that.`` of (where, what) pairs: places of which the same is said stand together."""
    places: dict[str, list[str]] = {}
    for where, what in texts:
        places.setdefault(what, []).append(where)
    return " ".join(f"{listed(where)}: {what}." for what, where in places.items())


def of(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
