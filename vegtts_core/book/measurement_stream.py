"""Where the paper's 859.8× may come from: identical code timed alone, and by four threads on one CUDA stream.

It reads ``shared_stream.json`` (made by ``benchmarks/shared_stream.py``), in which every candidate is the reference
itself. It knows nothing of how that was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from vegtts_core.book import published, theme
from vegtts_core.book.charts import Axis
from vegtts_core.book.headroom import headroom_h100
from vegtts_core.book.measurement import SHAPES, Recording, of, or_nothing
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column

#: From here on a speedup of identical code is of the published size; from the other on it is an artefact at all.
REPRODUCED = 100.0
VISIBLE = 2.0

ALONE = "identical code, one at a time"
BESIDE = "identical code, beside copies"
SOUND = "identical code, sound protocol"
PAPER = "selected in the paper"
ROOM = "most that memory allows"

#: The tasks whose speedups are in question, and which the headroom of an H100 excludes.
TASKS = (4, 5)


def _conditions(data: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, float]]]]:
    """(name, evaluations) of each way of evaluating that was measured."""
    named = ((ALONE, "alone"), (BESIDE, "beside"), (f"identical code, {data['threads']} threads", "together"))
    return [(name, data[part]) for name, part in named if data.get(part)]


def table(recording: Recording | None) -> pd.DataFrame:
    """One row per condition: the speedups of identical code, how many exceed 1, and the times of the reference."""
    rows = []
    if recording is not None:
        for name, found in _conditions(recording.data):
            frame = pd.DataFrame(found)
            speeds, times = frame["speedup"].astype(float), frame["reference_ms"].astype(float)
            row = {"how": name, "n": len(frame), "least": float(speeds.min()), "median": float(speeds.median())}
            row |= {"most": float(speeds.max()), "faster": int((speeds > 1).sum())}
            rows.append(row | {"quickest": float(times.min()), "slowest": float(times.max())})
    return or_nothing(pd.DataFrame(rows, columns=list(COLUMNS)), "how")


COLUMNS = {
    "how": Column("evaluated"),
    "n": Column("n", ".0f"),
    "least": Column("least", "{:.3g}×", group="speedup of identical code"),
    "median": Column("median", "{:.3g}×", group="speedup of identical code"),
    "most": Column("greatest", "{:,.4g}×", group="speedup of identical code"),
    "faster": Column("called faster", ".0f", group="speedup of identical code"),
    "quickest": Column("least", ".3g", "ms", group="time of the reference"),
    "slowest": Column("greatest", ".3g", "ms", group="time of the reference"),
}


def speedups(recording: Recording | None) -> pd.DataFrame:
    """Long table for the figure: columns how, task, speedup. Published values and headroom are always there."""
    rows = []
    if recording is not None:
        data = recording.data
        for name, found in _conditions(data):
            rows += [(name, data["task"], float(each["speedup"])) for each in found]
        if data["sound"].get("speedup") is not None:
            rows.append((SOUND, data["task"], float(data["sound"]["speedup"])))
    for task in TASKS:
        rows.append((PAPER, f"level1/{task}", float(published.value(f"D.2/{task}/speedup"))))
    room = headroom_h100(TASKS)
    rows += [(ROOM, f"level1/{t}", float(v)) for t, v in zip(room["task_id"], room["headroom"], strict=True)]
    return pd.DataFrame(rows, columns=["how", "task", "speedup"])


def figure(frame: pd.DataFrame) -> alt.LayerChart:
    """A row of points per condition; the dashed line is the truth for identical code."""
    rows = list(dict.fromkeys(frame["how"]))
    x = Axis("speedup", "speedup", ",.3~g", log=True)
    colours = [{PAPER: theme.MUTED, ROOM: "#1a1a1a", SOUND: theme.PROTOCOL_COLOURS["sound"]}.get(r) for r in rows]
    own = [colour or theme.PROTOCOL_COLOURS["published"] for colour in colours]
    rule = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
    points = (
        alt.Chart(frame)
        .mark_point(size=60, opacity=0.7)
        .encode(
            x=alt.X("speedup:Q", scale=x.scale(), axis=x.axis()),
            y=alt.Y("how:N", sort=rows, axis=alt.Axis(title=None, labelLimit=240)),
            color=alt.Color("how:N", scale=alt.Scale(domain=rows, range=own), legend=None),
            tooltip=[alt.Tooltip("how:N", title="evaluated"), alt.Tooltip("task:N"), x.tooltip()],
        )
    )
    return alt.layer(rule.encode(x=alt.datum(1)), points).properties(width=theme.WIDTH - 60, height=34 * len(rows))


def setting(recording: Recording | None) -> str:
    """What was run, for a caption; that nothing was, if so."""
    if recording is None:
        return "The experiment needs a GPU and is not recorded for this edition."
    data = recording.data
    shapes = SHAPES.get(str(data.get("size")), str(data.get("size")))
    return f"Task {str(data['task']).rpartition('/')[2]}, {shapes}, {data['device']}."


def here(recording: Recording | None) -> str:
    """What was measured, in a sentence."""
    if recording is None:
        return "Not recorded for this edition: it needs a GPU."
    alone, together = (number(_largest(recording, part), "{:,.4g}×") for part in ("alone", "together"))
    threads = of(int(recording.data["threads"]), "thread")
    text = f"Identical code, at most {alone} one at a time, {together} with {threads}"
    if recording.data.get("beside"):
        beside, count = number(_largest(recording, "beside"), "{:,.4g}×"), of(len(recording.data["beside"]), "timing")
        text += f", {beside} in {count} beside a thread that copies the inputs half of the time"
    return f"{text}. {sound_text(recording.data['sound'])}"


def sound_text(sound: Mapping[str, Any]) -> str:
    """What the sound protocol says of the same code."""
    if sound.get("speedup") is None:
        return f"The sound protocol gave no speedup: {sound.get('reason') or 'no reason recorded'}"
    bounds = ", ".join(number(sound[end], ".3f") for end in ("low", "high"))
    return f"The sound protocol: {number(sound['speedup'], '.3f')} [{bounds}], *{sound['decision']}*."


def _largest(recording: Recording, *parts: str) -> float:
    return max(float(each["speedup"]) for part in parts for each in recording.data.get(part) or [])


def verdict(recording: Recording | None) -> str:
    """Whether concurrent evaluation explains the published speedup: by the largest speedup of identical code."""
    if recording is None:
        return "Whether concurrent evaluation explains the value was not tried for this edition."
    alone, largest = _largest(recording, "alone"), _largest(recording, "together", "beside")
    if largest >= REPRODUCED:
        if alone >= REPRODUCED:
            return "Reproduced, but not by the threads: identical code measures as much one at a time."
        return "Reproduced: concurrent evaluation alone makes identical code look two orders of magnitude faster."
    if largest > VISIBLE and largest > alone:
        return (
            f"Reproduced in part: a shared stream inflates identical code up to {number(largest, '{:,.3g}×')}, "
            "not to the published size."
        )
    factor = max(largest, 1 / min(float(each["speedup"]) for _, found in _conditions(recording.data) for each in found))
    return (
        f"Not reproduced: a shared stream changes the speedup of identical code by a factor of at most "
        f"{number(factor, '{:,.3g}')}, so on this machine the published value needs another cause."
    )
