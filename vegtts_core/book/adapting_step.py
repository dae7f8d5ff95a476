"""One step of an adaptation run, end to end: rollouts, rewards, advantages, the update, and what it changed.

Rewards and advantages are computed again from the samples table with the functions that training called, so they can be
held against what the run recorded. Nothing here loads a model.
"""

from __future__ import annotations

from math import isclose, isnan

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book.charts import Axis, strips
from vegtts_core.book.tables import Column
from vegtts_core.errors import UserError
from vegtts_core.runs import Run
from vegtts_core.training.advantages import AdvantageParameters, advantages
from vegtts_core.training.rewards import BaselineHistory, Outcome, RewardParameters, compute_rewards

NAN = float("nan")

SCOPES = ("group", "batch")


def judged(run: Run, step: int) -> pd.DataFrame:
    """The rollouts of a step with what the update made of them, in the order of the samples table.

    The protocol's view (``metrics.under``) with ``raw`` (speedup if correct, else 0), ``reward``, and the advantages
    ``group`` and ``batch`` that the run's objective gives over either scope. Rewards depend on earlier steps through
    the baselines, which are made again from them.
    """
    parameters = run.manifest["parameters"]
    rewards = RewardParameters.model_validate(parameters["rewards"])
    history, samples = BaselineHistory(rewards.window), run.samples
    found: list[float] = []
    for earlier in range(step + 1):
        rows = samples[samples["step"] == earlier]
        names = _groups(rows)
        outcomes = [
            Outcome(name, raw > 0, raw or None) for name, raw in zip(names, rows["reward"].astype(float), strict=True)
        ]
        found = compute_rewards(outcomes, rewards, history, parameters["seed"], earlier)
    rows = samples[samples["step"] == step]
    view = metrics.under(rows, parameters["protocol"])
    view["raw"], view["reward"] = rows["reward"].to_numpy(dtype=float), found
    view["fast"] = view["fast_limit"] > 1
    for scope in SCOPES:
        chosen = AdvantageParameters.model_validate({**parameters["advantages"], "scope": scope})
        view[scope] = advantages(found, _groups(rows), chosen)
    return view


def _groups(rows: pd.DataFrame) -> list[str]:
    return [f"{scaffold}:{task}" for scaffold, task in zip(rows["scaffold"], rows["task"], strict=True)]


def groups(rows: pd.DataFrame) -> pd.DataFrame:
    """A step's groups, one row per task of `judged`: what was sampled and what it is worth under either scope.

    ``best_group``, ``best_batch``: the advantage of the best rewarded rollout; ``down_group``, ``down_batch``: correct
    rollouts whose advantage is negative; ``silent``: whether the group has no gradient of its own.
    """
    table = []
    for (task_id, task), part in rows.groupby(["task_id", "task"], sort=True):
        right = part["raw"] > 0
        best = part["reward"].to_numpy().argmax()
        row = {
            "task": task,
            "task_id": task_id,
            "rollouts": len(part),
            "correct": int(part["correct"].sum()),
            "fast": int(part["fast"].sum()),
            "distinct": int(part["fingerprint"].nunique()),
            "lowest": float(part.loc[right, "raw"].min()) if right.any() else NAN,
            "highest": float(part.loc[right, "raw"].max()) if right.any() else NAN,
            "reward": float(part["reward"].mean()),
            "silent": bool((part["group"] == 0).all()),
        }
        for scope in SCOPES:
            row[f"best_{scope}"] = float(part[scope].iloc[best])
            row[f"down_{scope}"] = int(((part[scope] < 0) & right).sum())
        table.append(row)
    return pd.DataFrame(table)


GROUP_COLUMNS = {
    "task": Column("task"),
    "rollouts": Column("rollouts", "d"),
    "correct": Column("correct", "d"),
    "fast": Column("fast", "d"),
    "distinct": Column("distinct", "d"),
    "lowest": Column("lowest", "{:.2f}×", group="speedup of correct ones"),
    "highest": Column("highest", "{:.2f}×", group="speedup of correct ones"),
    "reward": Column("mean reward", ".2f"),
    "best_group": Column("best rollout", "+.2f", group="advantage over the group"),
    "down_group": Column("correct but < 0", "d", group="advantage over the group"),
    "best_batch": Column("best rollout", "+.2f", group="advantage over the batch"),
    "down_batch": Column("correct but < 0", "d", group="advantage over the batch"),
}


def turned(rows: pd.DataFrame) -> int:
    """Rollouts that one scope pushes up and the other down."""
    return int((rows["group"] * rows["batch"] < 0).sum())


def figure(rows: pd.DataFrame) -> alt.FacetChart:
    """Advantage by reward, one panel per task, over the group and over the batch."""
    long = rows.melt(["task", "task_id", "reward"], list(SCOPES), "scope", "advantage").sort_values(
        ["task_id", "scope"]
    )
    long = long.drop_duplicates(["task", "reward", "scope"])
    long["scope"] = long["scope"].map({"group": "over the group", "batch": "over the batch"})
    long = long.sort_values(["task_id", "scope"], ascending=[True, False])
    x, y = Axis("reward", "reward", ".1f"), Axis("advantage", "advantage", "+.0f")
    return strips(long, "task", x, y, "scope", "", reference=0.0)


# -- the update --------------------------------------------------------------------------------------------------


def loss(run: Run, step: int) -> float:
    """The loss of a step's update, from its rollouts alone; NaN where it cannot be said.

    With one update per step the importance ratio is 1, so the *value* of the loss is minus the mean advantage over
    tokens (its gradient is not). Only for loss *dapo* without regularisers, replay or a teacher.
    """
    p = run.manifest["parameters"]
    update = p["update"]
    plain = update["loss"] == "dapo" and not update["kl"] and not update["entropy"] and not p["replay"]["count"]
    if not plain or p["algorithm"] != "grpo":
        return NAN
    rows = judged(run, step)
    return float(-(rows[p["advantages"]["scope"]] * rows["tokens"]).sum() / rows["tokens"].sum())


def updates(run: Run) -> pd.DataFrame:
    """One row per step: what the update saw, recorded and computed again, and what it cost."""
    limit = run.manifest["parameters"]["update"]["max_grad_norm"]
    rows = []
    for record in run.steps.to_dict("records"):
        step, norm = int(record["step"]), _float(record.get("grad_norm"))
        rows.append(
            {
                "step": step,
                "rollouts": int(record["rollouts"]),
                "silent": int(record["silent_groups"]),
                "recorded": _float(record.get("loss")),
                "computed": NAN if record["skipped"] else loss(run, step),
                "norm": norm,
                "clipped": "–" if isnan(norm) else "yes" if norm > limit else "no",
                "entropy": _float(record.get("entropy")),
                "sampling": _float(record.get("sampling_seconds")),
                "evaluation": _float(record.get("evaluation_seconds")),
                "update": _float(record.get("update_seconds")),
            }
        )
    return pd.DataFrame(rows)


UPDATE_COLUMNS = {
    "step": Column("step", "d"),
    "rollouts": Column("rollouts", "d"),
    "silent": Column("silent groups", "d"),
    "recorded": Column("recorded", "+.4f", group="loss"),
    "computed": Column("from the rollouts", "+.4f", group="loss"),
    "norm": Column("gradient norm", ".3f"),
    "clipped": Column("clipped"),
    "entropy": Column("entropy", ".3f", "nats per token"),
    "sampling": Column("sampling", ".0f", "s", group="time"),
    "evaluation": Column("evaluation", ".0f", "s", group="time"),
    "update": Column("update", ".0f", "s", group="time"),
}


def _float(value: object) -> float:
    return NAN if value is None else float(value)  # type: ignore[arg-type]


def agrees(table: pd.DataFrame) -> tuple[int, int]:
    """(updates whose recorded loss is the computed one, updates for which both are known), from `updates`."""
    known = table.dropna(subset=["recorded", "computed"])
    same = [isclose(a, b, abs_tol=1e-4) for a, b in zip(known["recorded"], known["computed"], strict=True)]
    return sum(same), len(known)


# -- what it changed ---------------------------------------------------------------------------------------------


def changed(run: Run, step: int) -> pd.DataFrame:
    """The rollouts of a step and of the next beside each other, one row per task and one for all of them.

    ``correct``, ``fast``: counts; ``distinct``: different candidates; ``up``, ``down``: rollouts that are a copy of a
    candidate whose advantages the update saw as positive, or negative (step 0 beside step 1 of exactly what it pushed);
    ``new``: rollouts of the next step that no rollout of this one equals. Each as ``before`` and ``after``. Raises
    UserError if the run has no next step.
    """
    scope = run.manifest["parameters"]["advantages"]["scope"]
    before, after = judged(run, step), judged(run, step + 1) if (run.samples["step"] == step + 1).any() else None
    if after is None:
        raise UserError(f"The run has no step {step + 1}: name a step before its last.")
    worth = before.groupby(["task", "fingerprint"])[scope].mean()
    rows = []
    for (task_id, task), part in before.groupby(["task_id", "task"], sort=True):
        own = worth.xs(task) if task in worth.index.get_level_values(0) else pd.Series(dtype=float)
        row: dict[str, object] = {"task": task, "task_id": task_id, "rollouts": len(part)}
        for side, table in (("before", part), ("after", after[after["task"] == task])):
            value = table["fingerprint"].map(own)
            row |= {
                f"correct_{side}": int(table["correct"].sum()),
                f"fast_{side}": int(table["fast"].sum()),
                f"distinct_{side}": int(table["fingerprint"].nunique()),
                f"up_{side}": int((value > 0).sum()),
                f"down_{side}": int((value < 0).sum()),
                f"new_{side}": int((table["fingerprint"].notna() & value.isna()).sum()),
            }
        rows.append(row)
    frame = pd.DataFrame(rows)
    total = frame.drop(columns=["task", "task_id"]).sum().to_dict() | {"task": "all", "task_id": np.nan}
    return pd.concat([frame, pd.DataFrame([total])], ignore_index=True)


CHANGED_COLUMNS = {"task": Column("task"), "rollouts": Column("rollouts", "d")}
for _name, _label in (
    ("correct", "correct"),
    ("fast", "fast"),
    ("distinct", "distinct"),
    ("up", "copies of pushed up"),
    ("down", "copies of pushed down"),
):
    CHANGED_COLUMNS |= {
        f"{_name}_before": Column("before", "d", group=_label),
        f"{_name}_after": Column("after", "d", group=_label),
    }
CHANGED_COLUMNS["new_after"] = Column("new after", "d")
