"""Recorded intervals by today's rule: only wider, decisions only taken back, and honest on recorded repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vegtts_core.book.measurement_aa import calibrations, table
from vegtts_core.book.runs import honest_run
from vegtts_core.evaluator import BetweenEvaluations, Reach
from vegtts_core.project import find_project_root, recorded_folder
from vegtts_core.runs import load_run
from vegtts_core.runs.intervals import BETWEEN, RULE, reaches_under, widened_samples, with_between_evaluations
from vegtts_core.runs.machine import CPU_CLOCK
from vegtts_core.runs.repeats import agreement, evaluations, needed, pairs, recorded_reaches, recorded_runs

ROOT = find_project_root()
RUNS = [
    "best_of_n_h100_template_1",
    "adaptation_cpu_43",
    "adaptation_cpu_42",
    "probe_h100_t1_42",
    "comparison_embedded",
]


@pytest.fixture(scope="module")
def repeated() -> pd.DataFrame:
    return pairs(evaluations(recorded_runs(ROOT)))


@pytest.mark.parametrize("name", RUNS)
def test_bounds_get_wider_and_nothing_else_changes(name: str) -> None:
    old = load_run(recorded_folder() / name)
    new = with_between_evaluations(old, again=True)
    changed = {"sound_speedup_low", "sound_speedup_high", "sound_decision", BETWEEN}
    changed |= {"retimed_sound_speedup_low", "retimed_sound_decision"}
    kept = [column for column in old.samples if column not in changed]
    pd.testing.assert_frame_equal(old.samples[kept], new.samples[kept])
    has = old.samples["sound_speedup_low"].notna()
    assert (new.samples["sound_speedup_low"][has] < old.samples["sound_speedup_low"][has]).all()
    assert (new.samples["sound_speedup_high"][has] > old.samples["sound_speedup_high"][has]).all()
    for column in ("sound_decision", "retimed_sound_decision"):
        same = new.samples[column].eq(old.samples[column]) | old.samples[column].isna()
        assert new.samples[column][~same].eq("undecided").all()
    assert "noise within one pair" in new.manifest[RULE] and RULE not in old.manifest
    assert new.samples[has][BETWEEN].gt(0).all()


def test_what_was_timed_side_by_side_is_known_less_well() -> None:
    old = load_run(recorded_folder() / "comparison_embedded")
    told = with_between_evaluations(old)
    assert old.manifest["parameters"]["evaluator"]["workers"] == 8
    assert told.samples[BETWEEN].dropna().eq(BetweenEvaluations().side_by_side.share).all()
    assert "±46" in told.manifest[RULE]
    center, high = told.samples["sound_speedup"].astype(float), told.samples["sound_speedup_high"].astype(float)
    assert (np.log(high / center).dropna() >= 0.38 - 1e-9).all()


def test_twice_is_once() -> None:
    once = honest_run(recorded_folder() / RUNS[0])
    again = with_between_evaluations(once)
    assert again is once
    assert with_between_evaluations(replace(once, samples=once.samples.head(0))).manifest is once.manifest


def test_rows_that_were_measured_with_it_pass_through() -> None:
    row = {"scaffold": "template", "sound_speedup": 1.05, "sound_speedup_low": 1.04, "sound_speedup_high": 1.06}
    rows = [row | {"sound_decision": "faster", BETWEEN: known} for known in (None, 0.009)]
    found = widened_samples(pd.DataFrame(rows), "cuda", BetweenEvaluations(events=Reach(share=0.04)), 0.02)
    assert found["sound_decision"].tolist() == ["undecided", "faster"]
    assert found[BETWEEN].tolist() == [0.04, 0.009]
    assert found["sound_speedup_low"][1] == 1.04
    grown = widened_samples(pd.DataFrame(rows), "cuda", BetweenEvaluations(events=Reach(share=0.04)), 0.02, again=True)
    assert grown["sound_decision"].tolist() == ["undecided"] * 2 and grown[BETWEEN].tolist() == [0.04] * 2
    half = np.sqrt(np.log(1.05 / 1.04) ** 2 - 0.009**2 + 0.04**2)  # the noise and today's reach, each once
    assert grown["sound_speedup_low"][1] == pytest.approx(1.05 / np.exp(half))
    assert found["sound_speedup_low"][0] == pytest.approx(1.05 / np.exp(np.hypot(np.log(1.05 / 1.04), 0.04)))


@pytest.mark.parametrize(
    ("clock", "names"), [("1", ["cpu"]), (CPU_CLOCK, ["cpu", "cpu_modules", "side_by_side", "events", "modules"])]
)
def test_the_defaults_are_what_recorded_data_ask_for(repeated: pd.DataFrame, clock: str, names: list[str]) -> None:
    """Of the first clock nothing but kernels is left in data/runs."""
    asked, used = recorded_reaches(ROOT, repeated, clock), reaches_under(clock)
    for name in names:
        wanted, given = getattr(asked, name), getattr(used, name)
        assert wanted.share <= given.share and wanted.seconds <= given.seconds
        if clock == CPU_CLOCK:  # an earlier clock's was found from more than is left of it
            assert given.share <= wanted.share * 1.1 and given.seconds <= wanted.seconds * 1.1


def test_identical_code_is_called_faster_or_slower_no_more_often_than_an_interval_may_fail() -> None:
    rows = table(calibrations())
    sound = rows[rows["protocol"] == "sound"]
    assert len(sound) == 4
    assert (sound["faster"] <= 0.025 * sound["n"]).all() and (sound["slower"] <= 0.025 * sound["n"]).all()


def test_repeated_evaluations_agree_as_often_as_claimed(repeated: pd.DataFrame) -> None:
    """Kernels on H100s, candidates on a CPU of their own, and side by side; as recorded, they did not."""
    used = BetweenEvaluations()
    alone = repeated["where"].str.contains('"workers":1,') | repeated["where"].str.contains('"workers":1}')
    bodies, shared = alone & repeated["scaffold"].eq("forward"), repeated[~alone]
    kernels, processor = (repeated[alone & ~bodies & repeated["device"].eq(device)] for device in ("cuda", "cpu"))
    forward = repeated[bodies & repeated["device"].eq("cpu")]
    assert len(kernels) > 1500 and len(processor) > 1000 and len(forward) > 400 and len(shared) > 800
    today = processor["where"].str.contains(f'"clock":"{CPU_CLOCK}"')
    assert today.sum() > 500
    cases = (
        (kernels, used.events, 0.05),
        (processor[~today], reaches_under("1").cpu, 0.03),
        (processor[today], used.cpu, 0.03),
        (forward, used.cpu_modules, 0.03),
        (shared, used.side_by_side, 0.05),
    )
    for found, reach, before in cases:
        assert agreement(found, Reach(share=0))["disjoint"] > before
        told = agreement(found, reach)
        assert told["disjoint"] <= 0.015 and told["contradicting"] == 0
        assert np.mean(needed(found) <= reach.share) >= 0.95
    by_task = kernels.groupby("task").apply(lambda part: np.mean(needed(part) <= used.events.share))
    assert by_task.min() >= 0.9
