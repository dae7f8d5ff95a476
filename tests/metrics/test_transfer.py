"""Transfer to other tasks, and the paper's own control."""

import numpy as np
import pytest
from adaptation_tables import adapted

from vegtts_core import metrics, statistics
from vegtts_core.book import published


def test_conditions_and_paired_differences_by_hand():
    found = metrics.measure_transfer(
        adapted([[0, 2, 1]], seeds=(1, 2)), adapted([[1, 2, 3]]), adapted([[4, 4, 8]], 8), "published"
    )
    assert found.tasks.to_numpy().tolist() == [[0, 0.25, 0.5], [0.5, 0.5, 0.5], [0.25, 0.75, 1]]
    conditions = found.conditions.set_index("condition")
    assert conditions["sample_fast_p"].tolist() == pytest.approx([0.25, 0.5, 2 / 3])
    assert conditions[["samples", "tasks", "seeds"]].to_numpy().tolist() == [[24, 3, 2], [12, 3, 1], [24, 3, 1]]
    rows = found.differences.set_index(["first", "second"])
    against = rows.loc[("adapted", "base")]
    same = statistics.mean_interval([-0.25, 0, -0.5], [0, 1, 2])
    assert against[["difference", "low", "high"]].tolist() == [same.estimate, same.low, same.high]
    assert against[["better", "worse", "p_value", "tasks"]].tolist() == [0, 2, 0.5, 3]
    assert rows.loc[("best_of_n", "base"), "better"] == 2


def test_the_interval_is_paired():
    # Tasks differ by far more than the conditions do.
    base, other = [[1, 16, 31, 8, 24]], [[0, 15, 30, 7, 23]]
    found = metrics.measure_transfer(adapted(other, 32), adapted(base, 32), None, "sound")
    row = found.differences.iloc[0]
    assert row[["low", "high"]].tolist() == pytest.approx([-1 / 32] * 2)
    conditions = found.conditions.set_index("condition")
    assert conditions.loc["base", "high"] - conditions.loc["base", "low"] > 0.3
    assert len(found.differences) == 1 and row["smallest_p"] == 2 / 32


def test_unlike_tasks_are_refused_and_equal_ones_cannot_be_tested():
    with pytest.raises(ValueError, match="only one has level1/2"):
        metrics.measure_transfer(adapted([[1, 1]]), adapted([[1, 1, 1]]), None, "published")
    found = metrics.measure_transfer(adapted([[1, 1]]), adapted([[1, 1]]), None, "published").differences.iloc[0]
    assert (found["difference"], found["better"], found["worse"]) == (0, 0, 0) and np.isnan(found["p_value"])


def test_the_papers_base_and_best_of_n_are_too_far_apart_for_one_policy():
    # Step 0 of BoA and Best-of-N on subset 2 sample one policy in one way: 160 and 320 rollouts of one share.
    base, many = (published.value(f"5.4-budget/{row}/fast_1") for row in ("boa-step-0", "best-of-n"))
    pooled = (160 * base + 320 * many) / 480
    z = (many - base) / np.sqrt(pooled * (1 - pooled) * (1 / 160 + 1 / 320))
    assert z > 4
    # On subset 1 they agree.
    base, many = published.value("5.3-trajectory/0/fast_1"), published.value("4.4/1/best_of_n_fast_1")
    assert abs(many - base) < 2 * np.sqrt(0.4 * 0.6 * (1 / 160 + 1 / 640))
