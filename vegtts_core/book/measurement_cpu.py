"""What a clock on a CPU has to mind: where the cores are, first calls, and what the caches still hold (chapter 9).

It reads what ``benchmarks/cpu_clock.py`` recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.charts import Axis
from vegtts_core.book.measurement import Recording, empty_chart, or_nothing
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.evaluator.core_watch import ELSEWHERE
from vegtts_core.project import recorded_folder
from vegtts_core.runs import machine

WARMUP = 3
"""Calls that a published time is preceded by."""
_LATER = slice(WARMUP, WARMUP + 5)
_PAGE_MB = 4096 / 1e6
#: A call that takes this much longer than a settled one is not settled.
_MUCH = 1.2

SERIES = {
    "round_trip_ns": "round trip between cores",
    "moves_ms": "call that moves memory",
    "computes_ms": "call that computes",
}

_OVER_HOME = Axis("over", "over its median at home", "~g", log=True)
_OVER_SETTLED = Axis("over", "time over the settled call's", "~g", log=True)

COLUMNS = {
    "task": Column("task", "d"),
    "settled": Column("settled call", ",.2f", "ms"),
    "first": Column("first call", "{:.1f}×", "of settled", "a new reference"),
    "later": Column("slowest of calls 4 to 8", "{:.1f}×", "of settled", "a new reference"),
    "fresh": Column("fresh memory in calls 4 to 8", ",.0f", "MB", "a new reference"),
    "left": Column("as they are", ".1%", group="spread of repeats, caches"),
    "flushed": Column("flushed", ".1%", group="spread of repeats, caches"),
}


def table(recording: Recording | None) -> pd.DataFrame:
    """One row per task; ``later``: the worst of all starts, ``fresh``: their mean, spreads: standard deviations."""
    rows = []
    for each in recording.data["table"] if recording is not None else ():
        over, pages = _over(each), np.array(each["fresh_pages"])
        rows.append(
            {
                "task": _number(each),
                "settled": float(each["settled_ms"]),
                "first": float(np.median(over[:, 0])),
                "later": float(over[:, _LATER].max()),
                "fresh": float(pages[:, _LATER].sum(axis=1).mean()) * _PAGE_MB,
                "left": float(np.std(each["log_speedups_left"], ddof=1)),
                "flushed": float(np.std(each["log_speedups_flushed"], ddof=1)),
            }
        )
    return or_nothing(pd.DataFrame(rows, columns=list(COLUMNS)), "task")


def looks(recording: Recording | None) -> pd.DataFrame:
    """One row per look: ``at`` (s), round trip (ns), times of two references (ms), whether cores are ``elsewhere``."""
    names = ["at", *SERIES]
    frame = pd.DataFrame(recording.data["whereabouts"] if recording is not None else [], columns=names)
    return frame.assign(elsewhere=frame["round_trip_ns"] > ELSEWHERE * frame["round_trip_ns"].min())


def figure_looks(recording: Recording | None) -> alt.TopLevelMixin:
    """Lines over time: round trip and two calls' times, each over its median while the cores were at home."""
    frame = looks(recording)
    if frame.empty:
        return empty_chart()
    at_home = frame[~frame["elsewhere"]]
    long = pd.concat(
        [
            pd.DataFrame({"at": frame["at"], "what": what, "over": frame[name] / at_home[name].median()})
            for name, what in SERIES.items()
        ]
    )
    scale = alt.Scale(domain=list(SERIES.values()), range=theme.colours(list(SERIES.values())))
    return (
        alt.Chart(long)
        .mark_line(strokeWidth=1.3)
        .encode(
            x=alt.X("at:Q", title="seconds"),
            y=alt.Y("over:Q", scale=_OVER_HOME.scale(), axis=_OVER_HOME.axis()),
            color=alt.Color("what:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
            tooltip=[
                alt.Tooltip("what:N"),
                alt.Tooltip("at:Q", title="seconds", format=".1f"),
                alt.Tooltip("over:Q", title="over its median at home", format=".2f"),
            ],
        )
        .properties(width=theme.WIDTH - 40, height=200)
    )


def looks_text(recording: Recording | None) -> str:
    """How often the cores were elsewhere, and what that did to either call; one or two sentences."""
    frame = looks(recording)
    if frame.empty:
        return "Not recorded for this edition."
    home, away = frame[~frame["elsewhere"]], frame[frame["elsewhere"]]
    seconds = number(float(frame["at"].max()), ".0f")
    if away.empty:
        return f"In {seconds} seconds the cores stayed where they were."
    changes = [
        f"{what} took {number(float(away[name].median() / home[name].median()), '{:.2f}×')} its time"
        for name, what in (("moves_ms", "a call that moves memory"), ("computes_ms", "one that computes"))
    ]
    trips = [number(float(part["round_trip_ns"].median()), ".0f") for part in (away, home)]
    return (
        f"In {seconds} seconds the cores were elsewhere in {number(len(away) / len(frame), '.0%')} of {len(frame)} "
        f"looks: a word then took {trips[0]} ns from one to the other and back, and {trips[1]} ns otherwise; "
        f"{' and '.join(changes)}."
    )


def figure(recording: Recording | None) -> alt.TopLevelMixin:
    """A line per task: mean time of a new reference's calls over its settled one; dashed: the published warm-up."""
    rows = [
        {"task": f"task {_number(each)}", "call": place + 1, "over": float(over)}
        for each in (recording.data["table"] if recording is not None else ())
        for place, over in enumerate(_over(each).mean(axis=0))
    ]
    if not rows:
        return empty_chart()
    frame = pd.DataFrame(rows)
    names = list(dict.fromkeys(frame["task"]))
    scale = alt.Scale(domain=names, range=theme.colours(names))
    rule = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
    lines = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=25), strokeWidth=1.5)
        .encode(
            x=alt.X("call:Q", scale=alt.Scale(nice=False, domain=[1, int(frame["call"].max())]), title="call"),
            y=alt.Y("over:Q", scale=_OVER_SETTLED.scale(), axis=_OVER_SETTLED.axis()),
            color=alt.Color("task:N", scale=scale, legend=alt.Legend(title=None)),
            tooltip=[
                alt.Tooltip("task:N"),
                alt.Tooltip("call:Q"),
                alt.Tooltip("over:Q", title="over settled", format=".2f"),
            ],
        )
    )
    layers = alt.layer(rule.encode(x=alt.datum(WARMUP + 0.5)), lines)
    return layers.properties(width=theme.WIDTH - 100, height=220)


def measured_again() -> dict[str, Mapping[str, Any]]:
    """Manifests of the recorded runs on a CPU that were measured again by today's clock, by name."""
    found = {}
    for path in sorted(recorded_folder().glob("*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if (manifest.get("remeasured") or {}).get("versions", {}).get("cpu_clock") == machine.CPU_CLOCK:
            found[path.parent.name] = manifest
    return found


def text(recording: Recording | None) -> str:
    """What calls 4 to 8 of a new reference cost, and what flushing does to repeats."""
    if recording is None:
        return "Not recorded for this edition."
    found = table(recording)
    slow = found["later"] > _MUCH
    return (
        f"After three warm-up calls, one of the next five took up to {number(float(found['later'].max()), '{:.1f}×')} "
        f"a settled one, and more than {number(_MUCH, '{:.1f}×')} on {int(slow.sum())} of {len(found)} tasks. "
        f"Repeats of one kernel spread by {number(float(found['left'].median()), '.1%')} in the median with the caches "
        f"as they are, by {number(float(found['flushed'].median()), '.1%')} with inputs and output flushed."
    )


def verdict(recording: Recording | None) -> str:
    """Whether three warm-up calls are enough."""
    if recording is None:
        return "Nothing is recorded for this edition, so nothing can be said."
    found = table(recording)
    if not (found["later"] > _MUCH).any():
        return "On these tasks, yes."
    return "Not on a CPU: a new process goes on paying for fresh memory, and who is compared with it then gains."


def _over(each: Mapping[str, Any]) -> np.ndarray:
    """Times over the settled one: starts x calls."""
    return 1e3 * np.array(each["seconds"], dtype=float) / float(each["settled_ms"])


def _number(each: Mapping[str, Any]) -> int:
    return int(str(each["task"]).rpartition("/")[2].partition("-")[0])
