"""One kernel on two clocks: what each protocol measures of candidates and of references on a GPU (chapter 9).

Under the published protocol a kernel runs again and again on the same data; under the sound one it runs once, after the
second-level cache was filled with other data, between calls of the reference. Data that no longer lie in the cache cost
both sides alike. What the candidate alone loses is a lean of the protocol, or of the process that the kernel runs in.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vegtts_core.book import study
from vegtts_core.book.prose import number
from vegtts_core.book.speedups import correct
from vegtts_core.book.study import card
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run

#: Microseconds by which the candidate's loss has to exceed the reference's to be called a lean.
LEAN = 20.0

COLUMNS = {
    "run": Column("run"),
    "task": Column("task", "d"),
    "kernels": Column("kernels", "d"),
    "reference_published": Column("published", ".0f", "µs", "reference"),
    "reference_lost": Column("change", "+.0f", "µs", "reference"),
    "candidate_published": Column("published", ".0f", "µs", "kernels"),
    "candidate_lost": Column("change", "+.0f", "µs", "kernels"),
    "apart": Column("outside", ".0%"),
}


def table(searches: Mapping[str, Run]) -> pd.DataFrame:
    """One row per run on a GPU and task: medians over distinct correct kernels, in microseconds.

    ``*_lost``: the sound protocol's time minus the published one's. ``apart``: share of kernels evaluated twice whose
    second estimate lies outside the first's 95% interval.
    """
    rows = []
    for name, run in searches.items():
        if card(run) == "CPU":
            continue
        found = correct(run).dropna(subset=["published_speedup"])
        for task, group in found.groupby("task_id"):
            times = {
                f"{side}_{protocol}": 1e6 * _medians(group[f"{protocol}_{side}_seconds"])
                for side in ("reference", "candidate")
                for protocol in ("published", "sound")
            }
            again = group.dropna(subset=["retimed_sound_speedup"])
            outside = (again["retimed_sound_speedup"] < again["sound_speedup_low"]) | (
                again["retimed_sound_speedup"] > again["sound_speedup_high"]
            )
            lost = {f"{s}_lost": float(np.median(times[f"{s}_sound"] - times[f"{s}_published"])) for s in _SIDES}
            level = {f"{s}_published": float(np.median(times[f"{s}_published"])) for s in _SIDES}
            share = float(outside.mean()) if len(again) else float("nan")
            rows.append({"run": name, "task": int(task), "kernels": len(group)} | level | lost | {"apart": share})  # type: ignore[arg-type]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.assign(run=frame["run"].map(study.short).where(~frame["run"].duplicated(), ""))


_SIDES = ("reference", "candidate")


def _medians(column: pd.Series) -> np.ndarray:
    return np.array([np.median(np.asarray(values, dtype=float)) for values in column])


def text(found: pd.DataFrame) -> str:
    """How much more the kernels lose than their references."""
    if not len(found):
        return "No search on a GPU is recorded."
    more = found["candidate_lost"] - found["reference_lost"]
    kernels, references = (number(float(found[f"{s}_lost"].median()), "+.0f") for s in ("candidate", "reference"))
    return (
        f"From the published to the sound protocol the kernels' time moves by {kernels} µs and the references' by "
        f"{references} µs (median over {len(found)} runs and tasks); the kernels' moves more, by over {LEAN:.0f} µs, "
        f"in {int((more > LEAN).sum())} of them."
    )


def verdict(found: pd.DataFrame) -> str:
    """Whether the sound protocol leans against kernels on a GPU."""
    if not len(found):
        return "Not measured."
    more = found["candidate_lost"] - found["reference_lost"]
    if float((more > LEAN).mean()) < 0.5:
        return "Kernels lose no more than their references: no lean is seen here."
    return (
        "The sound protocol leans against kernels on a GPU: they lose time that their references do not, and how much "
        "changes from one evaluation to the next. The cause is not established. What is called faster is so in spite "
        "of it; speedups of kernels of a millisecond or less are rather lower bounds than estimates."
    )
