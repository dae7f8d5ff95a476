"""Chapter 10: what a change of the update does, held against a run that differs in nothing else.

A variant's control has the same policy, tasks, seed, card (or a CPU, if not the same one) and hyper-parameters except
rewards, advantages and the entropy bonus, and may be longer. Both draw step 0 with the same random numbers from the
same weights, so step 0 can differ only by the clock. Under shuffled rewards an update is noise of the usual size: what
it changes is drift. Speeds measured on two CPUs are less alike than shares of correct rollouts.
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
from vegtts_core.book.study import card
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.statistics import Effect, Interval, mean_effect

SECTION = "beyond"
MEASURES = {"correct": "correct", "fast": "fast_1", "value": "mean speedup, failures 0"}


@dataclass(frozen=True)
class Pair:
    """A variant beside its control (None: none recorded). ``what``: how it differs; ``policy``: its letter."""

    name: str
    what: str
    policy: str
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
    def seed(self) -> int:
        """The seed of both."""
        return int(self.variant.manifest["parameters"]["seed"])

    @property
    def title(self) -> str:
        """What is compared, over whatever seeds there are: ``F: shuffled rewards``."""
        return f"{self.policy}: {self.what}"


def pairs(
    source: str, params: str | Path, adaptations: Mapping[str, Run], names: Mapping[str, str] | None = None
) -> list[Pair]:
    """Every run of section ``beyond`` with its control among ``adaptations``; empty if there is none.

    ``names``: letters by label (``beyond_ranking.letters``).
    """
    return matched(study.adaptations(source, params, SECTION), adaptations, names)


def matched(
    variants: Mapping[str, Run], others: Mapping[str, Run], names: Mapping[str, str] | None = None
) -> list[Pair]:
    """`pairs`, from runs."""
    found = []
    for name, run in variants.items():
        control = next((other for other in others.values() if _common(other) == _common(run)), None)
        label = study.label(run)
        found.append(Pair(name, difference(run, control), (names or {}).get(label, label), run, control))
    return found


def compared(found: list[Pair]) -> dict[str, list[Pair]]:
    """Pairs with a control by `Pair.title`: seeds of one comparison together."""
    groups: dict[str, list[Pair]] = {}
    for pair in found:
        if pair.control is not None:
            groups.setdefault(pair.title, []).append(pair)
    return groups


def _common(run: Run) -> dict[str, Any]:
    """What variant and control have in common: everything that sets a run, but for what a variant may change.

    And but for what differs between evaluations, which readers take from today's rule (`vegtts_core.runs.intervals`).
    """
    parameters = dict(run.manifest["parameters"])
    evaluator = dict(parameters.get("evaluator") or {})
    evaluator["sound"] = {k: v for k, v in evaluator.get("sound", {}).items() if k != "between_evaluations"}
    parameters["evaluator"] = evaluator
    for name in ("rewards", "advantages", "steps", "version", "evaluation_device", "patience"):
        parameters.pop(name, None)
    parameters["update"] = {k: v for k, v in parameters.get("update", {}).items() if k != "entropy"}
    policy = run.manifest["policy"]
    return {"parameters": parameters, "place": card(run), "policy": (policy["name"], policy.get("adapter_sha256"))}


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


def _sides(pair: Pair) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`_by_task` of variant and control."""
    assert pair.control is not None
    return _by_task(pair.variant, pair.protocol), _by_task(pair.control, pair.protocol)


def differences(found: list[Pair]) -> pd.DataFrame:
    """Variant minus control, paired by task and seed: one row per (comparison, step) that both have.

    Columns pair (its title), shuffled (the noise control), step, seeds, tasks and the measures (Effects). Pairs without
    a control are left out.
    """
    rows = []
    for title, group in compared(found).items():
        gaps = [(one - two).dropna(how="all") for one, two in map(_sides, group)]
        for step, part in pd.concat(gaps).groupby(level="step"):
            tasks = part.index.get_level_values("task")
            seeds = sum(step in gap.index.get_level_values("step") for gap in gaps)
            row = {"pair": title, "shuffled": group[0].shuffled, "step": int(step), "seeds": seeds}  # type: ignore[call-overload]
            row |= {"tasks": tasks.nunique()}
            rows.append(row | {name: mean_effect(part[name].to_numpy(), tasks) for name in MEASURES})
    return pd.DataFrame(rows, columns=["pair", "shuffled", "step", "seeds", "tasks", *MEASURES])


def learning(found: list[Pair]) -> pd.DataFrame:
    """The noise control's test: change from step 0 to the last common step with real rewards, with shuffled ones.

    One row per (comparison, measure): ``step``, ``seeds``; ``real``, ``shuffled``, ``gap`` (real minus shuffled):
    Effects over tasks and seeds; ``power``: how often this design would find a gap as large as ``real``'s whole change.
    """
    rows = []
    for title, group in compared([pair for pair in found if pair.shuffled]).items():
        sides = list(map(_sides, group))
        last = min(int(frame.index.get_level_values("step").max()) for both in sides for frame in both)
        noise, real = (
            pd.concat([both[side].xs(last, level="step") - both[side].xs(0, level="step") for both in sides])
            for side in (0, 1)
        )
        for name in MEASURES:
            row: dict[str, object] = {"pair": title, "step": last, "seeds": len(group), "measure": name}
            changes = {"real": real[name], "shuffled": noise[name], "gap": real[name] - noise[name]}
            effects = {key: mean_effect(value.to_numpy(dtype=float), value.index) for key, value in changes.items()}
            rows.append(row | effects | {"power": effects["gap"].power(effects["real"].interval.estimate)})
    return pd.DataFrame(rows, columns=["pair", "step", "seeds", "measure", "real", "shuffled", "gap", "power"])


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
    shown = found[["step", "seeds"]].copy()
    shown.insert(0, "pair", found["pair"].where(~found["pair"].duplicated(), ""))
    for name in ("correct", "fast"):
        shown[name] = [points(effect) for effect in found[name]]
    return shown.assign(value=[widest(effect) for effect in found["value"]])


COLUMNS = {
    "pair": Column("variant minus control"),
    "step": Column("step", "d"),
    "seeds": Column("seeds", "d"),
    "correct": Column("correct, points", lambda value: signed(value, "+.0f")),
    "fast": Column("fast_1, points", lambda value: signed(value, "+.0f")),
    "value": Column("mean speedup", lambda value: signed(value, "+.2f")),
}


def learning_table(found: pd.DataFrame) -> pd.DataFrame:
    """`learning` as shown: shares in points, the mean speedup as it is."""
    letters = found["pair"].str.split(":").str[0]
    shown = pd.DataFrame({"pair": letters.where(~found["pair"].duplicated(), "")})
    shown = shown.assign(step=found["step"], seeds=found["seeds"], measure=found["measure"].map(SHORT))
    for key in ("real", "shuffled", "gap"):
        shown[key] = [_change(effect, name) for effect, name in zip(found[key], found["measure"], strict=True)]
    return shown


def _change(effect: Effect, measure: str) -> str:
    share = measure != "value"
    value = widest(effect, 100.0 if share else 1.0)
    return interval(value.estimate, value.low, value.high, lambda v: signed(v, "+.0f" if share else "+.2f"))


SHORT = {"correct": "correct, points", "fast": "fast_1, points", "value": "mean speedup"}

LEARNING_COLUMNS = {
    "pair": Column(""),
    "step": Column("step", "d"),
    "seeds": Column("seeds", "d"),
    "measure": Column("measure"),
    "real": Column("real", group="change from step 0"),
    "shuffled": Column("shuffled", group="change from step 0"),
    "gap": Column("difference"),
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
        label = f"datum.value == 0 ? '0' : format(datum.value, '{fmt}')"
        axis = alt.Axis(title=None, labelExpr=label, tickCount=5)
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
