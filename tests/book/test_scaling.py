"""Chapter 5.1's tables and sentences: right on tables small enough to count, true on degenerate ones."""

import json
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import grid, random_table, sample, table

from vegtts_core import metrics
from vegtts_core.book import published, scaling, scaling_paper, scaling_words
from vegtts_core.book import scaling_candidates as candidates
from vegtts_core.book.figures import specification
from vegtts_core.book.headroom import headroom
from vegtts_core.book.tables import Table
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.metrics.saturation import saturation
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, Population


def views_of(samples):
    return {protocol: metrics.under(samples, protocol) for protocol in scaling.PROTOCOLS}


def run_of(samples):
    """A run around a table: one reference per task, without headroom where its time is unknown."""
    references = samples.drop_duplicates("task")[["task", "task_id"]].assign(name="x", family="map", flop=1.0)
    references = references.assign(min_bytes=1.0, floor_seconds=0.5, reference_seconds=1.0)
    references = references.assign(published_speedup=1.2, sound_decision="same")
    manifest = {"parameters": {"evaluator": json.loads(EvaluatorSettings().model_dump_json())}}
    return Run(Path(), manifest, samples, {}, references)


DEGENERATE = {
    "one task": grid([3]),
    "one seed": grid([3, 1, 8], seeds=(42,)),
    "one task, one seed": grid([3], seeds=(42,)),
    "K = 1": grid([1, 0], k=1),
    "K = 3": grid([1, 0, 3], k=3),
    "nothing fast": grid([0, 0, 0]),
    "all fast": grid([8, 8, 8]),
    "nothing correct": table(
        [sample(task_id=t, task=f"t{t}", sample=i, correct=False) for t in (4, 5) for i in (0, 1)]
    ),
    "all speedups equal": table([sample(sample=i, speedup=1.0, fingerprint="f") for i in range(4)]),
    "no fingerprint": table([sample(sample=i, correct=False, fingerprint=None) for i in range(2)]),
    "only published fast": table(
        [
            sample(sample=i, task=f"t{t}", task_id=t, sound_speedup_low=0.9, sound_decision="undecided")
            for t in (4, 18)
            for i in range(4)
        ]
    ),
}


@pytest.mark.parametrize("samples", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_every_table_and_sentence_stands_on_degenerate_data(samples):
    views, run = views_of(samples), run_of(samples)
    rows, equivalents = scaling.curves(views), scaling.equivalents(views)
    shown = [
        Table(scaling.curve_table(rows), "t", "c", scaling.curve_columns()),
        Table(scaling.curve_table(rows), "t", "c", scaling.spread_columns()),
        Table(equivalents, "t", "c", scaling.equivalent_columns("paper", "before")),
        Table(equivalents, "t", "c", scaling.equivalent_columns("published", "sound")),
        Table(scaling.per_task(views), "t", "c", scaling.per_task_columns()),
        Table(candidates.candidates(samples), "t", "c", candidates.candidate_columns()),
        Table(candidates.decisions(views), "t", "c", candidates.decision_columns()),
        Table(
            candidates.selected(views, headroom(run.references)),
            "t",
            "c",
            candidates.selected_columns(),
        ),
        Table(scaling.levels(views), "t", "c", scaling.levels_columns()),
    ]
    texts = [found.markdown() for found in shown]
    texts += scaling_words.facts(run, views).values()
    texts += [scaling_words.search_here(rows), scaling_words.search_verdict(rows), scaling_words.draw_here(views)]
    texts += [scaling_words.saturation_here(views), scaling_words.saturation_verdict(views["sound"])]
    texts += [scaling_words.interval_here(views, rows), scaling_words.spread_here(rows)]
    texts += [scaling_words.equivalent_here(views), scaling_words.takeaway(rows, "a policy")]
    for text in texts:
        assert text
        assert not any(
            word in text.lower().replace("nanoseconds", "") for word in ("nan%", "nan ", "nan]", "inf", "none,")
        )


def test_curve_beside_the_papers_starts_at_the_rate_per_sample():
    views = views_of(grid([8, 4, 2, 0], k=8))
    rows = scaling.curves(views)
    sound = rows[rows["protocol"] == "sound"]
    assert list(sound["k"]) == [1, 2, 4, 8]
    assert sound["pass_at_k"].iloc[0] == pytest.approx(14 / 32) == metrics.sample_fast_p(views["sound"])
    assert sound["pass_at_k"].iloc[-1] == metrics.task_fast_p(views["sound"]) == 0.75
    beside = scaling.curve_table(rows).set_index("k")
    assert beside.at[1, "paper"] == 0.533 and beside.at[64, "sound_bounds"] == "–"
    series = scaling.figure_rows(rows)
    assert set(series["series"]) == {"published", "sound", "paper"}
    assert series.loc[series["series"] == "paper", "low"].isna().all()


@pytest.mark.parametrize(("least", "ks"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])])
def test_curves_end_at_all_samples(least, ks):
    assert scaling.sample_counts(views_of(grid([1], k=least))["sound"]) == ks
    assert scaling.sample_counts(views_of(table([]))["sound"]) == []


def test_an_interval_without_width_becomes_wilsons():
    solved, replaced = scaling.with_width(Interval(1.0, 1.0, 1.0, 5))
    assert replaced and solved.low == pytest.approx(0.566, abs=1e-3) and solved.high == 1
    kept = Interval(0.5, 0.2, 0.8, 5)
    assert scaling.with_width(kept) == (kept, False)
    assert not scaling.with_width(Interval(0.5, float("nan"), float("nan"), 1))[1]
    assert scaling.percent(Interval(1.0, 1.0, 1.0, 5)) == "100.0% [57–100%]\\*"
    assert scaling.curves(views_of(grid([8, 8])))["replaced"].all()


def test_fewest_samples_for_95_percent_is_counted():
    view = views_of(grid([2, 2], k=4))["sound"]  # pass@1..4 = 1/2, 5/6, 1, 1
    assert saturation(view).estimate == 3
    assert saturation(view, share=0.8).estimate == 2
    assert saturation(views_of(grid([4, 4], k=4))["sound"]).estimate == 1
    assert isnan(saturation(views_of(grid([0, 0]))["sound"]).estimate)
    assert isnan(saturation(views_of(grid([1, 1], k=1))["sound"]).estimate)
    alone = saturation(views_of(grid([2], k=4))["sound"])
    assert alone.estimate == 3 and isnan(alone.low)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=5))
def test_saturation_reaches_its_share_and_no_fewer_samples_do(hits):
    view = views_of(grid(hits, k=8))["sound"]
    found = saturation(view, resamples=200)
    curve = metrics.scaling_curve(view, range(1, 9), resamples=1)["pass_at_k"].to_numpy()
    if not any(hits):
        assert isnan(found.estimate)
        return
    reached = np.flatnonzero(curve >= 0.95 * curve[-1] - 1e-9)
    assert found.estimate == reached[0] + 1
    assert 1 <= found.low <= found.high <= 8


def test_the_papers_intervals_follow_from_its_rates():
    assert scaling_paper.intervals_that_agree() == 7
    assert scaling_paper.interval_of_one_draw(0.533) == (0.2, 1.0)
    assert scaling_paper.interval_of_one_draw(0.5, tasks=100) == (0.4, 0.6)


def test_the_interval_of_one_draw_is_what_subset_resampling_gives():
    view = views_of(grid([4, 4, 4, 4, 4], k=8, seeds=(42,)))["sound"]
    drawn = metrics.subset_resampling(view, [1], draws=20_000).iloc[0]
    assert (drawn["low"], drawn["high"]) == pytest.approx(scaling_paper.interval_of_one_draw(0.5))


def test_the_papers_counts_give_its_own_rates_back():
    for step in range(6):
        counts = scaling_paper.step_counts(step)
        assert sum(counts.values()) / 160 == pytest.approx(published.number(f"5.3-trajectory/{step}/fast_1"), abs=6e-4)
    curve = scaling_paper.step_curve(0)
    assert curve["pass_at_k"].iloc[0] == pytest.approx(0.375)
    assert curve["pass_at_k"].iloc[-1] == 1
    low, high = scaling_paper.chance_bounds(0, 16)
    assert low < float(curve.set_index("k")["pass_at_k"][16]) < high < published.number("5.1/16/pass_at_k")
    assert set(scaling_paper.solved_by_step().values()) == {5}
    assert scaling_paper.adapted_is_worth(1) < scaling_paper.adapted_is_worth(16)


def test_conversions_between_rates_agree_with_the_share_of_correct_samples():
    rates = scaling_paper.one_draw()
    assert np.allclose(rates["of_all"] / rates["of_correct"], 550 / 640)
    here = scaling.one_draw(views_of(grid([4, 0], k=8))).tail(1)
    assert here["of_all"].item() == here["of_correct"].item() == 0.25


def test_standard_deviations_of_few_seeds():
    ratio, p = scaling_paper.std_ratio_test()
    assert ratio == pytest.approx(0.113 / 0.032) and p == pytest.approx(0.196, abs=1e-3)
    low, high = scaling_paper.std_bounds(2)
    assert (low, high) == pytest.approx((0.446, 31.91), abs=0.01)
    assert scaling_paper.adapted_bounds()[0] < 0.398 < scaling_paper.adapted_bounds()[1]


def test_paper_facts_are_texts_without_gaps():
    facts = scaling_paper.facts()
    assert all(isinstance(text, str) and text and "–" not in text for text in facts.values())
    assert facts["agree"] == "7 of 7" and facts["ttt-difference"] == "−9.2"


def test_best_of_n_itself_falls_below_the_papers_curve():
    found = scaling.equivalents(views_of(grid([8, 4])))
    assert found["paper"].iloc[-1] == "< 1" and found["stated"].iloc[2] == "< 1"
    assert found["unit"].tolist().count("tasks") == 1


def test_decisions_count_every_sample_once():
    samples = random_table(k=8)
    found = candidates.decisions(views_of(samples))
    assert found["all"].sum() == len(samples)
    assert (found[[*candidates.DECISIONS, "not correct"]].sum(axis=1) == found["all"]).all()
    text = scaling_words.confirmed(found)
    assert str(int(found.set_index("outcome").at["fast", "faster"])) in text


def test_levels_fall_with_p():
    view = views_of(random_table())["published"]
    rates = [scaling.rate(view, p).estimate for p in scaling.LEVELS]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(metrics.sample_fast_p(view))


def test_selected_speedup_is_the_fastest_correct_one():
    samples = table([sample(sample=i, speedup=s) for i, s in enumerate((0.5, 3.0, 2.0))])
    run = run_of(samples)
    found = candidates.selected(views_of(samples), headroom(run.references)).iloc[0]
    assert (found["published"], found["sound"]) == pytest.approx((3.0, 3.0))
    assert found["paper"] == 859.8 and found["sound_groups"] == "1 of 1" and found["headroom"] == 2.0
    assert "task 4 (sound)" in scaling_words.facts(run, views_of(samples))["headroom"]


def test_candidates_are_counted_with_their_copies():
    rows = [sample(sample=i, body="return A", fingerprint="a") for i in range(3)]
    rows += [
        sample(sample=3, body="x = A\nreturn x | `b`", fingerprint="b", speedup=0.5),
        sample(sample=4, correct=False),
    ]
    found = candidates.candidates(table(rows))
    assert found["samples"].tolist() == [3, 1]
    assert found["body"].tolist() == ["`return A`", "`x = A …`"]
    text = scaling_words.copies(table(rows))
    assert "5 samples" in text and "4 correct samples are 2 distinct candidates" in text


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nothing fast", "Nothing was found faster"),
        ("all fast", "Search solves every task of this run"),
        ("only published fast", "does not confirm"),
        ("K = 3", "not reproduced"),
        ("no fingerprint", "Nothing was found faster"),
    ],
)
def test_search_verdict_says_what_the_data_say(name, part):
    assert part in scaling_words.search_verdict(scaling.curves(views_of(DEGENERATE[name])))


def test_no_samples_no_verdict():
    rows = scaling.curves(views_of(table([])))
    assert "no curve" in scaling_words.search_verdict(rows)
    assert scaling_words.search_here(rows) == "No samples."
    assert isinstance(scaling_words.takeaway(rows, "x"), str)


def test_saturation_verdict_tells_rising_from_flat():
    assert "still rising" in scaling_words.saturation_verdict(views_of(grid([1, 1, 8]))["sound"])
    assert "flat at its end" in scaling_words.saturation_verdict(views_of(grid([8, 7, 0]))["sound"])
    assert "cannot be told" in scaling_words.saturation_verdict(views_of(DEGENERATE["K = 1"])["sound"])


def test_published_curves_can_be_drawn():
    from vegtts_core.book.charts import Axis, scaling_curve

    frame = scaling_paper.own_curves()
    assert frame["low"].isna().all() and frame["pass_at_k"].between(0, 1).all()
    share = Axis("pass_at_k", "tasks", ".0%", domain=(0, 1))
    chart = scaling_curve(frame, Axis("k", "K"), share, "low", "high", "series", scaling_paper.LEVELS, "")
    assert specification(chart)["layer"]


def test_intervals_of_these_tasks_are_narrower_than_of_others():
    view = views_of(random_table(tasks=6, seeds=(1, 2, 3)))
    rows = scaling.curves(view)
    first = rows[(rows["protocol"] == "published") & (rows["k"] == 1)].iloc[0]
    assert first["seed_high"] - first["seed_low"] < first["high"] - first["low"]
    assert Population.TASKS.sentence in scaling_words.facts(run_of(random_table()), view).values()


def test_references_that_were_not_timed():
    references = pd.DataFrame({"published_speedup": [None], "sound_decision": [None]})
    assert "not timed" in scaling_words.references_against_themselves(references)
