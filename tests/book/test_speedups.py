"""Appendix D's helpers: what is possible, what was found, and what was found again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_tables import sample, table

from vegtts_core.book import speedups, study
from vegtts_core.book import speedups_words as words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.runs import Run


def run(rows):
    manifest = {
        "parameters": {"protocol": "sound", "seed": 42},
        "policy": {"name": "embedded", "weights_sha256": "w", "adapter_sha256": None},
        "machine": {"cores": 2, "cpu": "X"},
    }
    return Run(Path("a"), manifest, table(rows), {}, pd.DataFrame())


def candidate(task, number, speed, correct=True, **more):
    return sample(
        task=f"level1/{task}",
        task_id=task,
        sample=number,
        fingerprint=f"f{number}",
        speedup=speed,
        correct=correct,
        **more,
    )


def test_the_papers_speedups_exceed_what_is_possible_on_four_of_five_tasks():
    limits = speedups.limits().set_index("task_id")
    assert (limits["times"] > 1).sum() == 4 and limits.loc[12, "times"] < 1
    assert limits.loc[4, "claimed"] == 859.8 and limits.loc[4, "headroom"] < 1.1
    assert (limits["claimed"] > limits["data_sheet"]).sum() == 4 and (limits["data_sheet"] > 1).all()


def test_triangular_products_may_be_six_times_as_fast_and_the_papers_are_faster_still() -> None:
    limits = speedups.limits().set_index("task_id")
    assert (
        limits.loc[[14, 15], "headroom"].between(7.8, 8).all() and limits.loc[[14, 15], "times"].between(1.5, 2).all()
    )


def test_how_many_are_impossible_is_counted() -> None:
    limits = speedups.limits()
    assert words.fastest_verdict(pd.DataFrame(), limits).startswith("4 of the 5 ")
    assert words.facts(limits, {})["impossible"] == "4" == words.facts(limits, {})["impossible-sheet"]
    slower = limits.assign(times=[0.5, 2.0, 0.5, 0.5, 0.5])
    assert words.fastest_verdict(pd.DataFrame(), slower).startswith("1 of the 5 ")
    assert words.facts(slower, {})["impossible"] == "1"


def test_copies_count_once_and_wrong_candidates_not_at_all():
    rows = [candidate(4, 0, 2.0), candidate(4, 1, 0.5), candidate(4, 2, 9.0, correct=False)]
    copy = {**rows[0], "sample": 3}
    one = run([*rows, copy])
    assert len(speedups.correct(one)) == 2
    found = speedups.spread({"a": one})
    assert found["distinct"].iloc[0] == 2 and found["ratio"].iloc[0] == pytest.approx(4.0)
    assert "1 of 1 tasks" in words.spread_verdict(found)
    assert len(speedups.points({"a": one})) == 2


def test_a_run_without_anything_correct_stands():
    one = run([candidate(4, 0, 9.0, correct=False)])
    found = speedups.fastest({"a": one})
    assert not len(found) and "No search" in words.fastest_text(found)
    assert not len(speedups.points({"a": one}))
    assert "Nothing can be gained" in words.spread_verdict(speedups.spread({"a": one}))


def test_recorded_runs_fill_every_table_figure_and_sentence():
    searches, limits = study.searches("recorded", "cpu"), speedups.limits()
    fastest, spread = speedups.fastest(searches), speedups.spread(searches)
    assert set(fastest["run"]) == set(searches) and not fastest.duplicated(["run", "task"]).any()
    assert (fastest["again"].dropna() > 0).all() and (fastest["least"].dropna() <= fastest["again"].dropna()).all()
    moved = speedups.means(study.adaptations("recorded", "cpu"))
    assert (moved["geometric"] <= moved["mean"] + 1e-12).all() and (moved["largest"] >= moved["geometric"]).all()
    for frame, columns in (
        (limits, speedups.LIMIT_COLUMNS),
        (fastest, speedups.FASTEST_COLUMNS),
        (moved, speedups.MEAN_COLUMNS),
    ):
        text = Table(frame, "tab-any", "Any.", columns).text()
        assert "nan" not in text and "inf" not in text
    assert "<svg" in draw(specification(speedups.figure(speedups.points(searches))), "fig-any")
    sentences = [words.fastest_text(fastest), words.fastest_verdict(fastest, limits), words.spread_text(spread)]
    for sentence in [*sentences, words.spread_verdict(spread), *words.facts(limits, searches).values()]:
        assert sentence and "nan" not in sentence
    assert np.isfinite(spread["ratio"]).all()


def test_tasks_that_were_not_measured_again_are_named():
    one = run([candidate(4, 0, 2.0), candidate(5, 0, 2.0)])
    assert words.stale_text({"a": one}) == ""
    measured = sorted(set(one.samples["task"]))[:1]
    one.manifest["remeasured"] = {"tasks": measured}
    stale = sorted(set(one.samples["task"]) - set(measured))
    assert one.stale_tasks == set(stale) and "Task 5 on a GPU" in words.stale_text({"a": one})
