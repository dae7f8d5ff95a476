"""Chapter 10: what a change of the update does, held against a run that differs in nothing else.

A variant's control has the same policy, tasks, seed, machine and hyper-parameters except rewards, advantages and the
entropy bonus, and may be longer. Both draw step 0 with the same random numbers from the same weights, so step 0 can
differ only by the clock. Under shuffled rewards an update is noise of the usual size: what it changes is drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import study, theme
from vegtts_core.book.adapting_step import judged
from vegtts_core.book.beyond_ranking import points
from vegtts_core.book.prose import interval
from vegtts_core.book.selecting_words import signed
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.statistics import Effect, Interval, mean_effect

SECTION = "beyond"
MEASURES = {"correct": "correct", "fast": "fast_1", "value": "mean speedup, failures 0"}


@dataclass(frozen=True)
class Pair:
    """A variant beside its control (None: none recorded). ``what``: how it differs, in words."""

    name: str
    what: str
    variant: Run
    control: Run | None

    @property
    def shuffled(self) -> bool:
        """Whether this is the noise control."""
        return bool(self.variant.manifest["parameters"]["rewards"].get("shuffle"))

    @property
    def protocol(self) -> str:
        """Whose speedups count."""
        return str(self.variant.manifest["parameters"]["protocol"])

    @property
    def title(self) -> str:
        """Difference and seed, for tables and legends."""
        return f"{self.what} (seed {self.variant.manifest['parameters']['seed']})"


def pairs(source: str, params: str | Path) -> list[Pair]:
    """Every run of section ``beyond`` with its control among the adaptation runs; empty if there is none."""
    return matched(study.adaptations(source, params, SECTION), study.adaptations(source, params))


def matched(variants: Mapping[str, Run], others: Mapping[str, Run]) -> list[Pair]:
    """`pairs`, from runs."""
    found = []
    for name, run in variants.items():
        same = [other for other in others.values() if _common(other) == _common(run)]
        found.append(Pair(name, difference(run, same[0] if same else None), run, same[0] if same else None))
    return found


def _common(run: Run) -> dict[str, Any]:
    """What variant and control have in common: everything that sets a run, but for what a variant may change."""
    parameters = dict(run.manifest["parameters"])
    for name in ("rewards", "advantages", "steps", "version", "evaluation_device", "patience"):
        parameters.pop(name, None)
    parameters["update"] = {k: v for k, v in parameters.get("update", {}).items() if k != "entropy"}
    machine, policy = run.manifest["machine"], run.manifest["policy"]
    place = machine.get("gpu") or machine.get("cpu")
    return {"parameters": parameters, "place": place, "policy": (policy["name"], policy.get("adapter_sha256"))}


def difference(run: Run, control: Run | None) -> str:
    """What was changed, in a few words; against the paper's update where there is no control."""
    parameters = run.manifest["parameters"]
    base = control.manifest["parameters"] if control else {}
    rewards, advantages = parameters["rewards"], parameters["advantages"]
    entropy = parameters.get("update", {}).get("entropy", 0.0)
    words = {
        "shuffled rewards": rewards.get("shuffle") and not base.get("rewards", {}).get("shuffle"),
        f"rewards 1 above {rewards.get('threshold') or 0:g}×": rewards.get("threshold") is not None
        and rewards["threshold"] != base.get("rewards", {}).get("threshold"),
        f"{advantages['objective']} objective": advantages["objective"]
        != base.get("advantages", {}).get("objective", "mean"),
        f"advantages per {advantages['scope']}": advantages["scope"]
        != base.get("advantages", {}).get("scope", "batch"),
        f"entropy bonus {entropy:g}": entropy != base.get("update", {}).get("entropy", 0.0),
    }
    return ", ".join(text for text, holds in words.items() if holds) or "no difference"


def _by_task(run: Run, protocol: str) -> pd.DataFrame:
    """Means per (step, task): correct, fast, value."""
    view = metrics.under(run.samples, protocol)
    view = view.assign(fast=view["fast_limit"] > 1, value=view["speedup"].fillna(0.0))
    return view.groupby(["step", "task"])[list(MEASURES)].mean().astype(float)


def equal_starts(pair: Pair) -> tuple[int, int]:
    """(equal completions, rollouts) of step 0 in variant and control."""
    if pair.control is None:
        return 0, 0
    keys = ["task", "seed", "sample"]
    one, two = (run.samples[run.samples["step"] == 0][[*keys, "completion"]] for run in (pair.variant, pair.control))
    both = one.merge(two, on=keys)
    return int((both["completion_x"] == both["completion_y"]).sum()), len(both)


def differences(found: list[Pair]) -> pd.DataFrame:
    """Variant minus control, paired by task: one row per (pair, step) that both have; Effects per measure.

    Pairs without a control are left out.
    """
    rows = []
    for pair in found:
        if pair.control is None:
            continue
        one, two = (_by_task(run, pair.protocol) for run in (pair.variant, pair.control))
        gap = (one - two).dropna(how="all")
        for step, part in gap.groupby(level="step"):
            tasks = part.index.get_level_values("task")
            row = {"pair": pair.title, "name": pair.name, "step": int(step), "tasks": len(part)}  # type: ignore[call-overload]
            rows.append(row | {name: mean_effect(part[name].to_numpy(), tasks) for name in MEASURES})
    return pd.DataFrame(rows, columns=["pair", "name", "step", "tasks", *MEASURES])


def learning(found: list[Pair]) -> pd.DataFrame:
    """The noise control's test: change from step 0 to the last common step with real rewards, with shuffled ones.

    One row per (shuffled pair, measure): ``step``; ``real``, ``shuffled``, ``gap`` (real minus shuffled): Effects.
    """
    rows = []
    for pair in found:
        if pair.control is None or not pair.shuffled:
            continue
        one, two = (_by_task(run, pair.protocol) for run in (pair.variant, pair.control))
        last = min(int(frame.index.get_level_values("step").max()) for frame in (one, two))
        noise, real = (frame.xs(last, level="step") - frame.xs(0, level="step") for frame in (one, two))
        for name in MEASURES:
            row: dict[str, object] = {"pair": pair.title, "step": last, "measure": name}
            for key, change in (("real", real[name]), ("shuffled", noise[name]), ("gap", real[name] - noise[name])):
                row[key] = mean_effect(change.to_numpy(dtype=float), change.index)
            rows.append(row)
    return pd.DataFrame(rows, columns=["pair", "step", "measure", "real", "shuffled", "gap"])


def signal(run: Run) -> list[float]:
    """Correlation of the rewards that each update was given with correctness, over the step's rollouts.

    Rewards as training saw them, made again from the samples (`adapting_step.judged`); NaN where one is constant. What
    tells whether shuffling left anything in them.
    """
    found = []
    for step in sorted(int(s) for s in run.samples["step"].unique())[:-1]:
        rows = judged(run, step)
        reward, right = rows["reward"].to_numpy(dtype=float), rows["correct"].to_numpy(dtype=float)
        flat = np.ptp(reward) < 1e-12 or np.ptp(right) < 1e-12
        found.append(float("nan") if flat else float(np.corrcoef(reward, right)[0, 1]))
    return found


def widest(effect: Effect, scale: float = 1.0) -> Interval:
    """A mean difference with the wider of the bootstrap's and the t-interval's bounds."""
    return Interval(scale * effect.interval.estimate, scale * effect.low, scale * effect.high, effect.n)


def table(found: pd.DataFrame) -> pd.DataFrame:
    """`differences` as shown."""
    shown = found[["pair", "step", "tasks"]].copy()
    shown["pair"] = [p if i == 0 or p != found["pair"].iloc[i - 1] else "" for i, p in enumerate(found["pair"])]
    for name in ("correct", "fast"):
        shown[name] = [points(effect) for effect in found[name]]
    return shown.assign(value=[widest(effect) for effect in found["value"]])


COLUMNS = {
    "pair": Column("variant minus control"),
    "step": Column("step", "d"),
    "correct": Column("correct, points [95%]", lambda value: signed(value, "+.0f")),
    "fast": Column("fast_1, points [95%]", lambda value: signed(value, "+.1f")),
    "value": Column("mean speedup, failures 0 [95%]", lambda value: signed(value, "+.3f")),
}


def learning_table(found: pd.DataFrame) -> pd.DataFrame:
    """`learning` as shown: shares in points, the mean speedup as it is."""
    shown = found[["pair", "step"]].assign(measure=found["measure"].map(MEASURES))
    for key in ("real", "shuffled", "gap"):
        shown[key] = [_change(effect, measure) for effect, measure in zip(found[key], found["measure"], strict=True)]
    return shown


def _change(effect: Effect, measure: str) -> str:
    share = measure != "value"
    value = widest(effect, 100.0 if share else 1.0)
    return interval(value.estimate, value.low, value.high, lambda v: signed(v, "+.1f" if share else "+.3f")) + (
        " points" if share else ""
    )


LEARNING_COLUMNS = {
    "measure": Column("measure"),
    "real": Column("real rewards", group="change from step 0"),
    "shuffled": Column("shuffled", group="change from step 0"),
    "gap": Column("real minus shuffled"),
}


def figure(found: pd.DataFrame) -> alt.HConcatChart:
    """`differences` by step: one panel per measure, variants side by side."""
    rows = [
        (row["pair"], row["step"], name, effect.interval.estimate, effect.low, effect.high)
        for row in found.to_dict("records")
        for name in MEASURES
        for effect in [row[name]]
    ]
    data = pd.DataFrame(rows, columns=["pair", "step", "measure", "value", "low", "high"])
    names = list(dict.fromkeys(data["pair"]))
    colour = alt.Color(
        "pair:N",
        sort=names,
        scale=alt.Scale(domain=names, range=theme.colours(names)),
        legend=alt.Legend(title=None, columns=2, labelLimit=320),
    )
    shape = alt.Shape(
        "pair:N", sort=names, scale=alt.Scale(domain=names, range=list(theme.SHAPES[: len(names)])), legend=None
    )
    cells = []
    for name, title in MEASURES.items():
        part = data[data["measure"] == name]
        fmt = "+.2f" if name == "value" else "+.0%"
        axis = alt.Axis(title=None, format=fmt, tickCount=5)
        across = alt.X("step:O", axis=alt.Axis(title="step", labelAngle=0))
        base = alt.Chart(part).encode(x=across, xOffset=alt.XOffset("pair:N", sort=names), color=colour)
        up = alt.Scale(zero=True, nice=True)
        points_ = base.mark_point(size=40).encode(y=alt.Y("value:Q", scale=up, axis=axis), shape=shape)
        rules = base.mark_rule(strokeWidth=1.4).encode(y=alt.Y("low:Q", scale=up, axis=axis), y2="high:Q")
        zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
        layers: list[alt.Chart] = [zero.encode(y=alt.Y("zero:Q"))]
        layers += [rules] if np.isfinite(part["low"].to_numpy(dtype=float)).any() else []
        cells.append(alt.layer(*layers, points_).properties(width=145, height=180, title=title))
    return alt.hconcat(*cells, spacing=16)
