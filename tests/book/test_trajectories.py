"""Chapter 5.3's helpers: the paper's shares as rollouts, intervals, the curse of a peak, search by one policy."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from adaptation_tables import adapted
from adapted_runs import family, made_run

from vegtts_core.book import adapting, published
from vegtts_core.book import trajectories as traj
from vegtts_core.book import trajectories_charts as charts
from vegtts_core.book import trajectories_control as ctl
from vegtts_core.book import trajectories_curse as curse
from vegtts_core.book import trajectories_diversity as div
from vegtts_core.book import trajectories_words as words
from vegtts_core.book import trajectories_words_runs as more
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.statistics import Interval, wilson

NAN = float("nan")


def source(hits, k=8, name="seed 42"):
    return traj.Source(name, adapted(hits, k), "sound")


def worth(**sources):
    return curse.curse({name: source(hits) for name, hits in sources.items()})


# -- the paper's numbers as rollouts -----------------------------------------------------------------------------


def test_the_paper_s_shares_come_back_from_its_rollouts():
    paper = traj.paper()
    table = published.table("5.3-trajectory")
    assert len(paper.samples) == table["rollouts"].iloc[-1]
    found = paper.trajectory()
    assert found.seeds["sample_fast_p"].to_numpy() == pytest.approx(table["fast_1"].to_numpy(dtype=float), abs=6e-4)
    tasks = found.tasks.pivot(index="step", columns="task", values="sample_fast_p")
    assert tasks["level1/14"].to_numpy() == pytest.approx(table["task_14"].to_numpy(dtype=float), abs=6e-4)
    assert traj.count_gap(paper, 2, 5) == 2


def test_isolated_steps_that_the_paper_does_not_give_are_left_out():
    found = traj.paper_isolated()
    assert sorted(found["task 5"].samples["step"].unique()) == [0, 1, 2, 3, 5]
    assert curse.curse(found).set_index("source")["step"].tolist() == [1, 1, 0, 4, 1]


# -- intervals ---------------------------------------------------------------------------------------------------


def test_one_task_has_wilson_s_interval_and_many_a_narrower_one():
    one = traj.lines({"a": source([[3]])}).iloc[0]
    expected = wilson(3, 8)
    assert (one["low"], one["high"]) == pytest.approx((expected.low, expected.high))
    four = traj.lines({"a": source([[3, 3, 3, 3]])}).iloc[0]
    assert four["fast_1"] == one["fast_1"]
    assert four["fast_1"] - four["low"] == pytest.approx((one["fast_1"] - one["low"]) / 2)
    nothing = traj.lines({"a": source([[0, 0]])}).iloc[0]
    assert nothing["low"] == 0 < nothing["high"] < 1, "no width would look like certainty"


def test_the_change_is_paired_and_the_first_step_has_none():
    samples = pd.concat([run.samples for run in family([[[1, 7], [2, 8]], [[0, 6], [1, 7]]], k=8).values()])
    table = traj.steps(samples, "sound")
    assert table["change"].iloc[0] is None
    change = table["change"].iloc[1]
    assert (change.estimate, change.low, change.high) == pytest.approx((1 / 8,) * 3), "every pair rose by one rollout"
    assert table["correct_change"].iloc[1].estimate == 0


# -- the curse ---------------------------------------------------------------------------------------------------


def test_equal_steps_against_enumeration():
    # One task, two steps of 2 rollouts, 2 fast of 4: the split (2, 0) or (0, 2) comes in 2 of 6 ways.
    p = curse.equal_steps(source([[2], [0]], k=2), resamples=20_000)
    ways = [sum(i < 2 for i in pick) for pick in combinations(range(4), 2)]
    assert p == pytest.approx(np.mean([way != 1 for way in ways]), abs=0.01)
    assert curse.equal_steps(source([[2], [2]], k=2)) == 1
    assert curse.equal_steps(source([[0, 0], [8, 8]])) < 0.01


def test_equal_checkpoints_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    found = [curse.equal_steps(source(rng.binomial(8, 0.5, size=(4, 3)).tolist()), resamples=200) for _ in range(60)]
    assert np.mean(np.array(found) < 0.05) < 0.15 and 0.35 < np.mean(found) < 0.65


def test_a_clear_peak_keeps_its_gain_and_luck_does_not():
    table = worth(clear=[[0, 0], [8, 8], [1, 0]], luck=[[4, 4], [4, 5], [4, 4]]).set_index("source")
    clear, luck = table.loc["clear"], table.loc["luck"]
    assert clear["held_gain"] == clear["gain"] == 1 and clear["held_drop"] == 1 - 1 / 16
    assert clear["equal"] < 0.01 < luck["equal"]
    assert luck["held_gain"] < luck["gain"] / 2
    assert (clear["fast"], clear["rollouts"], clear["last_fast"]) == (16, 16, 1)
    assert not luck["flat"] and worth(x=[[3], [3]])["flat"].iloc[0]


def test_the_paper_s_trajectory_does_not_exclude_equal_checkpoints():
    row = curse.curse({traj.PAPER: traj.paper()}).iloc[0]
    assert row["equal"] > 0.2 and row["held_gain"] < 0.02 < row["gain"]
    assert curse.early() == (3, 4, pytest.approx(5 / 16))
    assert curse.chance_within(5) == pytest.approx(1 / 3)


# -- search by one policy ----------------------------------------------------------------------------------------


def test_search_is_pass_at_k_over_every_step_0_rollout():
    samples = pd.concat([adapted([[2]], 3, (42,)), adapted([[0]], 3, (43,))])
    hits = ctl._hits(samples, "sound")
    one, two = (ctl.search(hits, steps)[1].estimate for steps in (1, 2))
    ways = list(combinations(range(6), 3))
    assert one == pytest.approx(np.mean([min(way) < 2 for way in ways])) and two == 1
    assert np.isnan(ctl.search(hits, 3)[1].estimate), "nine of six rollouts"


def test_adaptation_solves_with_all_that_it_paid_for():
    samples = adapted([[0, 1], [2, 0], [0, 0]], 4, (42, 43))
    hits = ctl._hits(samples, "sound")
    rate, solved, gap = ctl.adaptation(hits, 2)
    assert rate.estimate == pytest.approx(0.25) and solved.estimate == 1  # step 1 is chosen, both tasks were hit
    # Search from step 0 of both seeds: task 0 never, task 1 surely (8 of 8 rollouts).
    assert gap.estimate == pytest.approx(0.5)
    assert "solves more" not in more.control_verdict(Interval(0.5, -0.1, 1.0, 2), Interval(0.1, 0.05, 0.2, 2))


def test_the_control_names_what_differs():
    run = made_run([[1], [1]])
    other = made_run([[1], [1]], temperature=0.5)
    same = made_run([[1], [1]])
    for each in (other, same):
        each.manifest["parameters"] |= {"scaffold": "template"}
    assert ctl.differences(other, run) == ["temperature"] and ctl.differences(same, run) == []
    assert "differs in temperature" in ctl.beside_other(other, {"r": run}, "sound")
    assert "4 of 4 rollouts" in ctl.beside_other(first_step(same), {"r": run}, "sound")
    assert "live chapter" in ctl.beside_other(None, {"r": run}, "sound")


def first_step(run):
    """The run as Best-of-N would have made it: step 0 alone."""
    return replace(run, samples=run.samples[run.samples["step"] == 0])


def test_density_is_that_of_the_rewards_that_were_trained_on():
    hits = [[2, 1], [2, 1]]
    dense = ctl.density({"a": made_run(hits, wrong=1)}).iloc[0]
    sparse = ctl.density({"a": made_run(hits, wrong=1, rewards={"threshold": 1.0})}).iloc[0]
    assert (dense["levels"], sparse["levels"]) == (3, 2)
    assert sparse["nonzero"] == 3 / 8 < dense["nonzero"]
    assert ctl.density_runs("recorded", "cpu") == {}, "until a family varies the reward"


# -- diversity ---------------------------------------------------------------------------------------------------


def test_a_collapse_is_called_one_and_its_direction_is_right():
    samples = pd.concat([run.samples for run in family([[[1, 1], [1, 1]], [[1, 1], [1, 1]]], k=6).values()])
    after = samples["step"] == 1
    samples["token_ids"] = [[i, i + 1, i + 2, i + 3, i + 4] for i in range(len(samples))]
    samples.loc[after, "fingerprint"] = "slow1"
    samples.loc[after, "token_ids"] = pd.Series([[1, 2, 3, 4, 5]] * int(after.sum()), samples.index[after])
    _, table = div.diversity(samples.reset_index(drop=True), "sound")
    changes = table.set_index("measure")
    assert changes.loc["distinct candidates", "less"] and changes.loc["self-BLEU-4", "less"]
    assert changes.loc["self-BLEU-4", "change"].estimate > 0
    assert not changes["more"].any() and not changes.loc["surprisal, nats per token", "less"]
    assert "less diverse by 5 of 6 measures" in words.diversity_verdict(table)


# -- sentences ---------------------------------------------------------------------------------------------------


def test_peaks_are_counted_among_runs_that_move():
    table = worth(a=[[1, 1], [8, 8], [1, 1]], b=[[0, 0], [0, 0], [0, 0]])
    rise = Interval(0.3, 0.1, 0.5, 2)
    text = words.peaks_verdict(table, Interval(0.0, -0.1, 0.1, 2), rise)
    assert "Of 1 run whose steps differ at all, 1 is best at step 1 or 2, where 67%" in text
    assert "in 1 the steps differ" in text and "correct rollouts rises by +30 points" in text and "includes 0" in text
    flat = words.peaks_verdict(table[table["flat"]], rise, Interval(-0.3, -0.5, -0.1, 2))
    assert "no peak to speak of" in flat and "falls by −30 points" in flat
    assert "no run has a step that is better" in words.curse_verdict(worth(a=[[8], [1]]))
    left = words.curse_verdict(table)
    assert "100% of the reported gain is left" in left and "same step 100% of the time" in left
    assert "All steps of every trajectory score alike" in words.curse_text(table[table["flat"]])


def test_what_is_beyond_chance_is_said_of_isolated_runs_and_rates():
    ours = {"task 1": source([[0], [8], [0]], name="task 1"), "task 2": source([[4], [5], [4]], name="task 2")}
    text = more.isolated_verdict(curse.isolated({}, ours))
    assert "1 of 2 runs differ" in text and "task 1 ends 0.0 points" in text and "+100.0 points over the last" in text
    quiet = curse.curse({"rate 1e-05": ours["task 2"], "rate 1e-06": source([[0], [0]])})
    assert "no run differ" in more.rates_verdict(quiet) and "1 of 2 never leave" in more.rates_verdict(quiet)
    assert more.rates_verdict(quiet.iloc[:1]) == "One rate is no sweep."
    assert more.isolated_text(curse.isolated(traj.paper_isolated(), {})) == "no isolated run"


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Interval(NAN, NAN, NAN, 0), "too few seeds"),
        (Interval(0.3, 0.1, 0.5, 5), "adaptation solves more"),
        (Interval(-0.3, -0.5, -0.1, 5), "search solves more"),
        (Interval(0.1, -0.1, 0.3, 5), "neither is seen"),
        (Interval(0.1, NAN, NAN, 1), "+10 points (no interval)"),
    ],
)
def test_control_verdicts(gap, expected):
    assert expected in more.control_verdict(gap, Interval(0.0, -0.1, 0.1, 5))


# -- everything is drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hits", [[[2, 1], [3, 0], [1, 1]], [[0], [0]], [[4, 4], [4, 4]]])
def test_tables_and_charts_for_any_data(hits):
    runs = family([hits, hits])
    samples, ours = adapting.pooled(runs), traj.of_runs(runs)
    both = {traj.PAPER: traj.paper(), **ours}
    by_step, change = div.diversity(samples, "sound")
    for chart in (
        charts.trajectory(traj.lines(both)),
        charts.tasks(traj.task_lines(both.items())),
        charts.optimum(curse.optimum(both)),
        charts.diversity(by_step),
    ):
        draw(specification(chart), "x")
    found, alone = (
        curse.curse(both),
        curse.isolated(traj.paper_isolated(), traj.by_task({"a": made_run([h[:1] for h in hits])})),
    )
    peaks = traj.peaks(traj.paper(), ours)
    frames = [
        (traj.steps(samples, "sound"), traj.STEP_COLUMNS),
        (peaks, traj.peak_columns(peaks)),
        (found, curse.CURSE_COLUMNS),
        (curse.oracles(both), curse.ORACLE_COLUMNS),
        (alone, curse.isolated_columns(alone)),
        (curse.rates(traj.by_rate(runs), traj.paper()), curse.CURSE_COLUMNS),
        (curse.stops({"batch": ours}), curse.STOP_COLUMNS),
        (change, div.DIVERSITY_COLUMNS),
        (ctl.control(samples, "sound"), ctl.CONTROL_COLUMNS),
        (ctl.density(runs), ctl.DENSITY_COLUMNS),
    ]
    for frame, columns in frames:
        assert "nan" not in Table(frame, "tab-x", "x", columns).text().lower()
    assert "seed 42" in traj.beside_paper(ours["seed 42"], "tab-x").text()
    texts = [*words.facts(runs).values(), words.peaks_text(found), words.curse_text(found), words.curse_verdict(found)]
    texts += [words.diversity_verdict(change), more.control_text(ctl.control(samples, "sound"), 8)]
    texts += [more.isolated_verdict(alone), more.density_verdict(ctl.density(runs), False)]
    assert all(text and "nan" not in text for text in texts)
