"""Budgets of chapter 3.5: the paper's accounting, and Best-of-N against adaptation here, compared or refused.

Step 0 of seed s writes what Best-of-N with seed s writes, so the step-0 rollouts of two seeds are a Best-of-N of twice
the size by the same policy: what two steps of one seed are to be held against. It adds up records, and estimates
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.errors import UserError
from vegtts_core.runs import Run
from vegtts_core.runs.budget import Budget, compare, sum_steps

NAN = float("nan")

QUANTITIES = {
    "rollouts": "rollouts",
    "student_tokens": "student tokens",
    "teacher_tokens": "teacher tokens",
    "total_tokens": "tokens together",
    "wall_seconds": "wall time, seconds",
    "device_seconds": "device time, seconds",
}


def paper(left: str = "best-of-n", right: str = "boa-step-1") -> pd.DataFrame:
    """Two rows of table C.1 as ``compare`` shows them; it gives no seconds."""
    table = published.table("C.1")

    def budget(row: str) -> Budget:
        return Budget(
            int(table.at[row, "rollouts"]),
            float(table.at[row, "student_tokens"]),
            float(table.at[row, "teacher_tokens"]),
            NAN,
            NAN,
        )

    return compare(budget(left), budget(right), ("search", "adaptation"))


def adaptation(run: Run, step: int) -> Budget:
    """Everything up to and including the rollouts of ``step``: what using checkpoint ``step`` costs.

    The update that follows ``step`` is not part of it.
    """
    records = run.steps.to_dict("records")
    last = next((r for r in records if r["step"] == step), {})
    spent, after = sum_steps(records, step), _after_sampling(last)
    return Budget(
        spent.rollouts,
        spent.student_tokens,
        spent.teacher_tokens,
        spent.wall_seconds - after,
        spent.device_seconds - after,
    )


def search(runs: list[Run]) -> Budget:
    """The step-0 rollouts of several seeds, sampled and judged, without any update: Best-of-N by the same policy."""
    total = Budget(0, 0, 0, 0.0, 0.0)
    for run in runs:
        total += adaptation(run, 0)
    return total


def _after_sampling(record: Mapping[str, object]) -> float:
    """Seconds of a step that preparing and making its update took."""
    values = (record.get("preparing_seconds"), record.get("update_seconds"))
    return float(sum(float(v) for v in values if v is not None and v == v))  # type: ignore[arg-type]


def table(runs: Mapping[str, Run], step: int = 1) -> pd.DataFrame:
    """The paper's comparison and ours: columns quantity, and search, adaptation and ratio of either.

    Ours has dashes where the run has no ``step`` or there are too few seeds (`reason` says which).
    """
    theirs = paper().assign(quantity=lambda t: t["quantity"].map(QUANTITIES))
    frame = theirs[["quantity", "search", "adaptation", "ratio"]].rename(columns=lambda c: f"paper_{c}")
    frame = frame.rename(columns={"paper_quantity": "quantity"})
    ours = here(runs, step)
    for name in ("search", "adaptation", "ratio"):
        frame[f"here_{name}"] = NAN if ours is None else ours[name].to_numpy(dtype=float)
    return frame


TABLE_COLUMNS = {"quantity": Column("quantity")}
for _side, _group in (("paper", "published"), ("here", "measured here")):
    TABLE_COLUMNS |= {
        f"{_side}_search": Column("Best-of-N", ",.0f", group=_group),
        f"{_side}_adaptation": Column("steps 0 and 1", ",.0f", group=_group),
        f"{_side}_ratio": Column("ratio", ".2f", group=_group),
    }


def here(runs: Mapping[str, Run], step: int = 1) -> pd.DataFrame | None:
    """``compare``'s table of ``step + 1`` seeds' step 0 against steps 0 to ``step`` of the first seed, or None."""
    if reason(runs, step):
        return None
    listed = list(runs.values())
    return compare(search(listed[: step + 1]), adaptation(listed[0], step), ("search", "adaptation"))


def reason(runs: Mapping[str, Run], step: int = 1) -> str:
    """Why there is no comparison at equal budgets, as a sentence; empty if there is one."""
    listed = list(runs.values())
    if not listed[0].steps["step"].eq(step).any():
        return f"The run has no step {step}, so there is nothing to hold against Best-of-N."
    if len(listed) <= step:
        return (
            f"With {number(len(listed), 'd')} seed there is no second set of step-0 rollouts to make a Best-of-N of "
            "equal size from: run another seed."
        )
    try:
        compare(search(listed[: step + 1]), adaptation(listed[0], step), ("search", "adaptation"))
    except UserError as problem:
        return str(problem)
    return ""


def refusal(run: Run, step: int = 1) -> str:
    """What ``compare`` answers to step 0 alone against steps 0 to ``step``: its sentence, or empty if it agrees."""
    if not run.steps["step"].eq(step).any():
        return reason({"run": run}, step)
    try:
        compare(adaptation(run, 0), adaptation(run, step), ("Best-of-N with K", f"checkpoint {step} with 2 K"))
    except UserError as problem:
        return str(problem)
    return ""
