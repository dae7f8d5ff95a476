"""One kernel on two clocks: what each protocol measures of kernels and of references on a GPU (chapter 9).

Kernels run in a launcher, references in the evaluator's process. Both are timed between events on the device, behind
the launch gate. Here stand the experiment that runs one kernel in both places, what the gate changed in recorded runs
that were measured again, and how far the published protocol's times, which have no gate, are from the sound ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vegtts_core.book import study
from vegtts_core.book.measurement import Recording, or_nothing
from vegtts_core.book.prose import number
from vegtts_core.book.speedups import correct
from vegtts_core.book.study import card
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run

#: A kernel's times in the two places may differ by this share for them to count as alike.
ALIKE = 0.02

_PLACES = {
    "kernel in a launcher": "launcher",
    "kernel where references run": "here",
    "kernel where references run, no gate": "here_open",
    "reference": "reference",
    "reference, no gate": "reference_open",
}
GATE_COLUMNS = {
    "task": Column("task", "d"),
    "launcher": Column("in a launcher", ",.0f", "µs", "kernel"),
    "here": Column("with references", ",.0f", "µs", "kernel"),
    "here_open": Column("no gate", ",.0f", "µs", "kernel"),
    "reference": Column("gate", ",.0f", "µs", "reference"),
    "reference_open": Column("no gate", ",.0f", "µs", "reference"),
}
DECISIONS = ("faster", "same", "slower", "undecided")
CHANGE_COLUMNS = {
    "run": Column("run"),
    "candidates": Column("candidates", "d"),
    **{decision: Column(decision, group="first → measured again") for decision in DECISIONS},
}
COLUMNS = {
    "run": Column("run"),
    "task": Column("task", "d"),
    "kernels": Column("n", "d"),
    "reference_published": Column("published", ",.0f", "µs", "reference"),
    "reference_lost": Column("change", "+.0f", "µs", "reference"),
    "candidate_published": Column("published", ",.0f", "µs", "kernels"),
    "candidate_lost": Column("change", "+.0f", "µs", "kernels"),
    "apart": Column("outside", ".0%"),
}


def gate(recording: Recording | None) -> pd.DataFrame:
    """One row per task: median microseconds of its honest kernel in both places and of its reference."""
    rows = []
    for row in recording.data["table"] if recording is not None else ():
        task = int(str(row["task"]).rpartition("/")[2].partition("-")[0])
        rows.append({"task": task} | {short: row[name] for name, short in _PLACES.items()})
    return or_nothing(pd.DataFrame(rows, columns=list(GATE_COLUMNS)), "task")


def gate_text(recording: Recording | None) -> str:
    """How far the two places are from each other with the gate and without, and what the host adds to references."""
    if recording is None:
        return "Not recorded for this edition."
    table = gate(recording)
    added = table["reference_open"] / table["reference"] - 1
    with_gate, without = (number(recording.data[name] - 1, ".1%") for name in ("ratio", "ratio_without"))
    return (
        f"One kernel's times in the two places differ by at most {with_gate} behind the gate and by up to {without} "
        f"without it ({len(table)} tasks). Without it the host adds {number(float(added.median()), '.1%')} to a "
        f"reference's time in the median, {number(float(added.max()), '.1%')} at most."
    )


def changes(manifests: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per run that was measured again: distinct timed candidates by decision, at first and then (``3 → 5``)."""
    rows = []
    for name, manifest in manifests.items():
        found = manifest.get("remeasured", {}).get("decisions")
        if found is None:
            continue
        row: dict[str, object] = {"run": name, "candidates": sum(found["after"].values())}
        row |= {d: f"{found['before'].get(d, 0)}\u00a0→\u00a0{found['after'].get(d, 0)}" for d in DECISIONS}
        rows.append(row)
    return or_nothing(pd.DataFrame(rows, columns=list(CHANGE_COLUMNS)), "run")


def table(searches: Mapping[str, Run]) -> pd.DataFrame:
    """One row per run on a GPU and task: medians over distinct correct kernels, in microseconds.

    ``*_lost``: the sound protocol's time minus the published one's. ``apart``: share of kernels evaluated twice whose
    second estimate lies outside the first's 95% interval. Of a run that was measured again, the tasks that were.
    """
    rows = []
    for name, run in searches.items():
        if card(run) == "CPU":
            continue
        found = correct(run).dropna(subset=["published_speedup"])
        found = found[~found["task"].isin(run.stale_tasks)]
        for task, group in found.groupby("task_id"):
            times = {
                f"{side}_{protocol}": 1e6 * _medians(group[f"{protocol}_{side}_seconds"])
                for side in _SIDES
                for protocol in ("published", "sound")
            }
            twice = group.dropna(subset=["retimed_sound_speedup"])
            outside = (twice["retimed_sound_speedup"] < twice["sound_speedup_low"]) | (
                twice["retimed_sound_speedup"] > twice["sound_speedup_high"]
            )
            lost = {f"{s}_lost": float(np.median(times[f"{s}_sound"] - times[f"{s}_published"])) for s in _SIDES}
            level = {f"{s}_published": float(np.median(times[f"{s}_published"])) for s in _SIDES}
            share = float(outside.mean()) if len(twice) else float("nan")
            rows.append({"run": name, "task": int(task), "kernels": len(group)} | level | lost | {"apart": share})  # type: ignore[arg-type]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    names = {name: study.short(name).removesuffix(f", {card(run)}") for name, run in searches.items()}
    return frame.assign(run=frame["run"].map(names).where(~frame["run"].duplicated(), ""))


_SIDES = ("reference", "candidate")


def _medians(column: pd.Series) -> np.ndarray:
    return np.array([np.median(np.asarray(values, dtype=float)) for values in column])


def text(found: pd.DataFrame) -> str:
    """What the published protocol's clock adds to references and to kernels."""
    if not len(found):
        return "No search on a GPU is recorded."
    kernels, references = (number(float(found[f"{s}_lost"].median()), "+.0f") for s in ("candidate", "reference"))
    return (
        f"From the published to the sound protocol the references' time moves by {references} µs and the kernels' by "
        f"{kernels} µs (median over {len(found)} runs and tasks)."
    )


def verdict(recording: Recording | None) -> str:
    """Whether kernels and references are timed alike."""
    if recording is None:
        return "Not measured."
    if recording.data["ratio"] - 1 > ALIKE:
        return "One kernel is not as fast in a launcher as where references run: the sound protocol leans."
    return (
        "Behind the launch gate, yes: one kernel is as fast in a launcher as where references run. Without it, no, and "
        "by more than most of what is to be found."
    )
