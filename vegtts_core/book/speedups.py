"""Speedups per task (appendix D): what the paper prints, what a device allows, what was measured here, and its spread.

A search's fastest candidate is chosen by one measurement and read again on a new evaluation, which chose nothing. It
knows runs' samples; it measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published, study, theme
from vegtts_core.book.headroom import H100_DATA_SHEET_BYTES_PER_SECOND, headroom_h100
from vegtts_core.book.study import card, policy
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

NAN = float("nan")


def limits() -> pd.DataFrame:
    """Table D.2 beside the largest possible speedup, fp32 on an H100 at KernelBench's sizes, and their ratio.

    ``data_sheet``: the largest possible speedup if memory had the data sheet's bandwidth.
    """
    claimed = published.table("D.2")["speedup"]
    room = headroom_h100([int(task) for task in claimed.index])
    sheet = headroom_h100(room["task_id"], H100_DATA_SHEET_BYTES_PER_SECOND)
    frame = room[["task_id", "name", "megabytes", "gflop", "reference_ms", "floor_ms", "headroom"]].copy()
    frame["data_sheet"] = sheet["headroom"]
    frame["claimed"] = claimed.to_numpy(dtype=float)
    frame["times"] = frame["claimed"] / frame["headroom"]
    return frame


LIMIT_COLUMNS = {
    "task_id": Column("task", "d"),
    "name": Column("name"),
    "claimed": Column("published", "{:.1f}×"),
    "reference_ms": Column("eager", ".2f", "ms"),
    "floor_ms": Column("floor", ".2f", "ms"),
    "headroom": Column("possible", "{:.1f}×"),
    "times": Column("published over possible", "{:.1f}×"),
}


def correct(run: Run) -> pd.DataFrame:
    """One row per task and distinct candidate of step 0 that the sound protocol calls correct and timed."""
    rows = run.samples[run.samples["step"] == 0]
    good = [value is True or value is np.True_ for value in rows["sound_correct"]]
    rows = rows[np.array(good, dtype=bool) & (rows["sound_speedup"] > 0).to_numpy(dtype=bool)]
    return rows.drop_duplicates(["task", "fingerprint"])


def fastest(searches: Mapping[str, Run]) -> pd.DataFrame:
    """One row per run and task with a correct candidate: the one that the published protocol would choose.

    Columns: run, task, distinct (correct candidates), chosen (its published speedup), sound (the same evaluation under
    the sound protocol, an Interval), again and least (a new evaluation's estimate and lower bound) and its decision.
    """
    rows = []
    for name, run in searches.items():
        for task, group in correct(run).groupby("task_id"):
            timed = group.dropna(subset=["published_speedup"])
            if not len(timed):
                continue
            best = timed.loc[timed["published_speedup"].astype(float).idxmax()]
            first = _interval(best, "sound_speedup")
            again, least = (_value(best[f"retimed_sound_speedup{end}"]) for end in ("", "_low"))
            decision = best["retimed_sound_decision"]
            decision = str(decision) if isinstance(decision, str) else "not timed again"
            rows.append(
                (name, int(task), len(group), float(best["published_speedup"]), first, again, least, decision)  # type: ignore[arg-type]
            )
    names = ["run", "task", "distinct", "chosen", "sound", "again", "least", "decision"]
    frame = pd.DataFrame(rows, columns=names)
    frame["shown"] = frame["run"].map(study.short).where(~frame["run"].duplicated(), "")
    return frame


FASTEST_COLUMNS = {
    "shown": Column("run"),
    "task": Column("task", "d"),
    "distinct": Column("distinct", "d"),
    "chosen": Column("chosen at", "{:.2f}×"),
    "sound": Column("sound [95%]", ".2f"),
    "again": Column("again", "{:.2f}×"),
    "least": Column("at least", "{:.2f}×"),
    "decision": Column("called"),
}


def _interval(row: pd.Series, name: str) -> Interval:
    estimate, low, high = (_value(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Interval(estimate, low, high, 1)


def _value(value: object) -> float:
    return NAN if value is None else float(value)  # type: ignore[arg-type]


def spread(searches: Mapping[str, Run]) -> pd.DataFrame:
    """Per run and task: distinct correct candidates, the slowest and fastest, and their ratio (sound protocol)."""
    rows = []
    for name, run in searches.items():
        for task, group in correct(run).groupby("task_id"):
            speeds = group["sound_speedup"].astype(float)
            rows.append((name, int(task), len(speeds), speeds.min(), speeds.max()))  # type: ignore[arg-type]
    frame = pd.DataFrame(rows, columns=["run", "task", "distinct", "slowest", "fastest"])
    return frame.assign(ratio=frame["fastest"] / frame["slowest"])


def points(searches: Mapping[str, Run]) -> pd.DataFrame:
    """Columns run, task, speedup: one row per distinct correct candidate."""
    parts = [
        pd.DataFrame({"run": name, "task": rows["task_id"].astype(int), "speedup": rows["sound_speedup"].astype(float)})
        for name, run in searches.items()
        if len(rows := correct(run))
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["run", "task", "speedup"])


def figure(found: pd.DataFrame) -> alt.Chart:
    """Every distinct correct candidate's speedup by task, one panel per run, on a logarithmic axis; a line at 1."""
    low, high = float(found["speedup"].min()), float(found["speedup"].max())
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low / 1.6 <= t <= high * 1.6]
    x = alt.X(
        "speedup:Q",
        scale=alt.Scale(type="log", domain=[min(low / 1.1, 0.9), max(high * 1.1, 1.1)], nice=False),
        axis=alt.Axis(title="speedup over the reference (sound)", values=ticks, format="~g"),
    )
    order = sorted(set(found["task"]))
    y = alt.Y("task:O", sort=order, axis=alt.Axis(title="task"))
    one = alt.Chart().mark_rule(color=theme.MUTED, strokeDash=[4, 3]).encode(x=alt.datum(1, type="quantitative"))
    colour = alt.value(theme.CATEGORY_COLOURS[0])
    shown = [alt.Tooltip("task:O"), alt.Tooltip("speedup:Q", format=".2f")]
    bar = "M-0.12,-1L0.12,-1L0.12,1L-0.12,1Z"  # a stroke with an area, which a pointer can hit
    stroke = alt.Chart().mark_point(shape=bar, size=160, filled=True, opacity=0.6)
    marks = stroke.encode(x=x, y=y, color=colour, tooltip=shown)
    layer = alt.layer(one, marks).properties(width=theme.SMALL + 70, height=18 * len(order))
    header = alt.Header(title=None, labelLimit=320, labelFontSize=11)
    return layer.facet(alt.Facet("run:N", sort=list(dict.fromkeys(found["run"])), header=header), columns=2, data=found)


def means(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Table D.1 for runs that move weights: speedups of correct rollouts at the best step by fast_1.

    Columns: run, step, correct (rollouts), mean (arithmetic, the paper's), geometric, largest (the highest mean of one
    task). Speedups are those of the run's protocol.
    """
    rows = []
    for name, run in runs.items():
        found = metrics.trajectory(run.samples, str(run.manifest["parameters"]["protocol"]), resamples=1)
        best = found.seeds.sort_values(["sample_fast_p", "step"], ascending=[False, True]).iloc[0]
        tasks = found.tasks[found.tasks["step"] == best["step"]]
        place = f"{name} ({policy(run)}, {card(run)})"
        values = [best["mean_speedup"], best["geometric_speedup"], tasks["mean_speedup"].max()]
        rows.append((place, int(best["step"]), int(tasks["correct"].sum()), *map(float, values)))
    return pd.DataFrame(rows, columns=["run", "step", "correct", "mean", "geometric", "largest"])


MEAN_COLUMNS = {
    "run": Column("run"),
    "step": Column("best step", "d"),
    "correct": Column("correct rollouts", "d"),
    "mean": Column("mean", "{:.2f}×"),
    "geometric": Column("geometric mean", "{:.2f}×"),
    "largest": Column("largest task's mean", "{:.2f}×"),
}
