"""Both protocols on several runs: shares, wins that are left, and the recorded runs."""

from dataclasses import replace

import pytest
from made_tables import sample, table

from vegtts_core.book import measurement_study as both
from vegtts_core.book import study


def run_of(rows):
    (any_run, *_) = study.searches("recorded", "cpu").values()
    return replace(any_run, samples=table(rows))


def rows_of(published, sound, count=8):
    """Samples of one task, each a candidate of its own, of which so many are fast under each protocol."""
    rows = []
    for place in range(count):
        row = sample(task="level1/0", task_id=0, speedup=1.0, fingerprint=f"f{place}", sample=place)
        row |= {"published_speedup": 1.5 if place < published else 0.9, "published_correct": True}
        row |= {"sound_speedup_low": 1.4 if place < sound else 0.9, "sound_speedup": 1.5 if place < sound else 1.0}
        rows.append(row | {"sound_decision": "faster" if place < sound else "same"})
    return rows


def test_wins_that_are_left_and_those_that_are_not() -> None:
    found = both.table({"Qwen2.5-Coder-1.5B, forward": run_of(rows_of(4, 0)), "kept": run_of(rows_of(2, 2))})
    assert list(found["run"]) == ["1.5B base, forward", "kept"]
    assert list(found["wins"]) == [4, 2] and list(found["kept"]) == [0, 2]
    assert found.iloc[0]["published"].estimate == pytest.approx(0.5) and found.iloc[0]["sound"].estimate == 0
    assert both.verdict(found) == (
        "Of 6 candidates that win as published, 2 win soundly (33%). None of their wins is left for 1.5B base, forward."
    )
    assert both.here(found).startswith("1.5B base, forward: 50% as published, 0% soundly; kept: 25%")
    assert both.largest_gap(found).startswith("1.5B base, forward: 50%")
    assert "No candidate" in both.verdict(both.table({"none": run_of(rows_of(0, 0))}))


def test_the_recorded_runs() -> None:
    runs = study.searches("recorded", "cpu")
    found = both.table(runs)
    assert len(found) == len(runs) and (found["kept"] <= found["wins"]).all()
    drawn = both.long(found)
    assert len(drawn) == 2 * len(runs) and (drawn["low"] <= drawn["share"]).all()
    assert (drawn["high"] > drawn["low"]).all()  # none in every task is no proof that other tasks have none
