"""A/A: what each protocol says of identical code, and how small a difference the sound one could have seen.

It reads ``data/calibration`` (made by ``vegtts_core.evaluator.calibration``) and knows nothing of how it was timed.
Two intervals stand beside each share: Wilson's takes measurements as independent, the bootstrap draws tasks, then
repeats, since what is odd about a task is odd in all its repeats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.charts import Axis
from vegtts_core.book.measurement import SHAPES, empty_chart, grouped, label, or_nothing
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.evaluator.repeats import noise_part
from vegtts_core.project import find_project_root
from vegtts_core.runs.intervals import RULE, widened_calibration
from vegtts_core.statistics import Interval, mean_interval, wilson

PROTOCOLS = ("published", "sound")
DECISIONS = ("faster", "slower", "same", "undecided")

#: What the project set out for: identical code is called faster at most this often under the sound protocol.
TARGET = 0.01

_FOLDERS = {
    "cpu": "A/A (CPU)",
    "cuda": "A/A (GPU)",
    "cuda_modules": "A/A of modules (GPU)",
    "cuda_kernels": "A/A of kernels (GPU)",
}
#: By scaffold: what was measured, where it was not bodies of ``forward``.
_OF = {"forward": "", "module": "modules", "template": "kernels"}


@dataclass(frozen=True)
class Calibration:
    """One device's A/A measurements: a row each, and the manifest that says on what and with which settings."""

    rows: pd.DataFrame
    manifest: Mapping[str, Any]

    @property
    def where(self) -> str:
        """Device and shapes, and what was measured rather than bodies of forward."""
        parameters = self.manifest["parameters"]
        name = label(self.manifest["machine"], parameters["device"])
        return f"{name}, {SHAPES.get(parameters['size'], parameters['size'])}{self.of and f', {self.of}'}"

    @property
    def of(self) -> str:
        """*modules*; *kernels*, their own candidates in a launcher and references where those run; else empty."""
        return _OF[self.manifest["parameters"].get("scaffold", "forward")]

    @property
    def sound_settings(self) -> Mapping[str, Any]:
        """Of the sound protocol."""
        return self.manifest["parameters"]["settings"]["sound"]

    def under(self, protocol: str) -> pd.DataFrame:
        """The measurements of one protocol."""
        return self.rows[self.rows["protocol"] == protocol]


def calibrations() -> list[Calibration]:
    """Those that are recorded, CPU first; intervals by today's rule, as of runs (`vegtts_core.runs.intervals`)."""
    found = []
    for name in _FOLDERS:
        folder = find_project_root() / "data" / "calibration" / name
        table, manifest = folder / "calibration.parquet", folder / "manifest.json"
        if table.is_file() and manifest.is_file():
            recorded = pd.read_parquet(table), json.loads(manifest.read_text(encoding="utf-8"))
            found.append(Calibration(*widened_calibration(*recorded)))
    return found


def absent(found: Sequence[Calibration]) -> str:
    """A sentence for a caption about the devices that were not measured; else empty."""
    there = {each.manifest["parameters"]["device"] + (each.of and f"_{each.of}") for each in found}
    missing = [what for name, what in _FOLDERS.items() if name not in there]
    return f" Not recorded for this edition: {'; '.join(missing)}." if missing else ""


def design(found: Sequence[Calibration]) -> str:
    """How much was measured, a sentence for a caption with a space in front; empty if nothing was."""
    texts = []
    for each in found:
        parameters = each.manifest["parameters"]
        tasks, together = each.rows["task"].nunique(), parameters["per_process"]
        texts.append(
            (
                each.where,
                f"{tasks} tasks × {parameters['repeats']} repeats, at most {together} in one pair of processes",
            )
        )
    rules = [(each.where, each.manifest[RULE]) for each in found if RULE in each.manifest]
    by = f" Recorded intervals are widened by what evaluations differ by: {grouped(rules)}" if rules else ""
    return f" {grouped(texts)}{by}" if texts else ""


def called(rows: pd.DataFrame, decision: str) -> Interval:
    """Share of measurements with this decision, with Wilson's interval. One that failed has no decision."""
    return wilson(float((rows["decision"] == decision).sum()), len(rows))


def over_tasks(rows: pd.DataFrame, decision: str) -> Interval:
    """The same, each task weighing alike, with the interval of the bootstrap over tasks and repeats."""
    return mean_interval((rows["decision"] == decision).astype(float), rows["task"])


def table(found: Sequence[Calibration]) -> pd.DataFrame:
    """One row per device and protocol: how often each decision was made, and the share of *faster* with its bounds."""
    rows = []
    for protocol in PROTOCOLS:
        for each in found:
            part = each.under(protocol)
            if part.empty:
                continue
            row = {"where": each.where, "protocol": protocol, "n": len(part)}
            row |= {decision: int((part["decision"] == decision).sum()) for decision in DECISIONS}
            row |= {"wilson": _bounds(called(part, "faster")), "over_tasks": _bounds(over_tasks(part, "faster"))}
            rows.append(row)
    return or_nothing(pd.DataFrame(rows, columns=list(TABLE_COLUMNS)), "protocol")


def _bounds(share: Interval) -> str:
    if np.isnan(share.low):
        return "no interval"
    # Word joiners keep the bounds on one line.
    return f"{number(100 * share.low, '.1f')}\u2060–\u2060{number(share.high, '.1%')}"


TABLE_COLUMNS = {
    "protocol": Column("protocol"),
    "where": Column("device"),
    "n": Column("n", ".0f"),
    **{decision: Column(decision, ".0f", group="identical code was called") for decision in DECISIONS},
    "wilson": Column("Wilson", group="faster, 95% interval"),
    "over_tasks": Column("over tasks", group="faster, 95% interval"),
}


def half_widths(each: Calibration) -> pd.Series:
    """Half the length of the 95% interval of the log-ratio, per sound measurement."""
    rows = each.under("sound")
    return (np.log(rows["speedup_high"].astype(float)) - np.log(rows["speedup_low"].astype(float))) / 2


def power(found: Sequence[Calibration]) -> pd.DataFrame:
    """What the sound protocol could have seen, one row per device.

    ``undecided``: share; ``median``, ``worst``: half-width that half and nine tenths of the measurements stay below, as
    a share; ``tight``: those whose noise reached the width at which timing stops; ``needed``: the speedup whose lower
    bound clears the minimum effect at the median half-width, so that about half of the measurements could call it
    faster; ``bias``: geometric mean of the A/A speedups, whose truth is 1.
    """
    rows = []
    for each in found:
        part, settings = each.under("sound"), each.sound_settings
        if part.empty:
            continue
        widths = half_widths(each)
        median, noise = float(widths.median()), noise_part(widths, part.get("between_evaluations", 0.0))
        logs = mean_interval(np.log(part["speedup"].astype(float)), part["task"])
        rows.append(
            {
                "where": each.where,
                "undecided": float((part["decision"] == "undecided").mean()),
                "median": float(np.expm1(median)),
                "worst": float(np.expm1(widths.quantile(0.9))),
                "tight": float((noise <= settings["half_width"]).mean()),
                "needed": float((1 + settings["minimum_effect"]) * np.exp(median)),
                "bias": Interval(*(float(np.exp(v)) for v in (logs.estimate, logs.low, logs.high)), logs.n),
            }
        )
    return or_nothing(pd.DataFrame(rows, columns=list(POWER_COLUMNS)), "where")


POWER_COLUMNS = {
    "where": Column("device"),
    "undecided": Column("undecided", ".0%"),
    "median": Column("median", "±{:.1%}", group="half-width of the interval"),
    "worst": Column("90% below", "±{:.1%}", group="half-width of the interval"),
    "tight": Column("tight enough to stop", ".1%", group="half-width of the interval"),
    "needed": Column("speedup needed", "{:.2f}×"),
    "bias": Column("mean A/A speedup [95%]", ".3f"),
}


def spread(found: Sequence[Calibration]) -> pd.DataFrame:
    """Long table for the figure: per device, task and protocol the least, 10%, median, 90% and greatest speedup."""
    names = ["where", "task", "task_id", "protocol", "least", "low", "median", "high", "most"]
    rows = []
    for each in found:
        for (task, protocol), part in each.rows.groupby(["task", "protocol"]):
            speeds = part["speedup"].astype(float).dropna()
            if len(speeds):
                quantiles = [float(v) for v in speeds.quantile([0, 0.1, 0.5, 0.9, 1])]
                task_id = int(str(task).rpartition("/")[2])
                rows.append((each.where, f"task {task_id}", task_id, protocol, *quantiles))
    order = {each.where: place for place, each in enumerate(found)}
    frame = pd.DataFrame(rows, columns=names)
    return frame.sort_values(["where", "task_id", "protocol"], key=lambda c: c.map(order) if c.name == "where" else c)


def figure(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Per task and protocol, one panel per device: thin from end to end, thick the middle 80%, a dot the median."""
    if frame.empty:
        return empty_chart()
    x = Axis("median", "measured speedup of identical code", ".2~f", log=True)
    tasks, places = list(dict.fromkeys(frame["task"])), list(dict.fromkeys(frame["where"]))
    rows = alt.Y("task:N", sort=tasks, axis=alt.Axis(title=None))
    beside = alt.YOffset("protocol:N", sort=list(PROTOCOLS))
    colour = alt.Color(
        "protocol:N", scale=alt.Scale(domain=list(PROTOCOLS), range=theme.colours(list(PROTOCOLS))), title="protocol"
    )
    base = alt.Chart().encode(y=rows, yOffset=beside, color=colour)
    across = {"scale": x.scale(), "axis": x.axis()}
    tip = [alt.Tooltip(f"{n}:N") for n in ("task", "protocol")]
    tip += [alt.Tooltip(f"{n}:Q", format=".3f") for n in ("least", "low", "median", "high", "most")]
    layers = [
        alt.Chart().mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1).encode(x=alt.datum(1)),
        base.mark_rule(strokeWidth=1).encode(x=alt.X("least:Q", **across), x2="most:Q"),
        base.mark_rule(strokeWidth=3.5, opacity=0.75).encode(x=alt.X("low:Q", **across), x2="high:Q"),
        base.mark_point(size=22).encode(x=alt.X("median:Q", **across), tooltip=tip),
    ]
    width = theme.WIDTH if len(places) == 1 else theme.WIDTH // 2
    panel = alt.layer(*layers, data=frame).properties(width=width, height=22 * len(tasks))
    return panel.facet(alt.Facet("where:N", sort=places, title=None), columns=2)


# -- sentences ---------------------------------------------------------------------------------------------------


def everywhere(found: Sequence[Calibration], protocol: str, decision: str = "faster") -> str:
    """``50.7% [47.6%, 53.8%] (CPU, small shapes)`` and so on, Wilson's intervals; a dash if nothing is recorded."""
    texts = [
        f"{number(called(each.under(protocol), decision), '.1%')} ({each.where})"
        for each in found
        if len(each.under(protocol))
    ]
    return "; ".join(texts) or number(None)


def verdict(found: Sequence[Calibration]) -> str:
    """What the shares say: is the published protocol a coin toss, and does the sound one meet its target?"""
    texts = [(each.where, f"{_coin(each)}, {_target(each)}") for each in found if len(each.rows)]
    return grouped(texts) or "Nothing was recorded, so nothing can be said."


def _coin(each: Calibration) -> str:
    share = over_tasks(each.under("published"), "faster")
    if np.isnan(share.low):
        return "the published protocol cannot be judged"
    if share.low <= 0.5 <= share.high:
        return "a win under the published protocol cannot be told from a coin toss"
    side = "less" if share.high < 0.5 else "more"
    text = f"the published protocol calls identical code faster {side} often than a coin would"
    return f"{text} ({_lean(each)})" if each.of == "kernels" else text


def _lean(each: Calibration) -> str:
    """By how much kernels lean under the published protocol, and why."""
    by_task = each.under("published").groupby("task")["speedup"].median()
    return (
        f"{by_task.median() - 1:.1%} in the median task, {by_task.max() - 1:.0%} on {by_task.idxmax()}: references are "
        "called from Python, and what that takes is in their time alone"
    )


def _target(each: Calibration) -> str:
    share = called(each.under("sound"), "faster")
    goal = number(TARGET, ".0%")
    if np.isnan(share.low):
        return "the sound protocol cannot be judged"
    if share.high <= TARGET:
        return f"the sound one stays within its target of {goal}"
    if share.estimate <= TARGET:
        return f"the sound one meets its target of {goal}, though its interval does not exclude more"
    return f"the sound one misses its target of {goal}"


def asymmetry(found: Sequence[Calibration]) -> str:
    """Whether the sound protocol errs towards slower more often than towards faster, and by how much."""
    texts = []
    for each in found:
        rows = each.under("sound")
        if rows.empty:
            continue
        at_first = (rows["process_pairs"] > 1).mean() if "process_pairs" in rows else np.nan
        faster, slower = ((rows["decision"] == name).mean() for name in ("faster", "slower"))
        lean = "leans against the candidate" if slower > faster else "does not lean against the candidate"
        texts.append(
            f"{each.where}: {number(float(slower), '.1%')} slower, {number(float(faster), '.1%')} faster "
            f"({number(float(at_first), '.1%')} before a second pair of processes was asked): it {lean}"
        )
    return "; ".join(texts) or number(None)


def power_sentence(table: pd.DataFrame) -> str:
    """What *undecided* means for a reader who wants to see small effects, from ``power``."""
    texts = [
        f"{row['where']}: {number(row['undecided'], '.0%')} undecided, a kernel has to be about "
        f"{number(row['needed'], '{:.2f}×')} as fast to be called faster in half of the measurements"
        for row in table.to_dict("records")
        if row["needed"] is not None
    ]
    return "; ".join(texts) or number(None)
