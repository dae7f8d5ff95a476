"""The sentences of appendix C that depend on the data, and the numbers that its prose mentions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vegtts_core.book import published
from vegtts_core.book.compute import METHODS, overhead, paper_once, paper_overhead, step_records
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.runs.budget import Budget

Found = Mapping[str, tuple[Budget, int]]
FEEDBACK, PROMPT_ONLY = "sdpo-feedback", "sdpo-prompt-only"

COMPARED_COLUMNS = {
    "quantity": Column("quantity"),
    "adaptation": Column("adaptation", ",.0f"),
    "sdpo": Column("SDPO, feedback", ",.0f"),
    "ratio": Column("ratio", ".2f"),
    "required": Column("must be equal"),
}


def facts(best_of_n: Run, adaptation: Mapping[str, Run], found: Found) -> dict[str, str]:
    """What the prose of appendix C mentions, by name."""
    paper = published.table("C.1")
    run = next(iter(adaptation.values()))
    parameters = run.manifest["parameters"]
    per_rollout = paper["student_tokens"] / paper["rollouts"]
    completion = float(published.table("5.2-quartiles")["mean_tokens"].mean())
    once, times = paper_once()
    step, whole = found["boa-step-1"][0], found["boa-all"][0]
    return {
        "paper-k1": number(float(per_rollout["rlvr-base"]), ",.0f"),
        "paper-k64": number(float(per_rollout["best-of-n"]), ",.0f"),
        "paper-completion": number(completion, ".0f"),
        "paper-prompt-share": number(1 - completion / float(per_rollout["best-of-n"]), ".0%"),
        "paper-once": number(once / 1e3, ".0f"),
        "paper-times": number(times, ".0f"),
        "paper-rollouts": number(float(paper.at["boa-step-1", "rollouts"]), ".0f"),
        "paper-thousands": number(float(paper.at["boa-step-1", "student_tokens"]) / 1e3, ".0f"),
        "paper-overhead-feedback": number(paper_overhead(FEEDBACK)[0], ".0%"),
        "paper-overhead-prompt-only": number(paper_overhead(PROMPT_ONLY)[0], ".0%"),
        "paper-seeds-bon": number(published.value("headline/seeds-best-of-n/value"), ".0f"),
        "k": str(parameters["k"]),
        "tasks": str(run.samples["task"].nunique()),
        "steps": str(parameters["steps"]),
        "seeds": str(len(adaptation)),
        "bon-rollouts": f"{found['best-of-n'][0].rollouts:,}",
        "bon-k": str(int(best_of_n.samples["sample"].max()) + 1),
        "bon-scaffold": str(best_of_n.manifest["parameters"]["scaffold"]),
        "scaffold": " and ".join(parameters["scaffolds"]),
        "step-rollouts": f"{step.rollouts:,}",
        "all-rollouts": f"{whole.rollouts:,}",
        "machine": f"{run.manifest['machine']['cores']} cores of {run.manifest['machine']['cpu']}",
    }


def budget_text(found: Found) -> str:
    """Rollouts per seed of every method, to the step where the paper counts and of the whole run."""
    parts = [f"{METHODS[name]} {budget.rollouts:,}" for name, (budget, _) in found.items()]
    return "Rollouts per seed: " + "; ".join(parts) + "."


def budget_verdict(found: Found) -> str:
    """Which methods spent as much as each other."""
    at = {METHODS[name]: found[name][0].rollouts for name in ("best-of-n", "boa-step-1", FEEDBACK, PROMPT_ONLY)}
    trained = [rollouts for name, rollouts in at.items() if name != METHODS["best-of-n"]]
    if len(set(at.values())) == 1:
        text = "To step 1 all spent the same number of rollouts."
    elif len(set(trained)) == 1:
        text = (
            "To step 1 the methods that move weights spent the same; Best-of-N did not, and is compared with them only "
            "at the K that costs as much."
        )
    else:
        text = "Even to step 1 budgets differ here: these runs may not be compared."
    whole, part = found["boa-all"][0].rollouts, found["boa-step-1"][0].rollouts
    if whole > part:
        text += (
            f" Best-of-Adaptation takes the best of all steps, and that choice costs {whole / part:.1f} times the "
            "rollouts to step 1, whichever step it returns."
        )
    return text


def overhead_text(found: Found) -> str:
    """Teacher tokens over student tokens, to step 1 and of whole runs."""
    parts = []
    for name, title in ((FEEDBACK, "feedback"), (PROMPT_ONLY, "prompt-only")):
        part, whole = found[name][0], found[f"{name}-all"][0]
        parts.append(f"{title} {number(overhead(part), '.1%')} to step 1, {number(overhead(whole), '.1%')} in all")
    return "; ".join(parts) + "."


def paper_overhead_text() -> str:
    """The same of table C.1, within its rounding."""
    parts = []
    for name, title in ((FEEDBACK, "feedback"), (PROMPT_ONLY, "prompt-only")):
        at, low, high = paper_overhead(name)
        parts.append(f"{title} {number(at, '.1%')} ({number(low, '.1%')} to {number(high, '.1%')} with its rounding)")
    return "“fixed regardless of task difficulty”: " + ", ".join(parts) + "."


def overhead_verdict(found: Found, feedback: Mapping[str, Run]) -> str:
    """Why ours is what it is, and whether it is fixed."""
    part, whole = overhead(found[FEEDBACK][0]), overhead(found[f"{FEEDBACK}-all"][0])
    text = ""
    if whole < part - 1e-9 or part < 0.99:
        text = (
            "Rollouts that only judge the last checkpoint are not scored by a teacher, so the share falls with fewer "
            "updates per judgement. "
        )
    spread = by_task(feedback)
    if not spread:
        return text + "Whether it is fixed per task cannot be told from these records."
    low, high = min(spread.values()), max(spread.values())
    if high - low < 0.005:
        return text + f"Per scored rollout it is the same for all tasks ({number(low, '.1%')})."
    return (
        text + f"Per scored rollout it depends on the task, because errors do: {number(low, '.1%')} to "
        f"{number(high, '.1%')} of the student's tokens."
    )


def by_task(runs: Mapping[str, Run]) -> dict[str, float]:
    """Teacher over student tokens of scored rollouts, per task over runs and steps; empty where not recorded."""
    teacher: dict[str, float] = {}
    student: dict[str, float] = {}
    for run in runs.values():
        for record in step_records(run):
            kept = record.get("distillation")
            for key, part in (kept["tasks"] if isinstance(kept, dict) else {}).items():
                teacher[key] = teacher.get(key, 0) + part["context_tokens"] + part["tokens"]
                student[key] = student.get(key, 0) + part["prompt_tokens"] + part["tokens"]
    return {key: teacher[key] / student[key] for key in teacher}


def once_verdict(saved: Mapping[str, float]) -> str:
    """What follows from ``saved``: counted over computed tokens by method."""
    known = {name: value for name, value in saved.items() if not math.isnan(value)}
    if not known:
        return "Not recorded."
    low, high = min(known.values()), max(known.values())
    if high / low < 1.05:
        return f"Table C.1's way of counting is {number(low, '.1f')} times what has to be computed, for all methods."
    return (
        f"Table C.1's way of counting is {number(low, '.1f')} to {number(high, '.1f')} times what has to be computed, "
        "depending on the method: equal token counts would not mean equal work."
    )


def seconds_verdict(shares: Mapping[str, float]) -> str:
    """What a token count leaves out: ``shares`` of evaluation in device seconds by method."""
    low, high = min(shares.values()), max(shares.values())
    span = number(low, ".0%") if high - low < 0.005 else f"{number(low, '.0%')} to {number(high, '.0%')}"
    return f"Evaluating took {span} of the device's time here, and no token count has it."
