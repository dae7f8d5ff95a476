"""Chapter 5.2's helpers: exact baselines, the paper's own tests recomputed, and sentences for any data."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import grid, groups, random_table, sample, table

from vegtts_core import metrics, selection
from vegtts_core.book import published, selecting, selecting_facts, winners
from vegtts_core.book import selecting_tests as tests
from vegtts_core.book import selecting_words as words
from vegtts_core.book.charts import Axis, grouped_intervals, strips
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.statistics import Interval


def views_of(samples):
    return {protocol: metrics.under(samples, protocol) for protocol in selecting.PROTOCOLS}


@settings(deadline=None)
@given(groups(minimum=1), st.integers(1, 4))
def test_best_of_random_is_the_expectation_over_all_draws(view, m):
    found = selecting.best_of_random(m).weights(view)
    usable = view[view["correct"]]
    if usable.empty:
        assert (found == 0).all()
        return
    speeds = list(usable["speedup"])
    best = [max(draw) for draw in combinations(speeds, min(m, len(speeds)))]
    for speed in set(speeds):
        weight = found[(view["speedup"] == speed).to_numpy()].sum()
        assert weight == pytest.approx(best.count(speed) / len(best))
    # Equally fast samples share evenly, so success is pass@m among the correct.
    fast = sum(speed > 1 for speed in speeds)
    expected = float(metrics.pass_at_k(len(speeds), fast, min(m, len(speeds))))
    assert found @ (view["fast_limit"] > 1) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 3, 5, 8])
def test_signed_rank_p_against_enumeration(n):
    sums = [sum(r for r, s in zip(range(1, n + 1), signs, strict=True) if s) for signs in product([0, 1], repeat=n)]
    for w in range(n * (n + 1) // 4 + 1):
        assert tests.signed_rank_p(w, n) == pytest.approx(min(1.0, 2 * np.mean([s <= w for s in sums])))


def test_the_paper_s_numbers_follow_from_its_text():
    paper = tests.paper_strength()
    assert paper.wilcoxon_p == pytest.approx(float(published.value("5.2-strength/wilcoxon/p_value")), abs=5e-4)
    assert paper.effect.estimate == pytest.approx(0.64, abs=5e-3) and paper.effect.low < 0 < paper.effect.high
    # The p-value that it reports is the least that three discordant pairs can give.
    assert paper.sign_one_sided.p_value == paper.sign_one_sided.smallest_p == 0.125
    p, interval = tests.naive_rho(-0.047, 550)
    assert p == pytest.approx(0.27, abs=5e-3) and interval.low < 0 < interval.high
    reading, bound = selecting_facts.paper_best_of(3)
    assert 0.724 < reading < 0.895 < bound < 1
    # A standard deviation of 14.1% over two seeds of five tasks is one task more in one of them.
    assert selecting_facts.paper_facts()["seed-gap"] == "1"


def test_copies_counts_what_rules_can_choose_from():
    rows = [sample(sample=i, fingerprint="a", speedup=1.5, mean_logprob=-0.9) for i in range(3)]
    rows += [sample(sample=3, fingerprint="b", speedup=0.5, mean_logprob=-0.1), sample(sample=4, correct=False)]
    rows += [sample(seed=43, sample=i, fingerprint="a", speedup=1.5) for i in range(2)]
    found = selecting.copies(metrics.under(table(rows), "sound")).iloc[0]
    assert (found["groups"], found["contested"], found["one_top3"]) == (2, 1, 2)
    assert (found["correct"], found["distinct"], found["fewest"], found["most"]) == (3.0, 1.5, 1, 2)


def test_equal_candidates_are_one_point_of_the_panels():
    rows = [sample(sample=i, fingerprint="a", mean_logprob=-0.5 - i / 10) for i in range(3)]
    found = selecting.candidates(metrics.under(table(rows), "sound"))
    assert len(found) == 1 and found["copies"][0] == 3 and found["surprisal"][0] == pytest.approx(0.6)


def test_surprising_and_fast_is_positive():
    rows = [
        sample(sample=i, tokens=5 + i % 3, fingerprint=f"f{i}", speedup=1 + i / 10, mean_logprob=-i / 10)
        for i in range(9)
    ]
    found = tests.correlations(metrics.under(table(rows), "sound"), resamples=50)
    assert found["rho"][0] == pytest.approx(1) and found["rho"][3] == pytest.approx(1)
    assert found["rho"][2] == pytest.approx(
        np.corrcoef([pd.Series(range(9)).rank(), pd.Series([5 + i % 3 for i in range(9)]).rank()])[0, 1]
    )


def interval(estimate, low=np.nan, high=np.nan, n=5):
    return Interval(estimate, low, high, n)


@pytest.mark.parametrize(
    ("difference", "contested", "expected"),
    [
        (interval(0.3, 0.1, 0.5), 4, "is fast more often than"),
        (interval(-0.3, -0.5, -0.1), 4, "is fast less often than"),
        (interval(0.3, -0.1, 0.5), 4, "includes 0"),
        (interval(0.0, 0.0, 0.0), 4, "equally in every group"),
        (interval(0.3), 4, "allows no interval"),
        (interval(float("nan")), 4, "allows no interval"),
        (interval(0.0, 0.0, 0.0), 0, "Not tested here"),
    ],
)
def test_lead_says_what_the_interval_says(difference, contested, expected):
    text = words.lead("a", "b", {"published": difference, "sound": difference}, {"published": 1, "sound": contested})
    assert expected in text and "do not agree" not in text


def test_lead_names_a_disagreement():
    differences = {"published": interval(0.3, 0.1, 0.5), "sound": interval(0.0, -0.2, 0.2)}
    text = words.lead("a", "b", differences, {"published": 3, "sound": 3})
    assert "do not agree (published: more often; sound: cannot tell)" in text


def test_points_write_signs_and_missing_bounds():
    assert words.points(interval(0.3, -0.05, 0.6)) == "+30 points [−5, +60]"
    assert words.points(interval(-0.001)) == "0 points (no interval)"
    assert words.points(interval(0.0, 0.0, 0.0)) == "0 points in every task"
    assert words.points(interval(float("nan"))) == "–"


def test_quartile_verdict_names_ties():
    frame = pd.DataFrame({"quartile": ["Q1 (x)", "Q2", "Q3", "Q4 (y)"], "fast": [0.2, 0.5, 0.5, 0.4]})
    frame = frame.assign(low=[0.1, 0.4, 0.4, 0.35], high=[0.3, 0.6, 0.6, 0.5])
    assert words.quartile_verdict(frame) == (
        "Fast most often: Q2 and Q3 (50%); least often: Q1 (20%). The intervals of Q1 and Q4 do not overlap."
    )
    assert "equally often" in words.quartile_verdict(frame.assign(fast=0.5))
    assert "too few" in words.quartile_verdict(frame.assign(fast=np.nan))


def test_a_correlation_of_tasks_is_called_one():
    row = pd.Series({"rho": 0.5, "p_within_task": 0.001, "n": 20, "low": 0.2, "high": 0.8})
    other = pd.Series({"rho": -0.5, "p_within_task": 0.001, "n": 20, "low": -0.8, "high": 0.1})
    text = words.correlation_verdict(row, other, other)
    assert "compares tasks" in text and "slower on these tasks, while the interval over tasks includes 0" in text
    assert "compares tasks" not in words.correlation_verdict(row, row, row)
    assert "nothing to correlate" in words.correlation_verdict(row, row * np.nan, row)


def noisy(seed, candidates=8, tasks=12, error=0.1):
    """Candidates of equal true speed, each measured by two independent clocks and in pairs."""
    rng = np.random.default_rng(seed)
    rows = []
    for task in range(tasks):
        for i in range(candidates):
            row = sample(task=f"level1/{task}", task_id=task, sample=i, fingerprint=f"f{i}")
            row["published_speedup"], row["sound_speedup"] = np.exp(rng.normal(0, error, 2))
            row["retimed_published_speedup"], row["retimed_sound_speedup"] = np.exp(rng.normal(0, error, 2))
            row["sound_reference_seconds"] = np.exp(rng.normal(0, error, 16))
            row["sound_candidate_seconds"] = np.ones(16)
            rows.append(row)
    return table(rows)


def test_choosing_by_a_noisy_clock_flatters_the_winner():
    found = winners.winners(noisy(0))
    assert (found["groups"] == 12).all() and (found["candidates"] == 8).all() and (found["same"] < 12).all()
    for shrinkage in found["shrinkage"]:
        assert shrinkage.high < 1
    # The expected maximum of 8 standard normal errors is 1.42.
    assert found["chosen"][0] == pytest.approx(np.exp(0.142), rel=0.05)
    assert found["again"][0] == pytest.approx(1.0, rel=0.08)
    assert "flattered" in words.winner_verdict(found["shrinkage"][0])


def test_an_exact_clock_flatters_nobody():
    found = winners.winners(random_table())
    assert found["shrinkage"][0].estimate == pytest.approx(1) and (found["same"][:2] == found["groups"][:2]).all()
    assert "the same" in words.winner_verdict(found["shrinkage"][0])
    # No timed pairs: the halves cannot be compared.
    assert found["groups"][2] == 0 and np.isnan(found["chosen"][2])


DEGENERATE = {
    "nothing correct": table(
        [sample(sample=i, seed=s, correct=False, fingerprint=None) for s in (42, 43) for i in range(4)]
    ),
    "one sample": table([sample()]),
    "one task": grid([2], k=4),
    "one seed": grid([2, 0, 4], k=4, seeds=(42,)),
    "K = 1": grid([1, 0, 1], k=1),
    "all alike": table(
        [sample(task=f"level1/{t}", task_id=t, sample=i, speedup=1.0) for t in range(3) for i in range(4)]
    ),
    "nothing fast": grid([0, 0, 0], k=4),
    "everything fast": grid([4, 4], k=4),
    "ordinary": random_table(tasks=4, k=6),
}


@pytest.mark.parametrize("samples", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.filterwarnings("error")
def test_every_table_figure_and_sentence_of_the_chapter_stands_any_data(samples):
    views = views_of(samples)
    paper = published.table("5.3")
    strategies = (*selection.STRATEGIES, selecting.BEST_OF_3_RANDOM)
    outcomes = {name: selection.evaluate_strategies(view, strategies=strategies) for name, view in views.items()}
    here = {name: selection.aggregate_strategies(found, resamples=50) for name, found in outcomes.items()}
    pairs = {name: selection.compare_strategies(found, resamples=50) for name, found in outcomes.items()}
    copies = selecting.copies_side_by_side(views)
    contested = {name: int(copies[f"{name}.contested"].sum()) for name in views}
    correlations = {name: tests.correlations(view, resamples=20) for name, view in views.items()}
    quartiles = {name: tests.quartiles(view, False) for name, view in views.items()}
    signs = tests.signs(views, resamples=20)
    found = winners.winners(samples)
    shown = [
        (selecting.success(paper, here), selecting.SUCCESS_COLUMNS),
        (selecting.speedups(paper, here), selecting.SPEEDUP_COLUMNS),
        (selecting.variants(views), selecting.VARIANT_COLUMNS),
        (copies, selecting.COPY_COLUMNS),
        (tests.strength({name: (outcomes[name], pairs[name]) for name in views}), tests.STRENGTH_COLUMNS),
        (tests.length_table(correlations), tests.LENGTH_COLUMNS),
        (tests.quartile_table(quartiles, quartiles), tests.QUARTILE_COLUMNS),
        (signs, tests.SIGN_COLUMNS),
        (found, winners.COLUMNS),
    ]
    for frame, columns in shown:
        text = Table(frame, "tab-any", "Any.", columns).text()
        assert "nan" not in text and "inf" not in text
    rate = Axis("success", "success", ".0%", domain=(-0.02, 1.02))
    points = selecting.success_points(paper, here)
    speed = selecting.speed_axis("speedup", views["sound"]["speedup"], "speedup")
    panels = selecting.candidates(views["sound"])
    for chart in (
        grouped_intervals(points, "strategy", "side", rate, "low", "high"),
        selecting.figure_speedups(*selecting.speedup_points(paper, here)),
        strips(panels, "task", Axis("surprisal", "surprisal"), speed, "decision"),
    ):
        assert "<svg" in draw(specification(chart), "fig-any")
    tasks = samples["task"].nunique()
    sentences = [
        *selecting_facts.facts(views, copies).values(),
        words.lead("a", "b", {name: pair.difference for name, pair in pairs.items()}, contested),
        words.strength_verdict(pairs["sound"], tasks),
        words.correlation_text(correlations["sound"]),
        words.correlation_verdict(*(correlations["sound"].iloc[i] for i in (0, 3, 3))),
        words.sign_verdict({name: (signs[name][0], signs[name][1]) for name in views}),
        words.quartile_verdict(quartiles["sound"]),
        words.winner_verdict(found["shrinkage"][0]),
        words.winner_text(found.iloc[0]),
        words.steadiness({"a": float(here["sound"]["std"][0])}, samples["seed"].nunique()),
        words.steadiness_verdict(samples["seed"].nunique()),
    ]
    for sentence in sentences:
        assert sentence and "nan" not in sentence and "inf" not in sentence
