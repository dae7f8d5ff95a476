"""Figure 2 of the paper, drawn again with what it leaves out: which process does what, and who holds what.

A diagram is boxes, arrows and words at places in pixels; Vega-Lite draws it like every other figure of the book. It
knows nothing of any run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import altair as alt
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.evaluator.types import Stage

WIDTH = 580
HEIGHT = 560
TITLE_SIZE = 13
DETAIL_SIZE = 12

#: Fill and outline by what a box is. Words on every fill have a contrast of at least 7:1.
PAINT = {
    "plain": ("#eaf3fb", "#2a86cf"),
    "trusted": ("#d9efe6", "#00795c"),
    "sandboxed": ("#fde5d3", "#d55e00"),
    "trusted group": ("#f4faf7", "#00795c"),
    "sandbox group": ("#fff8f2", "#d55e00"),
}

#: What the evaluator does in each stage, in as many words as fit into a box.
STAGES = {
    Stage.SCAFFOLD: "a strict grammar: candidate, or refusal",
    Stage.COMPILE: "source out, library in, checked before use",
    Stage.CORRECTNESS: "secret inputs, outputs against the key",
    Stage.TIMING: "its clock, random order, outputs checked",
    Stage.REWARD: "the speedup if correct, else 0 and why",
}


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and a line below it; a group has its title at its top and others inside."""

    left: float
    top: float
    right: float
    bottom: float
    title: str
    detail: str
    paint: str

    @property
    def is_group(self) -> bool:
        """Whether others lie inside."""
        return self.paint.endswith("group")


@dataclass(frozen=True)
class Arrow:
    """A path along the axes with a head at its end (``both``: at its start as well); a loop is dashed."""

    points: tuple[tuple[float, float], ...]
    label: str = ""
    at: tuple[float, float] = (0, 0)
    both: bool = False
    loop: bool = False


def boxes() -> list[Box]:
    """Groups first: they lie below what they hold."""
    found = [
        Box(8, 106, 344, 474, "Evaluator: holds answer key, stopwatch, pen", "", "trusted group"),
        Box(392, 202, 548, 416, "Sandbox", "", "sandbox group"),
        Box(8, 10, 96, 58, "task", "PyTorch", "plain"),
        Box(136, 10, 296, 58, "scaffold", "shapes, signature, rules", "plain"),
        Box(392, 10, 548, 58, "policy", "a language model", "plain"),
    ]
    for place, (stage, detail) in enumerate(STAGES.items()):
        top = 138 + 66 * place
        found.append(Box(20, top, 332, top + 50, f"{place + 1} {stage.value}", detail, "trusted"))
    return [
        *found,
        Box(402, 228, 538, 278, "compiler", "g++ or NVRTC", "sandboxed"),
        Box(402, 288, 538, 350, "candidate", "code, inputs, output", "sandboxed"),
        Box(402, 360, 538, 404, "reference", "the same, for timing", "sandboxed"),
        Box(20, 504, 146, 552, "verdict", "reward, reason", "trusted"),
        Box(206, 504, 332, 552, "run store", "every sample", "plain"),
    ]


def arrows() -> list[Arrow]:
    """From task to run store, and the two loops back to the policy."""
    down = [Arrow(((176, 188 + 66 * n), (176, 204 + 66 * n))) for n in range(len(STAGES) - 1)]
    return [
        Arrow(((96, 34), (136, 34))),
        Arrow(((296, 34), (392, 34)), "prompt", (340, 26)),
        Arrow(((470, 58), (470, 163), (332, 163)), "completion", (511, 110)),
        *down,
        *(Arrow(((332, y), (402, y)), both=True) for y in (242, 304, 343, 374)),
        Arrow(((83, 452), (83, 504))),
        Arrow(((146, 528), (206, 528))),
        Arrow(((332, 518), (560, 518), (560, 44), (548, 44)), "inner loop: select, adapt", (442, 511), loop=True),
        Arrow(((332, 540), (572, 540), (572, 24), (548, 24)), "outer loop: train", (442, 533), loop=True),
    ]


def environment_chart() -> alt.LayerChart:
    """The diagram."""
    drawn = boxes()
    groups, inner = [b for b in drawn if b.is_group], [b for b in drawn if not b.is_group]
    layers = [_rectangles(groups), *_paths(arrows()), _rectangles(inner), *_words(groups, inner)]
    # Text layers share the scales of the whole: one pixel is one unit.
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)


def _x(field: str) -> alt.X:
    return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, WIDTH], nice=False), axis=None)


def _y(field: str) -> alt.Y:
    return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[HEIGHT, 0], nice=False), axis=None)


def _rectangles(some: list[Box]) -> alt.Chart:
    rows = [
        {"x": b.left, "y": b.top, "x2": b.right, "y2": b.bottom, "fill": PAINT[b.paint][0], "line": PAINT[b.paint][1]}
        for b in some
    ]
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_rect(cornerRadius=5, strokeWidth=1.5, opacity=1)
        .encode(
            x=_x("x"),
            x2="x2:Q",
            y=_y("y"),
            y2="y2:Q",
            fill=alt.Fill("fill:N", scale=None),
            stroke=alt.Stroke("line:N", scale=None),
        )
    )


def _paths(some: list[Arrow]) -> list[alt.Chart]:
    segments, heads, labels = [], [], []
    for arrow in some:
        steps = list(zip(arrow.points, arrow.points[1:], strict=False))
        segments += [
            {"x": a[0], "y": a[1], "x2": b[0], "y2": b[1], "dash": "4,3" if arrow.loop else "1,0"} for a, b in steps
        ]
        heads.append(_head(*steps[-1]))
        if arrow.both:
            heads.append(_head(*reversed(steps[0])))
        if arrow.label:
            labels.append({"x": arrow.at[0], "y": arrow.at[1], "text": arrow.label})
    frame = pd.DataFrame(segments)
    lines = [
        alt.Chart(frame[frame["dash"] == dash])
        .mark_rule(color=theme.MUTED, strokeWidth=1.5, strokeDash=[int(n) for n in dash.split(",")])
        .encode(x=_x("x"), x2="x2:Q", y=_y("y"), y2="y2:Q")
        for dash in ("1,0", "4,3")
    ]
    points = (
        alt.Chart(pd.DataFrame(heads))
        .mark_point(color=theme.MUTED, filled=True, size=70, opacity=1)
        .encode(x=_x("x"), y=_y("y"), shape=alt.Shape("shape:N", scale=None))
    )
    return [*lines, points, _text(pd.DataFrame(labels), DETAIL_SIZE, "normal", theme.MUTED)]


def _head(start: tuple[float, float], end: tuple[float, float]) -> dict[str, float | str]:
    """A triangle whose tip is at ``end``."""
    across, up = end[0] - start[0], end[1] - start[1]
    if across:
        return {"x": end[0] - (4 if across > 0 else -4), "y": end[1], "shape": f"triangle-{_side(across)}"}
    return {"x": end[0], "y": end[1] - (4 if up > 0 else -4), "shape": "triangle-down" if up > 0 else "triangle-up"}


def _side(across: float) -> str:
    return "right" if across > 0 else "left"


def _words(groups: list[Box], inner: list[Box]) -> list[alt.Chart]:
    titles = [replace(b, bottom=b.top + 26) for b in groups]
    rows = [{"x": (b.left + b.right) / 2, "y": (b.top + b.bottom) / 2, "text": b.title} for b in titles]
    for box in inner:
        middle = (box.top + box.bottom) / 2
        rows.append({"x": (box.left + box.right) / 2, "y": middle - 9, "text": box.title})
    details = [{"x": (b.left + b.right) / 2, "y": (b.top + b.bottom) / 2 + 9, "text": b.detail} for b in inner]
    return [
        _text(pd.DataFrame(rows), TITLE_SIZE, "bold", theme.TEXT),
        _text(pd.DataFrame(details), DETAIL_SIZE, "normal", theme.TEXT),
    ]


def _text(frame: pd.DataFrame, size: int, weight: str, colour: str) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_text(fontSize=size, fontWeight=weight, color=colour, baseline="middle", align="center")
        .encode(x=_x("x"), y=_y("y"), text="text:N")
    )
