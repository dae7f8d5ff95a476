"""Sections of 5.1, 5.2 and C on the study's runs: cases made by hand, and the recorded runs."""

import math
from dataclasses import replace

import pytest
from made_tables import grid, sample, table

from vegtts_core import metrics
from vegtts_core.book import compute_study as compute
from vegtts_core.book import scaling_study as scaling
from vegtts_core.book import selecting_study as selecting
from vegtts_core.book import study


def view(samples):
    return metrics.under(samples, "sound")


def test_a_curve_that_is_flat_from_the_start_is_saturated_and_one_task_decides_nothing() -> None:
    made = {
        "flat": view(grid([32, 32, 32], k=32)),
        "late": view(grid([1, 1, 1], k=64)),
        "one": view(grid([8, 0, 0], k=32)),
        "none": view(grid([0, 0], k=32)),
        "few": view(grid([4, 4], k=8)),
    }
    assert scaling.states(made) == {"flat": "yes", "late": "no", "one": "one", "none": "nothing", "few": "short"}
    text = scaling.verdict(scaling.states(made))
    assert "Saturated by K = 16: flat." in text and "Not saturated by K = 16: late." in text


def test_nothing_found_reaches_the_reference_and_all_fast_reaches_their_speedup() -> None:
    found = scaling.reached({"none": view(grid([0, 0], k=4)), "all": view(grid([4, 4], k=4))}).set_index(
        ["series", "k"]
    )
    assert found.loc[("none", 4), "reached"].estimate == pytest.approx(1.0)
    assert found.loc[("all", 1), "reached"].estimate == pytest.approx(2.0)
    shown = scaling.table({"all": view(grid([4, 4], k=4))}).iloc[0]
    assert shown["solved_64"] == "–" and shown["solved_1"].startswith("100%")


def ranked(tasks, fast_is_surprising):
    """Per task two candidates, the fast one the more or the less surprising."""
    rows = []
    for task in range(tasks):
        for i, speedup in enumerate((2.0, 0.5)):
            logprob = -1.0 if (i == 0) == fast_is_surprising else -0.1
            one = {"task": f"level1/{task}", "task_id": task, "sample": i, "fingerprint": f"f{i}"}
            rows.append(sample(**one, speedup=speedup, mean_logprob=logprob))
    return view(table(rows))


@pytest.mark.parametrize(("surprising", "points"), [(True, 100.0), (False, -100.0)])
def test_surprisal_is_held_against_confidence_and_against_random_not_the_oracle(surprising, points) -> None:
    results = selecting.outcomes({"made": ranked(6, surprising)})
    gaps = selecting.gaps(results)
    assert 100 * gaps["made", "confidence"].interval.estimate == pytest.approx(points)
    assert 100 * gaps["made", "random"].interval.estimate == pytest.approx(points / 2)


def test_one_interval_among_several_is_no_finding_and_none_is_undecided() -> None:
    one = selecting.outcomes({"clear": ranked(6, True), "alike": view(grid([8, 8]))})
    assert "of 1 interval from two or more contested tasks, 1 excludes 0 (clear: more often)." in selecting.verdict(one)
    alike = selecting.outcomes({"alike": view(grid([8, 8]))})
    assert "no run has two tasks" in selecting.verdict(alike) and "no run has a contested" in selecting.here(alike)


def test_perfect_order_within_tasks_has_rho_one() -> None:
    row = selecting.related({"made": ranked(6, True)}, resamples=100).iloc[0]
    assert row["within"].estimate == pytest.approx(1.0) and row["tasks"] == 6


def test_every_recorded_run_has_its_card_and_its_command_once() -> None:
    runs = compute.runs() | compute.runs("cpu")
    shown = compute.table(runs)
    assert list(shown["name"]) == list(runs) and len(set(runs)) == len(runs)
    lines = compute.commands(runs).splitlines()
    assert len(lines) == len(runs)
    assert not [line for line in lines if line.startswith("#")]  # each can be made again
    assert any(line.endswith("--seed 42") for line in lines if "training.probe" in line)
    for name, run in runs.items():
        card = compute.card(run)
        assert card == "CPU" if "gpu" not in run.measured_on else card in run.measured_on["gpu"].split(), name


def test_runs_that_began_from_different_adapters_are_told_apart() -> None:
    (one, *_) = (run for run in compute.runs().values() if compute.start(run))
    assert compute.starts_text({"a": one, "b": one}) == ""
    policy = one.manifest["policy"] | {"adapter_sha256": "f" * 64}
    other = replace(one, manifest=one.manifest | {"policy": policy})
    text = compute.starts_text({"a": one, "b": one, "c": other})
    assert f"`{compute.start(one)}` (`a` and `b`)" in text and "`ffffffff` (`c`)" in text


def test_a_run_that_was_cut_says_what_it_lacks() -> None:
    (run, *_) = compute.runs().values()
    cut = {"why": "The time was over.", "tasks_left_out": ["level1/4", "level1/87"], "not_retimed": 43}
    runs = {"whole": run, "short": replace(run, manifest=run.manifest | {"cut": cut})}
    text = (
        " `short` was cut: The time was over. It lacks tasks 4 and 87, and 43 correct candidates were not timed again."
    )
    assert compute.cuts_text(runs) == text
    assert compute.cuts_text({"whole": replace(run, manifest={**run.manifest, "cut": None})}) == ""


def test_which_adapter_the_studys_runs_began_from_is_said() -> None:
    found = compute.runs()
    text = compute.starts_text(found)
    ((copy, of),) = compute.copies().items()
    assert f"`{copy}` is `{of}` in bfloat16." in text and text.endswith("Runs are paired within one of them only.")
    for name in ("entropic_h100_t1_42", "sdpo_feedback_h100_43"):
        assert compute.start(found[name]) == copy and f"`{name}`" in text
    assert compute.starts_text({name: run for name, run in found.items() if compute.start(run) != copy}) == ""


def test_recorded_searches_fill_every_table() -> None:
    found = scaling.views(study.searches("recorded", "cpu"))
    assert list(scaling.table(found)["run"]) == list(found)
    assert len(scaling.figure(scaling.solved(found)).to_dict()["concat"]) == len(found)
    results = selecting.outcomes(found)
    assert len(selecting.rules(results)) == 5 * len(found)
    shown = selecting.differences(found, results)
    assert list(shown["run"]) == list(found)
    assert all(effect.n == 0 or not math.isnan(effect.interval.estimate) for effect in selecting.gaps(results).values())
