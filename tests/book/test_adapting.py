"""Chapter 3.4's helpers: rewards and advantages made again, whose score is whose, budgets, and sentences."""

import numpy as np
import pandas as pd
import pytest
from adapted_runs import family, made_run

from vegtts_core.book import adapting, adapting_budget, adapting_step, published
from vegtts_core.book import adapting_words as words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.errors import UserError


def series(*values):
    return pd.Series(values, index=range(len(values)), dtype=float)


# -- whose score is whose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "returned", "filed", "own"),
    [
        ((0.4, 0.5, 0.3), 2, 0.5, 0.3),
        ((0.5, 0.4, 0.3), 0, 0.5, 0.5),
        ((0.1, 0.2, 0.9), 2, 0.2, 0.9),  # the last checkpoint's own rollouts are never drawn by the letter
    ],
)
def test_the_letter_of_algorithm_1_returns_the_checkpoint_after_the_best(scores, returned, filed, own):
    assert adapting.as_printed(series(*scores)) == (returned, filed, own)


def test_the_paper_s_trajectory_by_the_letter_returns_what_it_calls_regressed():
    table = adapting.misfiled({adapting.PAPER: adapting.scores_of({})[adapting.PAPER]}).iloc[0]
    assert (table["step"], table["printed_step"]) == (2, 3)
    assert table["own"] == float(published.value("5.3-trajectory/3/fast_1")) < table["filed"]
    assert "step 3 in place of 2" in words.misfiled_text(pd.DataFrame([table]), True)


def test_misfiled_verdict_counts_runs_and_names_luck():
    found = adapting.misfiled({"seed 42": series(0.1, 0.4, 0.2), "seed 43": series(0.5, 0.1, 0.1)})
    text = words.misfiled_verdict(found)
    assert "In 1 of 2 runs" in text and "lower by 20.0 points" in text
    assert "by luck" in words.misfiled_verdict(adapting.misfiled({"seed 43": series(0.5, 0.1, 0.1)}))


def test_books_have_every_checkpoint_once_here():
    table = adapting.bookkeeping(2)
    assert list(table["printed"]) == ["θ~0~ and θ~1~", "θ~2~", "not sampled"]
    assert list(table["budget"]) == [1, 2, 3] and list(table["here"]) == list(table["writer"])


def test_patience_one_fails_on_the_paper_s_isolated_task_14_alone():
    stops = adapting.stops(adapting.paper_isolated()).set_index("source")
    assert list(stops.index[stops["lost_1"] > 0]) == ["paper, isolated task 14"]
    row = stops.loc["paper, isolated task 14"]
    assert (row["returned_1"], row["stopped_1"], row["best"]) == (0, 1, 4)
    assert row["lost_1"] == pytest.approx(0.563 - 0.375)
    assert (stops["best"] == published.table("5.3-isolated")["boa_step"].to_numpy()).all()
    text = words.stops_verdict(stops.reset_index(), adapting.stops({"seed 42": series(0.1, 0.3)}))
    assert "isolated task 14" in text and "misses in none of 1" in text


# -- one step ----------------------------------------------------------------------------------------------------


def test_advantages_over_the_group_and_over_the_batch():
    rows = adapting_step.judged(made_run([[2, 0], [2, 0]], k=4, wrong=1, rewards={"measure": "raw"}), 0)
    rewards = np.array([2.0, 2.0, 0.5, 0.0, 0.5, 0.5, 0.5, 0.0])
    assert rows["reward"].to_numpy() == pytest.approx(rewards)
    for at in (0, 4):
        group = rewards[at : at + 4]
        expected = (group - group.mean()) / (group.std(ddof=1) + 1e-4)
        assert rows["group"].to_numpy()[at : at + 4] == pytest.approx(expected)
    batch = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    assert rows["batch"].to_numpy() == pytest.approx(batch)
    table = adapting_step.groups(rows)
    # Over the batch the second task's correct rollouts are all pushed down, over its group up.
    assert list(table["down_batch"]) == [1, 3] and list(table["down_group"]) == [1, 0]
    assert adapting_step.turned(rows) == 3
    assert "even the best rollout of task 1 is pushed down" in words.scopes_verdict(rows)
    assert "3 rollouts of 8 change sign" in words.scopes(rows)


def test_baselines_come_from_the_steps_before():
    run = made_run([[4], [2]], k=4)
    # Step 0's median is 2, so a slow correct rollout of step 1 (0.5x) is worth a quarter and a fast one 1.
    assert sorted(adapting_step.judged(run, 1)["reward"]) == pytest.approx([0.25, 0.25, 1.0, 1.0])


def test_groups_without_a_gradient_are_named():
    rows = adapting_step.judged(made_run([[4, 2], [4, 2]], k=4), 0)
    table = adapting_step.groups(rows)
    assert list(table["silent"]) == [True, False]
    assert words.silent(table) == "Here task 0 gives none: its rollouts are all worth the same."
    none = adapting_step.groups(adapting_step.judged(made_run([[0, 0], [0, 0]], k=4, wrong=4), 0))
    assert "none of their rollouts is correct" in words.silent(none)
    # A group of equal rewards that differ from the batch's mean is pushed as a whole.
    pushed = adapting_step.judged(made_run([[0, 2], [0, 2]], k=4, rewards={"measure": "raw"}), 0)
    assert "every rollout of task 0 is pushed alike" in words.scopes_verdict(pushed)


def test_the_loss_is_minus_the_mean_advantage_over_tokens():
    run = made_run([[2, 1], [2, 1]], k=4)
    run.samples["tokens"] = range(len(run.samples))
    rows = adapting_step.judged(run, 0)
    expected = -(rows["group"] * rows["tokens"]).sum() / rows["tokens"].sum()
    assert adapting_step.loss(run, 0) == pytest.approx(expected) != 0
    run.steps.loc[0, "loss"] = expected
    table = adapting_step.updates(run)
    assert adapting_step.agrees(table) == (1, 1) and list(table["clipped"]) == ["yes", "–"]
    run.steps.loc[0, "loss"] = expected + 0.01
    wrong = adapting_step.updates(run)
    assert adapting_step.agrees(wrong) == (0, 1) and "In 0 of 1 updates" in words.loss_verdict(wrong)


def test_what_changed_counts_copies_of_what_was_pushed():
    run = made_run([[2, 2], [4, 1]], k=4)
    table = adapting_step.changed(run, 0)
    total = table.iloc[-1]
    # fast0, fast1 were pushed up and slow2, slow3 down; step 1 adds fast2, fast3 (new) and slow1.
    assert (total["up_before"], total["up_after"]) == (4, 3)
    assert (total["down_before"], total["down_after"], total["new_after"]) == (4, 2, 3)
    assert (total["fast_before"], total["fast_after"]) == (4, 5)
    assert "drawn less often than before" in words.changed_verdict(table) and "overlap" in words.changed_verdict(table)
    with pytest.raises(UserError, match="no step 2"):
        adapting_step.changed(run, 1)


def test_a_large_change_does_not_overlap():
    run = made_run([[1], [1]], k=64)
    after = run.samples["step"] == 1
    run.samples.loc[after, "fingerprint"] = "fast0"
    assert "do not overlap" in words.changed_verdict(adapting_step.changed(run, 0))


# -- budgets -----------------------------------------------------------------------------------------------------


def test_best_of_n_is_step_0_of_two_seeds():
    runs = family([[[1, 1], [1, 1], [1, 1]]] * 2)
    table = adapting_budget.here(runs).set_index("quantity")
    assert (table.at["rollouts", "search"], table.at["rollouts", "adaptation"]) == (16, 16)
    # Without any update on one side, with the one between steps 0 and 1 on the other.
    assert (table.at["wall_seconds", "search"], table.at["wall_seconds", "adaptation"]) == (30.0, 32.0)
    assert "16 rollouts each" in words.budget_text(runs) and "1.07 times the time" in words.budget_verdict(runs)
    assert not adapting_budget.reason(runs)


def test_unequal_budgets_are_refused_with_a_sentence():
    runs = family([[[1, 1], [1, 1]]])
    assert "16 for checkpoint 1" in adapting_budget.refusal(runs["run_42"])
    assert adapting_budget.here(runs) is None and "another seed" in words.budget_text(runs)
    assert adapting_budget.table(runs)["here_search"].isna().all()
    assert adapting_budget.table(runs)["paper_ratio"].iloc[0] == 1
    assert "no step 1" in adapting_budget.reason(family([[[1, 1]]]))


# -- everything is drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hits", [[[2, 1], [3, 0], [1, 1]], [[0], [0]], [[4, 4], [4, 4]]])
def test_tables_and_sentences_for_any_data(hits):
    runs = family([hits, hits])
    run = runs["run_42"]
    rows = adapting_step.judged(run, 0)
    draw(specification(adapting_step.figure(rows)), "x")
    scores = adapting.scores_of(runs)
    frames = [
        (adapting.setting(run), adapting.SETTING_COLUMNS),
        (adapting_step.groups(rows), adapting_step.GROUP_COLUMNS),
        (adapting_step.updates(run), adapting_step.UPDATE_COLUMNS),
        (adapting_step.changed(run, 0), adapting_step.CHANGED_COLUMNS),
        (adapting.misfiled(scores), adapting.MISFILED_COLUMNS),
        (adapting.stops(scores), adapting.STOP_COLUMNS),
        (adapting_budget.table(runs), adapting_budget.TABLE_COLUMNS),
    ]
    for frame, columns in frames:
        assert "nan" not in Table(frame, "tab-x", "x", columns).text()
    facts = words.facts(runs)
    assert facts["seeds"] == "42, 43" and facts["runs"] == "2 runs that differ in the seed"
    assert all(isinstance(value, str) and value and "nan" not in value for value in facts.values())
