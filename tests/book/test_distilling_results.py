"""Appendix E.2's helpers: the paper's counts, the control at step 0, paired differences, power, sentences, figures."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from adaptation_tables import adapted
from scipy import stats

from vegtts_core.book import distilling_paper as paper
from vegtts_core.book import distilling_results as results
from vegtts_core.book import distilling_results_words as words
from vegtts_core.book.distilling_results_chart import panels
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

NAMES = ["published", "sound"]


def run_of(tmp_path, hits, k=8, seed=42, wrong=0, names=NAMES):
    samples = adapted(hits, k, (seed,), wrong)
    samples["completion"] = samples["fingerprint"]
    samples["token_ids"] = [[1, 2, 3 + int(i)] for i in samples["sample"]]
    evaluator = {"protocols": list(names)}
    parameters = {"seed": seed, "k": k, "steps": len(hits) - 1, "temperature": 1.0, "evaluator": evaluator}
    return Run(tmp_path, {"parameters": parameters}, samples, {}, pd.DataFrame())


def three(tmp_path, feedback, prompt_only, reward=None, **options):
    return {
        results.ADAPTATION: {"a": run_of(tmp_path, reward or feedback, **options)},
        results.FEEDBACK: {"f": run_of(tmp_path, feedback, **options)},
        results.PROMPT_ONLY: {"p": run_of(tmp_path, prompt_only, **options)},
    }


def test_table_e1_is_counts_of_160():
    table = paper.paper_counts().set_index("method")
    for row in table.to_dict("records"):
        for seed in paper.PAPER_SEEDS:
            assert row[f"count_{seed}"] / paper.PAPER_STEP == pytest.approx(row[f"seed_{seed}"], abs=5.1e-4)
    gap = paper.paper_gap()
    assert gap.counts == (126, 146) and gap.n == 480 and gap.sign == 0.25
    assert gap.rollouts == pytest.approx(0.152, abs=1e-3)
    assert gap.seeds == pytest.approx(stats.ttest_rel([62, 38, 46], [57, 30, 39]).pvalue)
    # Independent rollouts with the paper's shares, drawn: how often are three gaps as alike?
    rng = np.random.default_rng(0)
    first, second = ([62, 38, 46], [57, 30, 39])
    drawn = rng.binomial(160, np.array(first) / 160, (20000, 3)) - rng.binomial(160, np.array(second) / 160, (20000, 3))
    # The chi-squared law knows equal means, so the drawn gaps are taken about theirs.
    drawn = drawn - (np.array(first) - np.array(second))
    alike = (drawn.var(axis=1, ddof=1) <= np.var(np.array(first) - np.array(second), ddof=1)).mean()
    assert gap.agree == pytest.approx(alike, abs=0.01)


def test_power_against_simulation():
    rng = np.random.default_rng(1)
    n, p, gap = 200, 0.3, results.detectable(0.3, 200)
    assert results.power(p, n, gap) == pytest.approx(results.DETECTED, abs=2e-3)
    a, b = rng.binomial(n, p - gap / 2, 20000) / n, rng.binomial(n, p + gap / 2, 20000) / n
    pooled = (a + b) / 2
    found = np.abs(a - b) / np.sqrt(2 * pooled * (1 - pooled) / n) > stats.norm.ppf(0.975)
    assert found.mean() == pytest.approx(results.DETECTED, abs=0.02)
    assert results.power(p, n, 0.0) == pytest.approx(0.05)


def test_differences_are_paired_and_the_control_is_taken_off(tmp_path):
    families = three(tmp_path, [[2, 2, 2], [4, 4, 4], [6, 6, 6]], [[1, 1, 1], [1, 2, 3], [1, 2, 3]])
    table = results.differences(families, NAMES)
    found = {step: results.difference(table, "fast_1, sound", step).estimate for step in table["step"].unique()}
    assert found == pytest.approx(
        {results.CONTROL: 1 / 8, "1": 2 / 8, "2": 4 / 8, results.ADAPTED: 3 / 8, results.NET: 2 / 8}
    )
    assert results.difference(table, "correct", results.NET).estimate == 0
    assert "(published 12.5 points; sound 12.5 points)" in words.control_verdict(table, NAMES, 1.0)
    assert "Only 50%" in words.control_verdict(table, NAMES, 0.5)
    assert "nothing is paired" in words.control_verdict(table, NAMES, math.nan)
    assert "less step 0: +25 points" in words.lift_text(table, NAMES)


def test_same_rollouts_and_common_seeds(tmp_path):
    families = three(tmp_path, [[2, 2], [4, 4]], [[2, 2], [1, 1]])
    assert results.same_rollouts(families) == 1.0
    other = {**families, results.PROMPT_ONLY: {"p": run_of(tmp_path, [[3, 2], [1, 1]])}}
    assert results.same_rollouts(other) == 15 / 16
    more = {
        **families,
        results.ADAPTATION: {"a": families[results.ADAPTATION]["a"], "b": run_of(tmp_path, [[1, 1]], seed=43)},
    }
    assert list(results.common_seeds(more)[results.ADAPTATION]) == ["a"]
    assert results.protocols(families) == NAMES
    live = three(tmp_path, [[2, 2], [4, 4]], [[2, 2], [1, 1]], names=["sound"])
    assert results.protocols(live) == ["sound"]


def moved(table, measure, step, interval):
    """``differences`` with one interval replaced."""
    chosen = (table["measure"] == measure) & (table["step"] == step)
    intervals = [interval if hit else old for hit, old in zip(chosen, table["interval"], strict=True)]
    return table.assign(interval=intervals)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.2, 0.1, 0.3, 5), "feedback leads here"),
        (Interval(-0.2, -0.3, -0.1, 5), "prompt-only leads here"),
        (Interval(0.2, -0.1, 0.3, 5), "Not decided under the sound protocol"),
        (Interval(0.0, 0.0, 0.0, 5), "both changed equally"),
        (Interval(0.2, math.nan, math.nan, 1), "one task or none"),
    ],
)
def test_the_verdict_follows_the_interval(tmp_path, interval, expected):
    flat = [[2, 2, 2], [2, 2, 2]]
    table = results.differences(three(tmp_path, flat, flat), NAMES)
    net = moved(table, "fast_1, sound", results.NET, interval)
    assert expected in words.lift_verdict(net, NAMES, 9.0)
    assert "would have won" not in words.lift_verdict(net, NAMES, 9.0)
    naive = moved(net, "fast_1, published", results.ADAPTED, Interval(0.3, 0.1, 0.5, 5))
    assert "By the published protocol alone feedback would have won" in words.lift_verdict(naive, NAMES, 9.0)
    correct = moved(net, "correct", results.NET, Interval(-0.3, -0.5, -0.1, 5))
    assert "prompt-only is ahead of feedback" in words.lift_verdict(correct, NAMES, 9.0)


def test_success_is_judged_against_its_own_step_0(tmp_path):
    up = three(tmp_path, [[2, 2, 2], [2, 2, 2]], [[1, 1, 1], [5, 5, 6]])
    assert results.change(up[results.PROMPT_ONLY], "sound", "sample_fast_p").estimate == pytest.approx(13 / 24)
    assert "fast_1 rose" in words.success_verdict(up, NAMES) and "one sentence" in words.success_verdict(up, NAMES)
    flat = three(tmp_path, [[2, 2, 2], [2, 2, 2]], [[2, 2, 2], [2, 2, 2]])
    assert "correctness and fast_1 did not move" in words.success_verdict(flat, NAMES)
    assert "no success of learning" in words.success_verdict(flat, NAMES)


def test_diversity_verdict():
    def table(ends):
        rows = [(m, "entropy", s, v, v, v, 3) for m, pair in ends.items() for s, v in enumerate(pair)]
        return pd.DataFrame(rows, columns=["method", "measure", "step", "estimate", "low", "high", "tasks"])

    assert "All narrowed" in words.diversity_verdict(table({"a": (2, 1), "b": (2, 1)}))
    assert "no collapse" in words.diversity_verdict(table({"a": (1, 2), "b": (1, 1)}))
    assert "Narrowed: a; not: b" in words.diversity_verdict(table({"a": (2, 1), "b": (1, 2)}))
    assert "a 2.00 [2.00, 2.00] to 1.00" in words.diversity_text(table({"a": (2, 1)}))


def test_tables_and_figures_can_be_drawn(tmp_path):
    families = three(
        tmp_path, [[2, 2, 1], [4, 4, 0]], [[1, 1, 1], [1, 2, 3]], [[1, 1, 1], [1, 2, 3], [4, 4, 4]], wrong=2
    )
    steps = results.step_table(families, NAMES)
    assert len(steps) == 7 and set(results.step_columns(NAMES)) <= set(steps.columns)
    power = results.power_table(families, NAMES)
    assert list(power["n"]) == [480, 24, 24, 24] and all(0.04 < value < 1 for value in power["power"])
    best = results.best_table(families, NAMES)
    assert len(best) == 6 and max(best["step"]) == 2
    differences = words.difference_table(results.differences(families, NAMES))
    for frame, columns in (
        (paper.paper_counts(), paper.PAPER_COLUMNS),
        (steps, results.step_columns(NAMES)),
        (power, results.POWER_COLUMNS),
        (best, results.BEST_COLUMNS),
        (differences, results.DIFFERENCE_COLUMNS),
    ):
        assert "nan" not in Table(frame, "tab-x", "x", columns).text()
    titles = {"correctness": ("correct", ".0%"), "fast.sound": ("fast_1", ".0%")}
    assert "<svg" in draw(specification(panels(results.outcomes(families, NAMES), titles)), "p")
    diversity = results.diversity(families, "sound")
    assert "<svg" in draw(specification(panels(diversity, {"entropy": ("entropy", ".1f")})), "p")
    facts = words.facts(families, NAMES)
    assert facts["paper-counts"] == "146 against 126 of 480" and facts["split-42"] == "4, 5, 12, 14, 15"


def test_one_task_gives_no_interval_and_no_error(tmp_path):
    families = three(tmp_path, [[2], [4]], [[1], [1]])
    table = results.differences(families, NAMES)
    assert "one task or none" in words.lift_verdict(table, NAMES, 9.0)
    assert replace(results.difference(table, "correct", results.NET)).n == 1
