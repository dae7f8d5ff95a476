"""The typed-in numbers: spot values, inner arithmetic of the tables, and the contradictions kept as published."""

import math

import numpy as np
import pandas as pd
import pytest

from vegtts_core.book import published
from vegtts_core.errors import UserError

WEIGHTLESS = {"text", "label"}


@pytest.mark.parametrize("table_id", published.ids())
def test_every_table_loads_with_its_columns_and_units(table_id):
    info, table = published.info(table_id), published.table(table_id)
    assert [table.index.name, *table.columns] == list(info.columns)
    assert table.index.is_unique and len(table)
    assert info.title and info.section and info.place
    for name in table.columns:
        unit = info.columns[name].unit
        if unit in WEIGHTLESS:
            assert table[name].notna().all()
            continue
        numbers = table[name].dropna()
        assert pd.api.types.is_numeric_dtype(numbers)
        if unit in ("fraction", "probability"):
            assert numbers.abs().le(1).all(), "fractions, not percent"
        if unit in ("count", "tokens", "ratio"):
            assert numbers.ge(0).all()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("5.1/1/pass_at_k", 0.533),
        ("5.1/16/pass_at_k", 0.999),
        ("5.1/1/low", 0.20),
        ("5.2/ttt-boa-step-8/equivalent_k", "< 1"),
        ("5.3/surprisal-guided/fast_1", 0.80),
        ("5.3/confidence-guided/std", 0.141),
        ("5.3/surprisal-guided-top3/mean_speedup", 139.0),
        ("5.2-strength/wilcoxon/p_value", 0.084),
        ("5.2-length/raw/rho", -0.047),
        ("5.2-quartiles/Q2/fast_1", 0.81),
        ("5.3-trajectory/2/task_4", 0.469),
        ("5.3-isolated/14/step_4", 0.563),
        ("5.3b-probe/all-step-8/p_value", 5.7e-7),
        ("5.4-tasks/28/boa_step_1", 0.0),
        ("5.5-transfer/s2-s1/fast_1", 0.3125),
        ("B/40/correctness", 0.984),
        ("C.1/sdpo-feedback/teacher_tokens", 338_000),
        ("D.1/batch-ttt-boa/std", 11.80),
        ("D.2/4/speedup", 859.8),
        ("E.1/sdpo-prompt-only/seed_43", 0.238),
        ("4.4/1/tasks", "4 5 12 14 15"),
        ("A/rlvr.temperature", None),
    ],
)
def test_spot_values(path, expected):
    if expected is None:
        with pytest.raises(UserError, match="table/row/column"):
            published.value(path)
    else:
        assert published.value(path) == expected


def test_what_the_paper_does_not_give_is_nan():
    assert math.isnan(published.value("5.3-isolated/5/step_4"))
    assert math.isnan(published.value("5.2-length/length/p_value"))


def test_mistakes_are_answered_with_one_sentence():
    with pytest.raises(UserError, match=r"no table '9.9'"):
        published.value("9.9/a/b")
    with pytest.raises(UserError, match=r"no row '3'.*16"):
        published.value("5.1/3/low")
    with pytest.raises(UserError, match=r"no column 'x'.*pass_at_k"):
        published.value("5.1/1/x")


def test_a_returned_table_is_the_callers_own():
    mine = published.table("5.1")
    mine.loc["1", "pass_at_k"] = 0.0
    assert published.value("5.1/1/pass_at_k") == 0.533


def test_trajectory_and_subset_means_are_the_means_of_their_tasks():
    trajectory = published.table("5.3-trajectory")
    tasks = trajectory[[c for c in trajectory if c.startswith("task_")]]
    assert np.allclose(tasks.mean(axis=1), trajectory["fast_1"], atol=6e-4)
    assert tasks.max().mean() == pytest.approx(published.value("headline/ttt-per-task-oracle/value"), abs=1e-3)
    subset = published.table("5.4-tasks")
    assert subset["best_of_n"].mean() == pytest.approx(published.value("5.4-budget/best-of-n/fast_1"), abs=6e-4)
    assert subset["boa_step_1"].mean() == pytest.approx(published.value("5.4-budget/boa-step-1/fast_1"), abs=6e-4)
    assert np.allclose((subset["best_of_n"] - subset["boa_step_1"]).abs(), subset["margin"], atol=6e-4)


@pytest.mark.parametrize("table_id", ["D.1", "E.1"])
def test_means_and_sample_deviations_over_seeds(table_id):
    table = published.table(table_id)
    seeds = table[["seed_42", "seed_43", "seed_44"]]
    size = table["mean"].abs().max()
    assert np.allclose(seeds.mean(axis=1), table["mean"], atol=0.002 * max(1, size))
    assert np.allclose(seeds.std(axis=1, ddof=1), table["std"], atol=0.002 * max(1, size))


def test_halves_are_means_of_quartiles():
    q = published.table("5.2-quartiles")["fast_1"]
    assert (q["Q1"] + q["Q2"]) / 2 == pytest.approx(published.value("5.2-halves/high-surprisal/fast_1"), abs=6e-4)
    assert (q["Q3"] + q["Q4"]) / 2 == pytest.approx(published.value("5.2-halves/low-surprisal/fast_1"), abs=6e-4)


def test_contradictions_are_kept_as_published_with_their_places():
    found = {i.topic: i for i in published.inconsistencies()}
    best = found["TTT's best fast_1"]
    assert [published.value(path) for path, _ in best.values] == [0.306, 0.35, 0.425]
    subset = found["subset 2's Best-of-N"]
    assert {published.value(path) for path, _ in subset.values} == {0.369, 0.405}
    for inconsistency in found.values():
        assert inconsistency.statement.endswith(".")
        assert all(place and published.value(path) is not None for path, place in inconsistency.values)


def test_claims_have_unique_ids_and_existing_values():
    claims = published.claims()
    assert len({c.id for c in claims}) == len(claims)
    for claim in claims:
        assert claim.sentence.endswith(".") and claim.section
        assert all(not (isinstance(v, float) and math.isnan(v)) for v in claim.published().values())
    assert {c.needs for c in claims} == set(published.Needs)
    best_of_n = {c.id for c in published.claims(published.Needs.BEST_OF_N)}
    assert {"saturation", "surprisal-beats-confidence", "top3-is-oracle", "quartiles", "huge-speedups"} <= best_of_n
