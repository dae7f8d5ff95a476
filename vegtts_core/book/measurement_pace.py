"""How fast the evaluator is, on what it spends its time, and whether it stays that way over ten thousand candidates.

It reads what ``benchmarks/evaluator.py`` and ``benchmarks/soak.py`` recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.measurement import Recording, empty_chart, grouped, of, or_nothing
from vegtts_core.book.prose import listed, number
from vegtts_core.book.tables import Column

KINDS = ("honest", "wrong", "broken", "crashing", "hanging")
STAGES = ("compile", "correctness", "timing")

PEER = "KernelBench"

#: What the project set out for, on any device: candidates per second that fail early on the CPU and over the mixed set
#: on a GPU, and the rate over KernelBench's.
RATE = 5.0
TIMES_PEER = 30.0

#: Early failures: candidates that a timing never sees.
EARLY = ("wrong", "broken", "crashing")

#: A soak is steady if the last fifth needs at most this much more memory than any before it.
STEADY = 1.1


def _sets(found: Sequence[Recording]) -> list[tuple[Recording, Mapping[str, Any]]]:
    return [(recording, each) for recording in found for each in recording.data["ours"]]


def rates(found: Sequence[Recording]) -> pd.DataFrame:
    """One row per device, shapes and scaffold, and one for KernelBench where it ran in the same recording.

    Columns: where, scaffold, candidates, rate (per second), preparing (mean seconds per task; None if not timed apart)
    and mean seconds per kind of candidate (NaN: none in it).
    """
    rows = []
    for recording in found:
        for each in recording.data["ours"]:
            row = {"where": recording.where, "scaffold": each["scaffold"], "candidates": each["candidates"]}
            seconds = each["seconds_by_kind"]
            row |= {"rate": each["candidates_per_second"], "preparing": each.get("preparing_seconds_per_task")}
            rows.append(row | {kind: seconds.get(kind) for kind in KINDS})
        peer = recording.data.get("peer")
        if peer:
            row = {"where": recording.where, "scaffold": PEER, "candidates": peer["candidates"]}
            rows.append(row | {"rate": peer["candidates_per_second"]})
    return or_nothing(pd.DataFrame(rows, columns=list(RATE_COLUMNS)), "scaffold")


RATE_COLUMNS = {
    "scaffold": Column("scaffold"),
    "where": Column("device"),
    "candidates": Column("n", ".0f"),
    "rate": Column("per second", ".2f"),
    "preparing": Column("preparing a task (s)", ".2g"),
    **{kind: Column(kind, ".2g", group="mean seconds per candidate") for kind in KINDS},
}


def left_out(found: Sequence[Recording]) -> str:
    """A sentence for a caption, with a space in front, about sets that do not cover all tasks; else empty."""
    texts = [
        f"{of(len(each['left_out']), 'task')} of {each['scaffold']} ({recording.where})"
        for recording, each in _sets(found)
        if each.get("left_out")
    ]
    return f" Left out for want of time or memory: {listed(texts)}." if texts else ""


def stages(found: Sequence[Recording]) -> pd.DataFrame:
    """Mean seconds per candidate and stage: columns where, set (device and scaffold), stage, seconds."""
    rows = [
        (recording.where, f"{recording.where}: {each['scaffold']}", stage, seconds / max(1, each["candidates"]))
        for recording, each in _sets(found)
        for stage, seconds in each["seconds_by_stage"].items()
        if stage in STAGES
    ]
    return pd.DataFrame(rows, columns=["where", "set", "stage", "seconds"])


def figure_stages(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Stacked bars: mean seconds per candidate by stage."""
    if frame.empty:
        return empty_chart()
    sets, order = list(dict.fromkeys(frame["set"])), {stage: place for place, stage in enumerate(STAGES)}
    data = frame.assign(order=frame["stage"].map(order))
    colour = alt.Color(
        "stage:N", sort=list(STAGES), scale=alt.Scale(domain=list(STAGES), range=theme.colours(list(STAGES)))
    )
    return (
        alt.Chart(data)
        .mark_bar(height=16)
        .encode(
            x=alt.X("sum(seconds):Q", axis=alt.Axis(title="mean seconds per candidate", labelFlush=False)),
            y=alt.Y("set:N", sort=sets, axis=alt.Axis(title=None, labelLimit=260)),
            color=colour,
            order="order:Q",
            tooltip=[alt.Tooltip("set:N"), alt.Tooltip("stage:N"), alt.Tooltip("seconds:Q", format=".3f")],
        )
        .properties(width=theme.WIDTH - 60, height=26 * len(sets))
    )


def peer_text(found: Sequence[Recording]) -> str:
    """KernelBench's rate in each recording that has it."""
    texts = [
        f"{number(peer['candidates_per_second'], '.2f')} per second ({recording.where})"
        for recording in found
        if (peer := recording.data.get("peer"))
    ]
    return listed(texts) if texts else "not measured"


def forward_text(found: Sequence[Recording]) -> str:
    """Our rate on the same candidates (scaffold forward), in each recording."""
    texts = [
        f"{number(each['candidates_per_second'], '.2f')} per second ({recording.where})"
        for recording, each in _sets(found)
        if each["scaffold"] == "forward"
    ]
    return listed(texts) if texts else "not measured"


def verdict(found: Sequence[Recording]) -> str:
    """How the rates compare with the targets and with KernelBench, recording by recording."""
    texts = [(each.where, f"{_against_target(each)}; {_against_peer(each)}") for each in found]
    return grouped(texts) or "No rates are recorded for this edition, so nothing can be said."


def _against_target(recording: Recording) -> str:
    early = recording.device == "cpu"
    what, rate = "the mixed set", _mixed_rate(recording)
    if early:
        what, rate = "candidates that fail early", _early_rate(recording)
    met = "meets" if rate >= RATE else "misses"
    return f"{number(rate, '.1f')} per second over {what}, which {met} the target of {number(RATE, '.0f')}"


def _mixed_rate(recording: Recording) -> float:
    ours = recording.data["ours"]
    return sum(each["candidates"] for each in ours) / sum(each["seconds"] for each in ours)


def _early_rate(recording: Recording) -> float:
    pairs = [
        (each["count_by_kind"][kind], each["seconds_by_kind"][kind])
        for each in recording.data["ours"]
        for kind in EARLY
        if kind in each["seconds_by_kind"]
    ]
    seconds = sum(count * mean for count, mean in pairs)
    return sum(count for count, _ in pairs) / seconds if seconds else float("nan")


def _against_peer(recording: Recording) -> str:
    ratio = recording.data.get("ratio")
    if ratio is None:
        return "KernelBench was not run beside it"
    times = f"scaffold forward at {number(float(ratio), '{:.2g}×')} KernelBench's rate on the tasks that both finished"
    by_task = _ratio_by_task(recording)
    if by_task:
        texts = [f"{number(by_task[key], '{:.2g}×')} on task {key.rpartition('/')[2]}" for key in by_task]
        times += f" ({listed(texts)})"
    if ratio >= TIMES_PEER:
        return f"{times}, as was the target"
    return f"{times}, short of the target of {number(TIMES_PEER, '{:.0f}×')}"


def _ratio_by_task(recording: Recording) -> dict[str, float]:
    """KernelBench's seconds over ours, per task that both finished; empty if the recording does not tell."""
    forward = next(each for each in recording.data["ours"] if each["scaffold"] == "forward")
    ours, theirs = forward.get("seconds_by_task", {}), recording.data["peer"].get("seconds_by_task", {})
    return {key: theirs[key] / ours[key] for key in ours if key in theirs}


# -- ten thousand candidates -------------------------------------------------------------------------------------


def soaks(found: Sequence[Recording]) -> pd.DataFrame:
    """One row per device: candidates, memory (MiB), handles and rates per second, all means over fifths of the session.

    A fifth is long enough to hold every task equally often, which a tenth is not. ``before`` is the most memory of any
    fifth but the last.
    """
    rows = []
    for recording in found:
        samples = pd.DataFrame(recording.data["samples"])
        fifth = max(1, len(samples) // 5)
        starts = [fifth * part for part in range(5)] if len(samples) >= 5 else [0]
        parts = [samples.iloc[start : start + fifth] for start in starts]
        parts[-1] = samples.iloc[-fifth:]
        memory = [float(part["rss_mib"].mean()) for part in parts]
        row: dict[str, Any] = {"where": recording.where, "candidates": int(samples["evaluated"].sum())}
        second = parts[min(1, len(parts) - 1)]
        row |= {"first": memory[0], "second": float(second["rss_mib"].mean()), "last": memory[-1]}
        row["before"] = max(memory[:-1], default=memory[-1])
        row |= {"handles.first": float(parts[0]["handles"].mean()), "handles.last": float(parts[-1]["handles"].mean())}
        row |= {"rate.second": _rate(samples, second), "rate.last": _rate(samples, parts[-1])}
        rows.append(row)
    return or_nothing(pd.DataFrame(rows, columns=[*SOAK_COLUMNS, "before"]), "where")


def _rate(samples: pd.DataFrame, part: pd.DataFrame) -> float:
    start = part.index[0]
    before = float(samples["seconds"].iloc[start - 1]) if start else 0.0
    spent = float(part["seconds"].iloc[-1]) - before
    return float(part["evaluated"].sum() / spent) if spent > 0 else float("nan")


SOAK_COLUMNS = {
    "where": Column("device"),
    "candidates": Column("candidates", ",.0f"),
    "first": Column("first", ",.0f", group="memory (MiB)"),
    "second": Column("second", ",.0f", group="memory (MiB)"),
    "last": Column("last", ",.0f", group="memory (MiB)"),
    "handles.first": Column("first", ".0f", group="handles"),
    "handles.last": Column("last", ".0f", group="handles"),
    "rate.second": Column("second", ".1f", group="per second"),
    "rate.last": Column("last", ".1f", group="per second"),
}


def soak_lines(found: Sequence[Recording]) -> pd.DataFrame:
    """Long table for the figure: columns where, done, memory (MiB)."""
    parts = [
        pd.DataFrame(recording.data["samples"])[["done", "rss_mib"]].assign(where=recording.where)
        for recording in found
    ]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["done", "rss_mib", "where"])
    return frame.rename(columns={"rss_mib": "memory"})


def figure_soak(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Memory of the evaluator and its processes over the candidates, one line per device."""
    if frame.empty:
        return empty_chart()
    places = list(dict.fromkeys(frame["where"]))
    top = float(frame["memory"].max()) * 1.05
    legend = alt.Legend(title=None) if len(places) > 1 else None
    return (
        alt.Chart(frame)
        .mark_line(strokeWidth=1.3)
        .encode(
            x=alt.X("done:Q", axis=alt.Axis(title="candidates evaluated", format=",d")),
            y=alt.Y("memory:Q", scale=alt.Scale(domain=[0, top], nice=False), axis=alt.Axis(title="memory (MiB)")),
            color=alt.Color("where:N", scale=alt.Scale(domain=places, range=theme.colours(places)), legend=legend),
        )
        .properties(width=theme.WIDTH, height=160)
    )


def soak_text(table: pd.DataFrame) -> str:
    """Memory of the second and of the last fifth, from ``soaks``."""
    texts = [
        f"{number(row['candidates'], ',.0f')} candidates, {number(row['second'], ',.0f')} MiB in the second fifth, "
        f"{number(row['last'], ',.0f')} in the last ({row['where']})"
        for row in table.to_dict("records")
        if row["candidates"] is not None
    ]
    return ("; ".join(texts) + ".") if texts else "Not recorded for this edition."


def soak_verdict(table: pd.DataFrame) -> str:
    """Whether memory and handles stay where they were, from ``soaks``."""
    texts = []
    for row in table.to_dict("records"):
        if row["candidates"] is None:
            continue
        ratio = row["last"] / row["before"]
        steady = "does not grow" if ratio <= STEADY else "grows"
        handles = "do not grow" if row["handles.last"] <= row["handles.first"] + 0.5 else "grow"
        ratio_text = f"the last fifth takes {number(ratio, '.2f')} of the most that an earlier one did"
        texts.append((row["where"], f"memory {steady} ({ratio_text}), handles {handles}"))
    return grouped(texts) or "Nothing is recorded for this edition, so nothing can be said."
