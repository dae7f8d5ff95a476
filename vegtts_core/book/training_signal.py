"""What an update would have heard: a run's own rollouts under each definition of reward and advantage (section 3.3).

Rewards and advantages are functions of verdicts, so they can be computed again, exactly, from the samples table: as the
run's own parameters say, and as they would have been for the same rollouts over the whole batch of tasks. It says
nothing of what training with them would have led to: other advantages, other checkpoints, other rollouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core.book import theme
from vegtts_core.book.tables import Column
from vegtts_core.book.training import share
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval
from vegtts_core.training.advantages import AdvantageParameters, advantages
from vegtts_core.training.rewards import BaselineHistory, Outcome, RewardParameters, compute_rewards

#: The definitions that are held against each other: (reward's measure, advantage's scope), the published one first.
DEFINITIONS = (("normalised", "batch"), ("raw", "batch"), ("normalised", "group"), ("raw", "group"))

OWN = "own"


def label(measure: str, scope: str) -> str:
    """``normalised, batch``."""
    return f"{measure}, {scope}"


def signals(run: Run) -> pd.DataFrame:
    """One row per rollout that an update was made of, with its rewards and advantages under every definition.

    Columns: step, slot, correct, speedup, low, high (the sound interval, NaN without one), ``reward.<measure>`` for
    *raw* and *normalised*, ``reward.own``, ``advantage.<label>`` for `DEFINITIONS` and ``advantage.own`` (the run's
    own parameters). Rollouts that only judged the last checkpoint are left out.
    """
    parameters = run.manifest["parameters"]
    rewards = RewardParameters.model_validate(parameters["rewards"])
    own = AdvantageParameters.model_validate(parameters["advantages"])
    measures = {name: RewardParameters(measure=name, window=rewards.window) for name in ("raw", "normalised")}  # type: ignore[arg-type]
    measures[OWN] = rewards
    histories = {name: BaselineHistory(rewards.window) for name in measures}
    parts = []
    samples = run.samples[run.samples["step"] < parameters["steps"]]
    for step, part in samples.groupby("step", sort=True):
        slots = list(part["scaffold"] + ":" + part["task"])
        outcomes = [Outcome(s, r > 0, r or None) for s, r in zip(slots, part["reward"].astype(float), strict=True)]
        columns: dict[str, Any] = {
            "step": int(step),  # type: ignore[call-overload]
            "slot": slots,
            "correct": part["reward"].to_numpy() > 0,
            "speedup": part["reward"].where(part["reward"] > 0).to_numpy(dtype=float),
            "low": part["sound_speedup_low"].to_numpy(dtype=float),
            "high": part["sound_speedup_high"].to_numpy(dtype=float),
        }
        for name, chosen in measures.items():
            seed, number = int(parameters["seed"]), int(step)  # type: ignore[call-overload]
            columns[f"reward.{name}"] = compute_rewards(outcomes, chosen, histories[name], seed, number)
        for measure, scope in DEFINITIONS:
            defined = AdvantageParameters(scope=scope)  # type: ignore[arg-type]
            columns[f"advantage.{label(measure, scope)}"] = advantages(columns[f"reward.{measure}"], slots, defined)
        columns["advantage.own"] = advantages(columns["reward.own"], slots, own)
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def groups(found: pd.DataFrame) -> pd.DataFrame:
    """One row per (step, slot) of ``signals``: what its best and worst rollouts are told under each definition.

    Columns: step, slot, rollouts, right, best (speedup), ``contrast`` (whether its rewards differ), ``blurred``
    (whether they differ, all are correct, and the intervals of the fastest and slowest speedup overlap, so that the
    difference may be the clock's), and per definition ``best.<label>`` (the fastest rollout's advantage),
    ``drowned.<label>`` (a contrast whose fastest rollout gets an advantage of 0 or less), ``carried.<label>`` (a
    contrast whose every rollout gets more than 0), ``moved.<label>`` (no contrast, and yet a push), ``weight.<label>``
    (its share of the step's sum of absolute advantages).
    """
    names = [label(*definition) for definition in DEFINITIONS]
    totals = found.groupby("step")[[f"advantage.{name}" for name in names]].agg(lambda values: values.abs().sum())
    rows = []
    for (step, slot), part in found.groupby(["step", "slot"], sort=False):
        rewards = part["reward.raw"].to_numpy()
        contrast = bool(rewards.min() < rewards.max())
        right = part[part["correct"]]
        row: dict[str, Any] = {
            "step": step,
            "slot": slot,
            "rollouts": len(part),
            "right": len(right),
            "best": float(right["speedup"].max()) if len(right) else float("nan"),
            "contrast": contrast,
            "blurred": contrast and len(right) == len(part) and _overlap(right),
        }
        for name in names:
            values = part[f"advantage.{name}"].to_numpy()
            total = float(totals.at[step, f"advantage.{name}"])
            row[f"best.{name}"] = float(values[np.argmax(rewards)])
            row[f"drowned.{name}"] = contrast and row[f"best.{name}"] <= 0
            row[f"carried.{name}"] = contrast and bool(values.min() > 0)
            row[f"moved.{name}"] = not contrast and bool(np.any(values != 0))
            row[f"weight.{name}"] = float(np.abs(values).sum() / total) if total else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def _overlap(right: pd.DataFrame) -> bool:
    fastest, slowest = right.loc[right["speedup"].idxmax()], right.loc[right["speedup"].idxmin()]
    return bool(fastest["low"] <= slowest["high"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per definition over all steps of ``groups``: columns definition, measure, scope, contrasts (count),
    drowned (count), drowned_share (Interval), carried (count), moved (text: of the groups without contrast), loudest
    (mean share of a step's absolute advantages that its loudest task has), effective (mean over steps of 1 / sum of
    squared shares), tasks (per step).
    """
    contrasts = table[table["contrast"]]
    rows = []
    for measure, scope in DEFINITIONS:
        name = label(measure, scope)
        drowned = contrasts[f"drowned.{name}"].astype(bool)
        weights = table.groupby("step")[f"weight.{name}"]
        heard = weights.max().notna()
        loudest, effective = weights.max()[heard], 1 / weights.agg(lambda values: (values**2).sum())[heard]
        rows.append(
            {
                "definition": name,
                "measure": measure,
                "scope": scope,
                "contrasts": len(contrasts),
                "drowned": int(drowned.sum()),
                "drowned_share": share(drowned, contrasts["slot"]) if len(contrasts) else None,
                "carried": int(contrasts[f"carried.{name}"].sum()),
                "moved": f"{int(table[f'moved.{name}'].sum())} of {len(table) - len(contrasts)}",
                "loudest": _over_steps(loudest),
                "effective": _over_steps(effective),
                "tasks": float(table.groupby("step")["slot"].nunique().mean()),
            }
        )
    return pd.DataFrame(rows)


def _over_steps(values: pd.Series) -> Interval:
    return mean_interval(values.to_numpy(), values.index.to_numpy())


SUMMARY_COLUMNS = {
    "measure": Column("reward"),
    "scope": Column("advantage over"),
    "contrasts": Column("groups with a better rollout", "d"),
    "drowned": Column("drowned", "d"),
    "drowned_share": Column("share [95%]", ".0%"),
    "carried": Column("carried", "d"),
    "moved": Column("pushed without contrast"),
    "loudest": Column("loudest task's share [95%]", ".0%"),
    "effective": Column("effective tasks per step [95%]", ".1f"),
}


def example_step(table: pd.DataFrame) -> int:
    """The first step in which some group's rewards differ; the first step if there is none."""
    heard = table.loc[table["contrast"], "step"]
    return int(heard.min() if len(heard) else table["step"].min())


def example(table: pd.DataFrame, step: int) -> pd.DataFrame:
    """The groups of one step for a table, the fastest first: columns as ``EXAMPLE_COLUMNS``, ``drowned`` in words."""
    part = table[table["step"] == step].sort_values(["best", "slot"], ascending=[False, True], ignore_index=True)
    part["right_of"] = [f"{right} of {n}" for right, n in zip(part["right"], part["rollouts"], strict=True)]
    part["slot"] = [short(slot) for slot in part["slot"]]
    name = label(*DEFINITIONS[0])
    kinds = {"drowned": "drowned", "carried": "carried", "moved": "no contrast, pushed"}
    words = [
        next(
            (word for kind, word in kinds.items() if row[f"{kind}.{name}"]),
            "heard" if row["contrast"] else "no contrast",
        )
        for row in part.to_dict("records")
    ]
    return part.assign(outcome=words)


EXAMPLE_COLUMNS = {
    "slot": Column("task"),
    "right_of": Column("correct"),
    "best": Column("fastest", "{:.2f}×"),
    "best.normalised, group": Column("group", "+.2f", group="advantage of the fastest rollout"),
    "best.normalised, batch": Column("batch", "+.2f", group="advantage of the fastest rollout"),
    "best.raw, batch": Column("batch, raw", "+.2f", group="advantage of the fastest rollout"),
    "outcome": Column("normalised, over the batch"),
}


def short(slot: str) -> str:
    """``19, template`` of ``template:level1/19``."""
    scaffold, task = slot.split(":")
    return f"{task.split('/')[-1]}, {scaffold}"


_PANELS: Mapping[str, str] = {
    "advantage.normalised, group": "within the group",
    "advantage.normalised, batch": "over the batch",
    "advantage.raw, batch": "over the batch, raw",
}


def figure(found: pd.DataFrame, step: int, order: Sequence[str]) -> alt.HConcatChart:
    """Every rollout's advantage at one step, three definitions side by side, one row per task (``order`` of slots)."""
    part = found[found["step"] == step].assign(rollout=lambda rows: np.where(rows["correct"], "correct", "incorrect"))
    part["task"] = [short(slot) for slot in part["slot"]]
    names = [short(slot) for slot in order]
    colour = alt.Color(
        "rollout:N",
        scale=alt.Scale(domain=["correct", "incorrect"], range=[theme.CATEGORY_COLOURS[0], theme.CATEGORY_COLOURS[1]]),
        legend=alt.Legend(title=None),
    )
    shape = alt.Shape("rollout:N", scale=alt.Scale(domain=["correct", "incorrect"], range=["circle", "diamond"]))
    panels = []
    for index, (column, title) in enumerate(_PANELS.items()):
        data = part[["task", "rollout", "speedup"]].assign(advantage=part[column].to_numpy())
        axis = alt.Axis(title=None, labelLimit=160) if index == 0 else alt.Axis(title=None, labels=False, ticks=False)
        points = (
            alt.Chart(data)
            .mark_point(size=40, opacity=0.75)
            .encode(
                x=alt.X("advantage:Q", title="advantage", scale=alt.Scale(padding=10, nice=False)),
                y=alt.Y("task:N", sort=names, axis=axis),
                color=colour,
                shape=shape,
                tooltip=[
                    alt.Tooltip("task:N"),
                    alt.Tooltip("advantage:Q", format="+.2f"),
                    alt.Tooltip("speedup:Q", format=".2f"),
                ],
            )
        )
        zero = alt.Chart(pd.DataFrame({"at": [0.0]})).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
        layered = alt.layer(zero.encode(x="at:Q"), points)
        panels.append(layered.properties(title=title, width=theme.SMALL + 20, height=26 * len(names)))
    return alt.hconcat(*panels)
