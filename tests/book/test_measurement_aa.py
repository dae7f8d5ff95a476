"""Chapter 9's A/A section: made measurements whose truth is known, the recorded ones, and none at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from measurement_shown import drawn, shown

from vegtts_core.book import measurement_aa
from vegtts_core.book.measurement import NOTHING

CPU = {"machine": {"device": "cpu", "cpu": "Processor", "cores": 2}}


def calibration(published=0.5, sound=0.0, width=0.03, tasks=20, repeats=50, seed=0, centre=0.0):
    """Made A/A measurements: ``published`` and ``sound`` of them are called faster."""
    rng = np.random.default_rng(seed)
    rows = []
    for task in range(tasks):
        for protocol, share in (("published", published), ("sound", sound)):
            for repeat in range(repeats):
                faster = (task * repeats + repeat) < round(share * tasks * repeats) if protocol == "sound" else None
                faster = bool(rng.random() < share) if faster is None else faster
                other = "slower" if protocol == "published" else "undecided"
                middle = float(np.exp(rng.normal(centre, 0.02)))
                row = {"task": f"level1/{task}", "protocol": protocol, "repeat": repeat, "correct": True}
                row |= {"speedup": middle, "decision": "faster" if faster else other, "process_pairs": 1}
                bounds = {"speedup_low": middle * np.exp(-width), "speedup_high": middle * np.exp(width)}
                rows.append(row | (bounds if protocol == "sound" else {"speedup_low": None, "speedup_high": None}))
    parameters = {"device": "cpu", "size": "cpu", "repeats": repeats, "per_process": 10}
    parameters["settings"] = {"sound": {"minimum_effect": 0.02, "half_width": 0.01}}
    return measurement_aa.Calibration(pd.DataFrame(rows), {"parameters": parameters, **CPU})


def test_a_coin_is_called_one_and_the_target_is_held_against_the_interval():
    assert measurement_aa.verdict([calibration()]) == (
        "CPU, small shapes: a win under the published protocol cannot be told from a coin toss, "
        "the sound one stays within its target of 1%."
    )
    assert "less often than a coin" in measurement_aa.verdict([calibration(published=0.1)])
    assert "more often than a coin" in measurement_aa.verdict([calibration(published=0.9)])
    assert "does not exclude more" in measurement_aa.verdict([calibration(sound=0.008)])
    assert "misses its target of 1%" in measurement_aa.verdict([calibration(sound=0.05)])
    assert "cannot be judged" in measurement_aa.verdict([calibration(tasks=1)])
    assert measurement_aa.verdict([]) == "Nothing was recorded, so nothing can be said."


def test_power_follows_from_the_half_width():
    row = measurement_aa.power([calibration(width=0.05)]).iloc[0]
    assert row["needed"] == pytest.approx(1.02 * np.exp(0.05)) and row["tight"] == 0 and row["undecided"] == 1
    assert row["bias"].low < 1 < row["bias"].high
    biased = measurement_aa.power([calibration(centre=-0.03)]).iloc[0]["bias"]
    assert biased.high < 1 and biased.estimate == pytest.approx(np.exp(-0.03), abs=2e-3)
    assert measurement_aa.power([calibration(width=0.005)]).iloc[0]["tight"] == 1


def test_tasks_that_differ_widen_the_interval_over_tasks():
    rows = calibration(published=0.5).rows
    rows.loc[rows["protocol"] == "published", "decision"] = [
        "faster" if task < 10 else "slower" for task in range(20) for _ in range(50)
    ]
    wilson, tasks = measurement_aa.called(rows[:0], "faster"), None
    assert np.isnan(wilson.low)
    part = rows[rows["protocol"] == "published"]
    wilson, tasks = measurement_aa.called(part, "faster"), measurement_aa.over_tasks(part, "faster")
    assert wilson.estimate == pytest.approx(tasks.estimate)
    assert tasks.high - tasks.low > 3 * (wilson.high - wilson.low)


@pytest.mark.filterwarnings("error")
def test_the_recorded_measurements_have_tables_figures_and_sentences():
    found = measurement_aa.calibrations()
    assert found and found[0].where.startswith("CPU")
    text = shown(measurement_aa.table(found), measurement_aa.TABLE_COLUMNS)
    assert text.count("published") == len(found)
    power = measurement_aa.power(found)
    shown(power, measurement_aa.POWER_COLUMNS)
    spread = measurement_aa.spread(found)
    assert len(spread) == sum(each.rows.groupby(["task", "protocol"]).ngroups for each in found)
    assert (spread["least"] <= spread["low"]).all() and (spread["high"] <= spread["most"]).all()
    drawn(measurement_aa.figure(spread))
    for sentence in (
        measurement_aa.everywhere(found, "sound"),
        measurement_aa.asymmetry(found),
        measurement_aa.power_sentence(power),
        measurement_aa.design(found),
    ):
        assert found[0].where in sentence and "nan" not in sentence


@pytest.mark.filterwarnings("error")
def test_no_calibration_at_all():
    assert NOTHING in shown(measurement_aa.table([]), measurement_aa.TABLE_COLUMNS)
    power = measurement_aa.power([])
    assert NOTHING in shown(power, measurement_aa.POWER_COLUMNS)
    assert NOTHING in drawn(measurement_aa.figure(measurement_aa.spread([])))
    assert measurement_aa.everywhere([], "sound") == measurement_aa.power_sentence(power) == "–"
    assert "A/A (CPU); A/A (GPU)" in measurement_aa.absent([]) and measurement_aa.asymmetry([]) == "–"
    assert measurement_aa.design([]) == ""
