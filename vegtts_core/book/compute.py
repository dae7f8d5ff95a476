"""The tables of appendix C: what each method cost beside table C.1, and what equal budgets mean.

It reads compute records of runs and the published table; it estimates nothing that was not recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.tables import Column
from vegtts_core.errors import UserError
from vegtts_core.runs import Run
from vegtts_core.runs.budget import Budget, On, compare, sum_steps

METHODS = {
    "rlvr-base": "policy without adaptation (K = 1)",
    "best-of-n": "Best-of-N",
    "boa-step-1": "adaptation, to step 1",
    "boa-all": "adaptation, all steps",
    "sdpo-feedback": "SDPO, feedback, to step 1",
    "sdpo-feedback-all": "SDPO, feedback, all steps",
    "sdpo-prompt-only": "SDPO, prompt-only, to step 1",
    "sdpo-prompt-only-all": "SDPO, prompt-only, all steps",
}

TOKEN_COLUMNS = {
    "name": Column("method"),
    "published.rollouts": Column("rollouts", ",.0f", group="published"),
    "published.student_tokens": Column("student", ",.0f", "thousand", "published"),
    "published.teacher_tokens": Column("teacher", ",.0f", "thousand", "published"),
    "published.per_rollout": Column("per rollout", ",.0f", "tokens", "published"),
    "rollouts": Column("rollouts", ",.0f", group="measured here"),
    "student_tokens": Column("student", ",.0f", "thousand", "measured here"),
    "teacher_tokens": Column("teacher", ",.0f", "thousand", "measured here"),
    "per_rollout": Column("per rollout", ",.0f", "tokens", "measured here"),
    "runs": Column("seeds", ".0f", group="measured here"),
}

SECOND_COLUMNS = {
    "name": Column("method"),
    "rollouts": Column("rollouts", ",.0f"),
    "sampling": Column("sampling", ",.0f", "s"),
    "evaluation": Column("evaluation", ",.0f", "s"),
    "preparing": Column("scoring by the teacher", ",.1f", "s"),
    "update": Column("update", ",.0f", "s"),
    "wall": Column("wall", ",.0f", "s"),
    "device": Column("device", ",.0f", "s"),
    "per_rollout": Column("per rollout", ".2f", "device s"),
}

ONCE_COLUMNS = {
    "name": Column("method"),
    "student": Column("as in C.1", ",.1f", "thousand tokens", "student"),
    "student_once": Column("prompts once", ",.1f", "thousand tokens", "student"),
    "teacher": Column("as in C.1", ",.1f", "thousand tokens", "teacher"),
    "teacher_once": Column("contexts once", ",.1f", "thousand tokens", "teacher"),
    "saved": Column("counted / computed", "{:.1f}×"),
}

_PHASES = ("sampling", "evaluation", "preparing", "update")


def step_records(run: Run) -> list[dict[str, Any]]:
    """A run's steps as compute records."""
    return [{str(key): value for key, value in row.items()} for row in run.steps.to_dict("records")]


def single_seed(run: Run) -> Budget:
    """A Best-of-N run's budget per seed."""
    seeds = run.samples["seed"].nunique()
    total = Budget.from_compute(run.compute)
    parts = (total.student_tokens, total.teacher_tokens, total.wall_seconds, total.device_seconds)
    return Budget(round(total.rollouts / seeds), *(part / seeds for part in parts))


def to_step(run: Run, step: int = 1) -> Budget:
    """Budget of an adaptation run up to ``step``, or to its last one if it has fewer."""
    return sum_steps(step_records(run), min(step, int(run.steps["step"].max())))


def mean_budget(budgets: Sequence[Budget]) -> Budget:
    """The mean over runs, as table C.1 gives it."""
    total = budgets[0]
    for budget in budgets[1:]:
        total += budget
    n = len(budgets)
    parts = (total.student_tokens, total.teacher_tokens, total.wall_seconds, total.device_seconds)
    return Budget(round(total.rollouts / n), *(part / n for part in parts))


def budgets(best_of_n: Run, families: Mapping[str, Mapping[str, Run]]) -> dict[str, tuple[Budget, int]]:
    """Mean budget and number of seeds per method of ``METHODS``; ``families`` by the names of table C.1."""
    found = {"best-of-n": (single_seed(best_of_n), int(best_of_n.samples["seed"].nunique()))}
    for method, runs in families.items():
        part = [to_step(run) for run in runs.values()]
        whole = [Budget.from_compute(run.compute) for run in runs.values()]
        every = method.replace("-step-1", "") + "-all"
        found |= {method: (mean_budget(part), len(part)), every: (mean_budget(whole), len(whole))}
    return found


def token_table(found: Mapping[str, tuple[Budget, int]]) -> pd.DataFrame:
    """Table C.1 beside ours; columns of ``TOKEN_COLUMNS``."""
    paper = published.table("C.1")
    rows = []
    for method, name in METHODS.items():
        if method not in found and method not in paper.index:
            continue
        row: dict[str, Any] = {"name": name}
        if method in paper.index:
            theirs = paper.loc[method]
            row |= {"published.rollouts": theirs["rollouts"]}
            row |= {f"published.{side}_tokens": theirs[f"{side}_tokens"] / 1e3 for side in ("student", "teacher")}
            row |= {"published.per_rollout": theirs["student_tokens"] / theirs["rollouts"]}
        if method in found:
            budget, runs = found[method]
            row |= {"runs": runs, "rollouts": budget.rollouts, "student_tokens": budget.student_tokens / 1e3}
            row |= {"teacher_tokens": budget.teacher_tokens / 1e3}
            row |= {"per_rollout": budget.student_tokens / budget.rollouts}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(TOKEN_COLUMNS))


def second_table(best_of_n: Run, families: Mapping[str, Mapping[str, Run]]) -> pd.DataFrame:
    """Where the time went: whole runs, means over seeds; columns of ``SECOND_COLUMNS``."""
    seeds = best_of_n.samples["seed"].nunique()
    rows = [_seconds("best-of-n", [best_of_n.compute], seeds)]
    for method, runs in families.items():
        name = method.replace("-step-1", "") + "-all"
        rows.append(_seconds(name, [run.compute for run in runs.values()], len(runs)))
    return pd.DataFrame(rows, columns=list(SECOND_COLUMNS))


def _seconds(method: str, computes: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    def mean(name: str) -> float:
        known = [compute[name] for compute in computes if name in compute]
        return sum(known) / n if known else math.nan

    row: dict[str, Any] = {phase: mean(f"{phase}_seconds") for phase in _PHASES}
    row |= {"name": METHODS[method], "rollouts": mean("rollouts"), "wall": mean("wall_seconds")}
    row["device"] = mean("device_seconds")
    return row | {"per_rollout": row["device"] / row["rollouts"]}


def prompts_once(run: Run) -> tuple[float, float]:
    """Student and teacher tokens of a run with equal prompts of a step counted once, for one seed.

    Teacher tokens are NaN where contexts were not recorded.
    """
    if "prompt_tokens_computed" in run.compute:  # Best-of-N; every seed computes its prompts
        seeds = run.samples["seed"].nunique()
        return (run.compute["prompt_tokens_computed"] + run.compute["completion_tokens"]) / seeds, 0.0
    k = run.manifest["parameters"]["k"]
    student = run.compute["prompt_tokens"] / k + run.compute["completion_tokens"]
    teacher = 0.0
    for record in step_records(run):
        if record["teacher_tokens"]:
            kept = record.get("distillation")
            contexts = kept["all"].get("distinct_context_tokens", math.nan) if isinstance(kept, dict) else math.nan
            teacher += contexts + record["completion_tokens"]
    return student, teacher


def once_table(best_of_n: Run, families: Mapping[str, Mapping[str, Run]]) -> pd.DataFrame:
    """What counting a prompt once per group changes, whole runs, means over seeds; columns of ``ONCE_COLUMNS``."""
    rows = []
    first = single_seed(best_of_n)
    entries = [("best-of-n", [(first, prompts_once(best_of_n))])]
    for method, runs in families.items():
        name = method.replace("-step-1", "") + "-all"
        entries.append((name, [(Budget.from_compute(run.compute), prompts_once(run)) for run in runs.values()]))
    for method, found in entries:
        whole = mean_budget([budget for budget, _ in found])
        student, teacher = (sum(once[side] for _, once in found) / len(found) for side in (0, 1))
        row = {"name": METHODS[method], "student": whole.student_tokens / 1e3, "student_once": student / 1e3}
        row |= {"teacher": whole.teacher_tokens / 1e3, "teacher_once": teacher / 1e3}
        computed = student + teacher
        rows.append(row | {"saved": whole.total_tokens / computed if computed else math.nan})
    return pd.DataFrame(rows, columns=list(ONCE_COLUMNS))


def paper_once(k: int = 32, steps: int = 2) -> tuple[float, float]:
    """(tokens of table C.1's adaptation with prompts counted once, the table's over those).

    Completions are the mean of the four quartiles of section 5.2; ``steps`` of ``k`` rollouts per task make 320.
    """
    row = published.table("C.1").loc["boa-step-1"]
    completion = float(published.table("5.2-quartiles")["mean_tokens"].mean())
    prompts = float(row["student_tokens"]) - completion * float(row["rollouts"])
    once = prompts / k + completion * float(row["rollouts"])
    return once, float(row["student_tokens"]) / once


def overhead(budget: Budget) -> float:
    """Teacher tokens over student tokens."""
    return budget.teacher_tokens / budget.student_tokens


def paper_overhead(method: str) -> tuple[float, float, float]:
    """The same of table C.1, with the least and the most that its rounding to thousands allows."""
    row = published.table("C.1").loc[method]
    teacher, student = float(row["teacher_tokens"]), float(row["student_tokens"])
    return teacher / student, (teacher - 500) / (student + 500), (teacher + 500) / (student - 500)


def attempt(left: Budget, right: Budget, names: tuple[str, str], on: On = On.ROLLOUTS) -> str:
    """What `vegtts_core.runs.budget.compare` says of two budgets: its refusal, or that it compares them."""
    call = f">>> compare({names[0].replace(' ', '_')}, {names[1].replace(' ', '_')}, on={on.value!r})"
    try:
        compare(left, right, names, on=on)
    except UserError as refusal:
        return f"{call}\nUserError: {refusal}"
    return f"{call}\n(compared: equal in {'rollouts' if on is On.ROLLOUTS else 'rollouts and tokens'})"


def compared(left: Budget, right: Budget, names: tuple[str, str]) -> pd.DataFrame:
    """`compare`'s table with words for its last column; without rows where it refuses."""
    try:
        frame = compare(left, right, names)
    except UserError:
        return pd.DataFrame(columns=["quantity", *names, "ratio", "required"])
    frame["quantity"] = [name.replace("_", " ") for name in frame["quantity"]]
    return frame.assign(required=["yes" if required else "" for required in frame["required"]])
