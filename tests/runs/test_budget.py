"""Budgets: added up, cut at a step, compared, refused."""

import numpy as np
import pytest
from adaptation_tables import adapted
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.book import published
from vegtts_core.errors import UserError
from vegtts_core.project import find_project_root
from vegtts_core.runs.budget import Budget, On, at_step, compare, sum_steps
from vegtts_core.runs.store import load_run

ONE = Budget(320, 313_000, 0, 10.0, 8.0)


def test_a_recorded_run_and_its_samples_say_the_same():
    run = load_run(find_project_root() / "data" / "runs" / "best_of_n_cpu_forward_025")
    recorded = Budget.from_compute(run.compute)
    counted = at_step(run.samples, 0)
    assert counted.rollouts == recorded.rollouts
    completions = at_step(run.samples, 0, dict.fromkeys(run.samples["task"].unique(), 0))
    assert completions.student_tokens == run.compute["completion_tokens"]
    assert np.isnan([counted.student_tokens, counted.wall_seconds]).all()


def test_the_papers_320_rollouts_are_step_1():
    samples = adapted([[0] * 5] * 3, k=32, seeds=(42, 43))
    prompts = {f"level1/{task}": 100 + task for task in range(5)}
    budget = at_step(samples, 1, prompts, seed=42)
    assert budget.rollouts == published.value("C.1/boa-step-1/rollouts") == 320
    assert budget.student_tokens == 320 * (102 + 10) and budget.teacher_tokens == 0
    assert at_step(samples, 2).rollouts == 2 * 480
    with pytest.raises(UserError, match="no step 3 of seed 42"):
        at_step(samples, 3, seed=42)
    with pytest.raises(UserError, match="not known for level1/4"):
        at_step(samples, 0, {f"level1/{task}": 1 for task in range(4)})


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.data())
def test_steps_add_up(rollouts, data):
    last = data.draw(st.integers(0, len(rollouts) - 1))
    records = [
        {
            "step": s,
            "rollouts": n,
            "student_tokens": 3 * n,
            "teacher_tokens": n,
            "wall_seconds": 0.5,
            "device_seconds": 0.25,
        }
        for s, n in enumerate(rollouts)
    ]
    found = sum_steps(reversed(records), last)
    n = sum(rollouts[: last + 1])
    assert found == Budget(n, 3 * n, n, 0.5 * (last + 1), 0.25 * (last + 1)) and found.total_tokens == 4 * n
    with pytest.raises(UserError, match=f"no record of step {len(rollouts)}"):
        sum_steps(records, len(rollouts))
    with pytest.raises(UserError, match="lacks student_tokens"):
        sum_steps([{k: v for k, v in r.items() if k != "student_tokens"} for r in records], last)


def test_both_sides_are_shown():
    table = compare(ONE, Budget(320, 314_000, 338_000, 20.0, np.nan), ("Best-of-N", "SDPO")).set_index("quantity")
    assert table.loc["total_tokens", ["Best-of-N", "SDPO"]].tolist() == [313_000, 652_000]
    assert table.loc["wall_seconds", "ratio"] == 0.5
    assert table.loc["teacher_tokens", "ratio"] == 0 and np.isnan(table.loc["device_seconds", "ratio"])
    assert np.isnan(compare(ONE, ONE, ("a", "b"))["ratio"].iloc[2]), "0 of 0"
    assert table["required"].tolist() == [True] + [False] * 5


def test_unequal_budgets_are_refused_in_one_sentence():
    names = ("Best-of-N", "SDPO")
    with pytest.raises(
        UserError, match=r"^The budgets differ in rollouts, 320 for Best-of-N and 1,280 for SDPO: [^.]*\.$"
    ):
        compare(ONE, Budget(1280, 0, 0, 0, 0), names)
    teacher = Budget(320, 314_000, 338_000, 0, 0)
    compare(ONE, teacher, names)
    with pytest.raises(UserError, match="total tokens, 313,000 for Best-of-N and 652,000 for SDPO"):
        compare(ONE, teacher, names, on="tokens")
    with pytest.raises(UserError, match="total tokens, 313,000 for Best-of-N and unknown for SDPO"):
        compare(ONE, at_step(adapted([[0] * 5] * 2, k=32), 1), names, on=On.TOKENS)
    with pytest.raises(ValueError, match="two names"):
        compare(ONE, ONE, ("one", "one"))
    with pytest.raises(ValueError, match="calories"):
        compare(ONE, ONE, names, on="calories")


def test_tolerance_is_a_share_of_the_larger_side():
    near, names = Budget(304, 1, 0, 0, 0), ("left", "right")
    for left, right in ((ONE, near), (near, ONE)):
        compare(left, right, names, tolerance=0.05)
        with pytest.raises(UserError):
            compare(left, right, names, tolerance=0.049)
