"""The sentences of appendix D that depend on the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.headroom import (
    H100_BYTES_PER_SECOND,
    H100_DATA_SHEET_BYTES_PER_SECOND,
    H100_FLOP_PER_SECOND,
)
from vegtts_core.book.prose import listed, number
from vegtts_core.runs import Run
from vegtts_core.tasks import Size, get_task
from vegtts_core.tasks.work import least_flop


def facts(limits: pd.DataFrame, searches: dict[str, Run]) -> dict[str, str]:
    """The numbers that the appendix mentions, by name."""
    d1 = published.table("D.1")
    impossible = limits[limits["times"] > 1]
    worst = limits.loc[limits["times"].idxmax()]
    below = limits[limits["headroom"] < 1]
    triangular = get_task(14, Size.KERNELBENCH)
    return {
        "tasks": str(len(limits)),
        "impossible": str(len(impossible)),
        "worst-task": str(worst["task_id"]),
        "worst-claimed": number(float(worst["claimed"]), "{:.1f}×"),
        "worst-possible": number(float(worst["headroom"]), "{:.1f}×"),
        "worst-times": number(float(worst["times"]), "{:,.0f}"),
        "triangular-share": number(least_flop(triangular) / triangular.flop, ".0%"),
        "below": plural(len(below), "task"),
        "below-by": number(float((1 - limits["headroom"]).clip(lower=0).max()), ".0%"),
        "impossible-sheet": str(int((limits["claimed"] > limits["data_sheet"]).sum())),
        "sheet": number(H100_DATA_SHEET_BYTES_PER_SECOND / 1e12, ".2f"),
        "bandwidth": number(H100_BYTES_PER_SECOND / 1e12, ".1f"),
        "peak": number(H100_FLOP_PER_SECOND / 1e12, ".0f"),
        "first-seed": number(float(d1["seed_42"].iloc[0]), "{:.1f}×"),
        "other-seeds": number(float(d1["seed_43"].iloc[0]), "{:.2f}×"),
        "searches": str(len(searches)),
    }


def stale_text(searches: Mapping[str, Run]) -> str:
    """A sentence for a caption, with a space in front, on tasks that were not measured again; else empty."""
    stale = sorted({int(task) for run in searches.values() for task in _ids(run)})
    if not stale:
        return ""
    tasks = f"Task{'s' if len(stale) > 1 else ''} {listed(map(str, stale))}"
    where = "{ref}`sec-measurement-clocks`"
    return f" {tasks} on a GPU: as first measured, before the launch gate, and leaning against kernels ({where})."


def _ids(run: Run) -> list[int]:
    return list(run.samples.loc[run.samples["task"].isin(run.stale_tasks), "task_id"].unique())


def fastest_text(found: pd.DataFrame) -> str:
    """How the chosen candidates fared when they were timed again."""
    if not len(found):
        return "No search here has a correct candidate."
    again = found[found["decision"] != "not timed again"]
    faster = again[again["decision"] == "faster"]
    top = found.loc[found["chosen"].idxmax()]
    text = (
        f"{len(found)} fastest candidates (runs times tasks): the highest is chosen at "
        f"{number(top['chosen'], '{:.2f}×')} (task {top['task']})"
    )
    if len(again):
        text += f"; timed again, {len(faster)} of {len(again)} are called faster than the reference"
    return text + "."


def fastest_verdict(found: pd.DataFrame, limits: pd.DataFrame) -> str:
    """What the published speedups are, in the light of what a device allows and of ours."""
    count = int((limits["times"] > 1).sum())
    text = (
        f"{count} of the {len(limits)} published speedups exceed what is possible if the task's bytes are moved once "
        "and the operations that it cannot skip are done in fp32."
    )
    if not len(found):
        return text
    shared = found[found["task"].isin(limits["task_id"])]
    most = float(shared["again"].max()) if len(shared) else np.nan
    if np.isfinite(most):
        text += f" On the same tasks the fastest candidate found here, timed again, reaches {number(most, '{:.2f}×')}."
    return text


def spread_text(found: pd.DataFrame) -> str:
    """How far apart correct candidates of one task lie, by run."""
    parts = [
        f"{name}: {number(float(rows['ratio'].astype(float).median()), '{:.2f}×')} ({len(rows)} tasks)"
        for name, rows in found[found["distinct"] > 1].groupby("run", sort=False)
    ]
    if not parts:
        return "No task has two distinct correct candidates."
    return f"Fastest over slowest correct candidate of a task, median over tasks with a choice: {'; '.join(parts)}."


def spread_verdict(found: pd.DataFrame) -> str:
    """Whether there is anything to select."""
    some = found[found["distinct"] > 1]
    if not len(some):
        return "Nothing can be gained by selection here."
    wide = int((some["ratio"] >= 1.5).sum())
    return (
        f"On {wide} of {len(some)} tasks (counted per run) the fastest correct candidate is at least 1.5 times the "
        "slowest: " + ("there a choice matters." if wide else "choosing among correct candidates hardly matters.")
    )
