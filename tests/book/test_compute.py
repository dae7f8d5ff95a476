"""Appendix C's tables: budgets to a step and of whole runs, prompts counted once, refusals, and sentences."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from made_tables import grid

from vegtts_core.book import compute
from vegtts_core.book import compute_words as words
from vegtts_core.runs import Run
from vegtts_core.runs.budget import Budget, On


def adapted(tmp_path, teacher=0, distinct=None, steps=2, k=4):
    """``steps`` updates and a judged last checkpoint: 2 tasks, prompts of 100 tokens, answers of 5."""
    rows = []
    for step in range(steps + 1):
        last = step == steps
        row: dict[str, Any] = {"step": step, "rollouts": 2 * k, "prompt_tokens": 200 * k, "completion_tokens": 10 * k}
        row |= {"student_tokens": 210 * k, "teacher_tokens": 0 if last else teacher * 2 * k}
        row |= {"wall_seconds": 1.0, "device_seconds": 1.0}
        if distinct and not last:
            part = {"context_tokens": (teacher - 5) * k, "tokens": 5 * k, "prompt_tokens": 100 * k}
            other = part | {"context_tokens": (teacher + 15) * k}
            row["distillation"] = {"all": {"distinct_context_tokens": distinct}, "tasks": {"a": part, "b": other}}
        rows.append(row)
    whole = {name: sum(row[name] for row in rows) for name in rows[0] if name not in ("step", "distillation")}
    whole |= {f"{phase}_seconds": float(steps + 1) / 4 for phase in ("sampling", "evaluation", "preparing", "update")}
    parameters = {"k": k, "steps": steps, "scaffolds": ["template"], "seed": 42}
    manifest = {"parameters": parameters, "machine": {"cores": 2, "cpu": "a CPU"}}
    return Run(tmp_path, manifest, grid([1, 1], k, (42,)), whole, pd.DataFrame(), pd.DataFrame(rows))


def sampled(tmp_path, k=8):
    """A Best-of-N run of two seeds."""
    cost = {
        "rollouts": 4 * k,
        "student_tokens": 420 * k,
        "teacher_tokens": 0,
        "wall_seconds": 8.0,
        "device_seconds": 8.0,
    }
    cost |= {"prompt_tokens_computed": 400, "completion_tokens": 20 * k, "sampling_seconds": 6.0}
    cost |= {"evaluation_seconds": 2.0}
    return Run(tmp_path, {"parameters": {"scaffold": "forward"}}, grid([1, 1], k), cost, pd.DataFrame())


def everything(tmp_path):
    families = {
        "boa-step-1": {"a": adapted(tmp_path), "b": adapted(tmp_path)},
        "sdpo-feedback": {"c": adapted(tmp_path, 120, 500)},
        "sdpo-prompt-only": {"d": adapted(tmp_path, 110, 210)},
    }
    return sampled(tmp_path), families


def test_budgets_to_step_1_and_of_all_steps(tmp_path):
    best_of_n, families = everything(tmp_path)
    found = compute.budgets(best_of_n, families)
    assert found["best-of-n"] == (Budget(16, 1680, 0, 4.0, 4.0), 2)
    assert found["boa-step-1"] == (Budget(16, 1680, 0, 2.0, 2.0), 2)
    assert found["boa-all"][0].rollouts == 24 and found["sdpo-feedback-all"][0].teacher_tokens == 2 * 8 * 120
    table = compute.token_table(found).set_index("name")
    assert table.loc["SDPO, feedback, to step 1", "published.student_tokens"] == 314
    assert table.loc["Best-of-N", "per_rollout"] == 105
    assert math.isnan(table.loc["adaptation, all steps", "published.rollouts"])


def test_prompts_once(tmp_path):
    best_of_n, families = everything(tmp_path)
    assert compute.prompts_once(best_of_n) == ((400 + 160) / 2, 0.0)
    assert compute.prompts_once(families["boa-step-1"]["a"]) == (600 + 120, 0.0)
    assert compute.prompts_once(families["sdpo-prompt-only"]["d"]) == (720, 2 * (210 + 40))
    assert math.isnan(compute.prompts_once(adapted(tmp_path, 110))[1])
    once = compute.once_table(best_of_n, families).set_index("name")
    assert once.loc["adaptation, all steps", "saved"] == pytest.approx(2520 / 720)
    assert "depending on the method" in words.once_verdict({"a": 3.5, "b": float(once["saved"].min())})
    assert "for all methods" in words.once_verdict({"a": 2.0, "b": 2.01})
    assert words.once_verdict({"a": math.nan}) == "Not recorded."


def test_the_papers_tokens_are_prompts():
    once, times = compute.paper_once()
    assert 20 < times < 30 and once == pytest.approx(313000 / times)
    at, low, high = compute.paper_overhead("sdpo-feedback")
    assert low < 1.08 < high + 1e-3 and at == pytest.approx(338 / 314)


def test_seconds(tmp_path):
    found = compute.second_table(*everything(tmp_path)).set_index("name")
    assert found.loc["Best-of-N", "sampling"] == 3.0 and math.isnan(found.loc["Best-of-N", "update"])
    assert found.loc["Best-of-N", "per_rollout"] == 0.25
    assert found.loc["adaptation, all steps", "update"] == 0.75
    assert "25%" in words.seconds_verdict({"a": 0.25, "b": 0.25})
    assert "10% to 25%" in words.seconds_verdict({"a": 0.25, "b": 0.1})


def test_refusals():
    left, right = Budget(16, 100, 0, 1, 1), Budget(16, 100, 90, 1, 1)
    assert "(compared" in compute.attempt(left, right, ("a b", "c"))
    assert "UserError: The budgets differ in total tokens" in compute.attempt(left, right, ("a", "b"), On.TOKENS)
    refused = compute.attempt(left, replace(right, rollouts=17), ("a", "b"))
    assert "compare(a, b, on='rollouts')" in refused and "16 for a and 17 for b" in refused
    assert compute.compared(left, right, ("a", "b"))["required"].iloc[0] == "yes"
    assert compute.compared(left, replace(right, rollouts=17), ("a", "b")).empty


def test_verdicts_follow_the_budgets(tmp_path):
    best_of_n, families = everything(tmp_path)
    found = compute.budgets(best_of_n, families)
    assert "all spent the same" in words.budget_verdict(found) and "1.5 times" in words.budget_verdict(found)
    bigger = compute.budgets(sampled(tmp_path, 16), families)
    assert "Best-of-N did not" in words.budget_verdict(bigger)
    unequal = found | {"sdpo-feedback": (Budget(9, 1, 1, 1, 1), 1)}
    assert "may not be compared" in words.budget_verdict(unequal)
    shares = words.by_task(families["sdpo-feedback"])
    assert shares == {"a": pytest.approx(120 / 105), "b": pytest.approx(140 / 105)}
    assert "114.3% to 133.3%" in words.overhead_verdict(found, families["sdpo-feedback"])
    assert "cannot be told" in words.overhead_verdict(found, families["boa-step-1"])
    facts = words.facts(best_of_n, families["boa-step-1"], found)
    assert facts["paper-k1"] == "800" and facts["paper-k64"] == "978" and facts["step-rollouts"] == "16"
