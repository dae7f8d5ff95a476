"""Shares, pass@k against enumeration, curves and equivalent K."""

import ast
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import grid, random_table, sample, table

import vegtts_core
from vegtts_core import metrics
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.metrics import Bound, By
from vegtts_core.statistics import Population

# --- the view -----------------------------------------------------------------------------------------------------


def test_the_two_protocols_call_different_samples_fast():
    rows = [
        sample(sample=0, speedup=1.5),
        sample(sample=1, speedup=1.01),
        sample(sample=2, speedup=0.5),
        sample(sample=3, correct=False, fingerprint=None),
    ]
    published = metrics.under(table(rows), ProtocolName.PUBLISHED)
    sound = metrics.under(table(rows), ProtocolName.SOUND)
    assert (published["fast_limit"] > 1).tolist() == [True, True, False, False]
    assert (sound["fast_limit"] > 1).tolist() == [True, False, False, False]
    assert published["correct"].tolist() == sound["correct"].tolist() == [True, True, True, False]
    assert published["decision"].tolist() == ["faster", "faster", "slower", None]
    assert sound["decision"].tolist() == ["faster", "same", "slower", None]
    assert published["surprisal"].tolist() == [0.5] * 4
    assert published["speedup"].isna().tolist() == [False, False, False, True]


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=20))
def test_sound_and_fast_1_is_the_decision_faster(lows):
    rows = [
        sample(sample=i, sound_speedup_low=low, sound_decision="faster" if low > 1.02 else "undecided")
        for i, low in enumerate(lows)
    ]
    view = metrics.under(table(rows), "sound")
    assert ((view["fast_limit"] > 1) == (view["decision"] == "faster")).all()


def test_fast_p_at_other_p_scales_the_minimum_effect():
    view = metrics.under(table([sample(sound_speedup_low=1.25), sample(sample=1, sound_speedup_low=1.21)]), "sound")
    assert metrics.sample_fast_p(view, 1.2) == 0.5
    assert metrics.sample_fast_p(metrics.under(table([sample(sound_speedup_low=1.21)]), "sound", 0.0), 1.2) == 1


def test_a_refused_or_unevaluated_sample_counts_as_wrong():
    rows = [sample(published_correct=None, sound_correct=None), sample(sample=1)]
    view = metrics.under(table(rows), "sound")
    assert metrics.correctness(view) == 0.5 and view["speedup"].isna().tolist() == [True, False]


def test_a_speedup_recorded_for_a_wrong_sample_does_not_count():
    row = sample(published_correct=False, sound_correct=False) | {"published_speedup": 9.0, "sound_speedup_low": 9.0}
    for protocol in ProtocolName:
        view = metrics.under(table([row, sample(sample=1)]), protocol)
        assert np.isnan(view["fast_limit"][0]) and metrics.sample_fast_p(view) == 0.5


def test_unknown_protocols_and_missing_columns_are_named():
    with pytest.raises(ValueError, match="'loud'"):
        metrics.under(grid([1]), "loud")
    with pytest.raises(ValueError, match="sound_speedup_low"):
        metrics.under(grid([1]).drop(columns="sound_speedup_low"), "sound")
    metrics.under(grid([1]).drop(columns="sound_speedup_low"), "published")


def test_the_pure_functions_import_nothing_of_ours_but_the_schema_and_each_other():
    root = Path(vegtts_core.__file__).parent
    files = [root / "selection.py", *(root / "metrics").glob("*.py"), *(root / "statistics").glob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    imported = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    allowed = ("vegtts_core.metrics", "vegtts_core.statistics", "vegtts_core.runs.schema")
    assert all(name.startswith(allowed) for name in imported if name.startswith("vegtts_core"))


# --- shares -------------------------------------------------------------------------------------------------------


def test_per_sample_and_per_task_shares_are_different_numbers():
    view = metrics.under(grid([8, 2, 0, 1], k=8), "published")
    assert metrics.sample_fast_p(view) == pytest.approx(11 / 32)
    assert metrics.task_fast_p(view) == pytest.approx(3 / 4)
    assert metrics.sample_fast_p(view, 1.0, By.TASK).tolist() == [1.0, 0.25, 0.0, 0.125]
    assert metrics.task_fast_p(view, 1.0, By.TASK).tolist() == [1.0, 1.0, 0.0, 1.0]
    assert metrics.task_fast_p(view, 1.0, By.SEED).tolist() == [0.75, 0.75]
    assert metrics.task_fast_p(view, 3.0) == 0


def test_summary_counts_what_it_rests_on():
    view = metrics.under(grid([4, 0], k=8), "published")
    row = metrics.summary(view).loc["all"]
    assert (row["samples"], row["groups"], row["correct"], row["distinct"]) == (32, 4, 32, 32)
    by_task = metrics.summary(view, by=By.TASK)
    assert by_task.loc["level1/0", "mean_speedup"] == pytest.approx(1.25)
    assert by_task.loc["level1/0", "geometric_speedup"] == pytest.approx(1.0)


def test_nothing_gives_nan_and_no_warning(recwarn):
    view = metrics.under(table([]), "sound")
    assert np.isnan(metrics.sample_fast_p(view)) and np.isnan(metrics.task_fast_p(view))
    assert metrics.summary(view).loc["all", "samples"] == 0
    assert metrics.scaling_curve(view).empty and metrics.subset_resampling(view).empty
    assert metrics.equivalent_k_interval(view, 0.5).bound is Bound.UNKNOWN
    assert not recwarn.list


# --- pass@k -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_hit(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    hits = [i < c for i in range(n)]
    share = np.mean([any(subset) for subset in combinations(hits, k)])
    assert metrics.pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_is_stable_vectorised_and_refuses_what_n_cannot_say():
    values = metrics.pass_at_k([[10_000], [64]], 1, [1, 64])
    assert values == pytest.approx(np.array([[1e-4, 64e-4], [1 / 64, 1.0]]))
    assert np.isnan(metrics.pass_at_k([4, 4, 4, 4], [1, 5, -1, 1], [5, 1, 1, 0])).all()
    assert metrics.pass_at_k(64, 64, 1) == 1 and metrics.pass_at_k(64, 0, 64) == 0


# --- curves -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=5), st.integers(0, 10))
def test_curve_is_monotone_starts_at_the_sample_share_and_ends_at_the_task_share(hits, seed):
    view = metrics.under(grid(hits), "published")
    curve = metrics.scaling_curve(view, [1, 2, 4, 8, 16], resamples=300, seed=seed)
    assert curve["k"].tolist() == [1, 2, 4, 8], "k beyond the samples is left out"
    assert (np.diff(curve["pass_at_k"]) >= -1e-12).all()
    assert curve["pass_at_k"].iloc[0] == pytest.approx(metrics.sample_fast_p(view))
    assert curve["pass_at_k"].iloc[-1] == pytest.approx(metrics.task_fast_p(view))
    assert curve["pass_at_k"].between(curve["wilson_low"] - 1e-9, curve["wilson_high"] + 1e-9).all()
    if len(hits) == 1:
        assert curve["low"].isna().all()
    else:
        assert curve["pass_at_k"].between(curve["low"] - 1e-9, curve["high"] + 1e-9).all()


def test_curve_does_not_depend_on_the_order_of_rows():
    samples = random_table(3)
    curves = [
        metrics.scaling_curve(metrics.under(s, "sound"), [1, 4, 16])
        for s in (samples, samples.sample(frac=1, random_state=1))
    ]
    pd.testing.assert_frame_equal(*curves)


def test_seeds_alone_give_a_narrower_interval_than_tasks():
    view = metrics.under(grid([0, 1, 8, 8], seeds=(1, 2, 3)), "published")
    tasks = metrics.scaling_curve(view, [1])
    seeds = metrics.scaling_curve(view, [1], population=Population.SEEDS)
    # Every seed of a task has the same share here: new seeds would change nothing, new tasks much.
    assert seeds["low"].item() == pytest.approx(seeds["high"].item())
    assert tasks["high"].item() - tasks["low"].item() > 0.5
    assert tasks["std"].item() == pytest.approx(0)


def test_a_solved_set_of_tasks_has_no_bootstrap_width_but_a_wilson_bound():
    last = metrics.scaling_curve(metrics.under(grid([8] * 5, seeds=(1,)), "published"), [8]).iloc[0]
    assert (last["low"], last["high"]) == (1, 1)
    assert last["wilson_low"] == pytest.approx(0.566, abs=1e-3)


def test_subset_resampling_has_the_papers_kind_of_interval():
    naive = metrics.subset_resampling(metrics.under(grid([4, 4, 4, 5, 4]), "published"), [1, 8])
    first = naive.iloc[0]
    assert first["mean"] == pytest.approx(21 / 40, abs=0.02)
    # Shares of five tasks, hence the table's 20% and 100%.
    assert (first["low"] * 5) % 1 == pytest.approx(0) and (first["high"] * 5) % 1 == pytest.approx(0)
    assert naive.iloc[1][["mean", "low", "high"]].tolist() == [1, 1, 1]


# --- equivalent K -------------------------------------------------------------------------------------------------

PUBLISHED = pd.DataFrame({"k": [1, 2, 4, 8, 16, 32, 64], "pass_at_k": [0.533, 0.724, 0.895, 0.982, 0.999, 1.0, 1.0]})


def test_equivalent_k_of_the_papers_curve():
    assert metrics.equivalent_k(PUBLISHED, 0.306).label == "< 1"
    assert metrics.equivalent_k(PUBLISHED, 0.533).k == 1
    between = metrics.equivalent_k(PUBLISHED, (0.533 + 0.724) / 2)
    assert between.bound is Bound.WITHIN and between.k == pytest.approx(2**0.5)
    assert metrics.equivalent_k(PUBLISHED, 1.0).k == 32, "the first K at which a flat curve gets there"
    assert metrics.equivalent_k(PUBLISHED[:4], 0.99).label == "> 8"
    assert metrics.equivalent_k(PUBLISHED, float("nan")).label == "unknown"


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.data())
def test_equivalent_k_inverts_the_curve(steps, data):
    values = np.cumsum(steps) / np.sum(steps)
    curve = pd.DataFrame({"k": 2 ** np.arange(len(steps)), "pass_at_k": values})
    value = data.draw(st.floats(values[0], 1.0))
    found = metrics.equivalent_k(curve, value)
    assert found.bound is Bound.WITHIN
    assert np.interp(np.log(found.k), np.log(curve["k"]), values) == pytest.approx(value, abs=1e-9)


def test_equivalent_k_interval_holds_the_estimate_and_marks_open_ends():
    view = metrics.under(random_table(1, tasks=6), "published")
    curve = metrics.scaling_curve(view, [1, 2, 4, 8, 16])
    found = metrics.equivalent_k_interval(view, float(curve["pass_at_k"][1]), [1, 2, 4, 8, 16])
    assert found.k == pytest.approx(2) and found.low <= found.k <= found.high
    below = metrics.equivalent_k_interval(view, 0.0, [1, 2, 4])
    assert below.k == 1 or below.label == "< 1"
    mixed = metrics.under(grid([0, 0, 8]), "published")
    assert metrics.equivalent_k_interval(mixed, 0.2, [1, 2]).high == float("inf")
    one = metrics.equivalent_k_interval(metrics.under(grid([3]), "published"), 0.5, [1, 2, 4])
    assert one.bound is Bound.WITHIN and np.isnan(one.low)
