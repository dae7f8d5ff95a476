"""Chapters 7 and 8: how far numbers reach, which runs are missing, and advice that follows the verdicts."""

import math
from pathlib import Path

import pandas as pd
import pytest
from adapted_runs import family

from vegtts_core.book import concluding, limiting, study, verdicts_study
from vegtts_core.book import limiting_words as words
from vegtts_core.book import measurement as m
from vegtts_core.book import measurement_aa as aa
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.statistics import mean_effect


def entries(**outcomes: Outcome):
    findings = {name.replace("_", "-"): Finding("x", outcome, "y", power=0.3) for name, outcome in outcomes.items()}
    return verdicts_study.by_claim({"policy": findings})


@pytest.mark.parametrize("question", concluding.QUESTIONS)
def test_advice_follows_the_verdict(question: concluding.Question) -> None:
    said = {}
    for outcome in Outcome:
        table = concluding.advice(entries(**{question.claim.replace("-", "_"): outcome}))
        row = table.set_index("asks").loc[question.asks]
        said[outcome] = row["now"]
        assert row["because"].startswith(outcome.value)
        assert ("power" in row["because"]) == (outcome is not Outcome.NOT_RUN)
    assert said[Outcome.REPLICATED] == question.replicated != said[Outcome.NOT_REPLICATED]
    assert said[Outcome.UNDECIDED] == said[Outcome.NOT_RUN] == said[Outcome.ARTEFACT] == question.open


def test_the_summary_counts_main_claims() -> None:
    found = entries(saturation=Outcome.REPLICATED, transfer=Outcome.UNDECIDED)
    assert "1 replicated" in concluding.decided(found) and "power is 30%" in concluding.decided(found)
    assert concluding.summary(found)["replicated"].startswith("Best-of-N saturates")
    assert "identical code" in concluding.clock(aa.calibrations()) and "not calibrated" in concluding.clock([])


def test_planned_runs_are_held_against_recorded_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "warm_start: {policy: x}\nadaptation: {vary: {one: {}, two: {}, three: {}, four: {}, five: {}}}\n"
        "isolated: {vary: {six: {}}}\n"
        "recorded: {adaptation: [gone], isolated: [one], warm_start: [made], probe: seen}\n"
    )
    for name in ("one", "made", "seen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    monkeypatch.setattr(limiting, "recorded_folder", lambda: tmp_path)
    found = limiting.planned(str(path)).set_index("section")
    assert found["planned"].to_dict() == {"warm_start": 1, "adaptation": 5, "isolated": 1, "probe": 1}
    assert found["recorded"].to_dict() == {"warm_start": 1, "adaptation": 1, "isolated": 0, "probe": 1}
    assert found.at["adaptation", "missing"] == ["two", "three", "four", "five"]
    assert found.at["warm_start", "missing"] == []
    table = limiting.runs_table(found.reset_index()).set_index("what")
    assert table.at["batch adaptation", "missing"] == "`two`, `three` and 2 more"
    assert table.at["warm start", "missing"] == "none"
    assert words.runs_text(found) == "3 of 8 planned runs of the study are recorded."
    assert words.runs_verdict(found) == "No run yet of: single tasks."
    assert "None of its families" in words.runs_verdict(found.assign(recorded=0))


def test_the_study_s_plan_can_be_read() -> None:
    found = limiting.planned()
    assert {"best_of_n_study", "adaptation", "sdpo_feedback"} <= set(found["section"])
    assert (found["recorded"] <= found["planned"]).all() and "recorded" not in set(found["section"])


def test_the_basis_counts_tasks_seeds_and_rollouts() -> None:
    runs = family([[[1, 2], [2, 2]], [[0, 2], [2, 3]]])
    found = limiting.families({}, runs)
    row = limiting.basis(found, {next(iter(found)): "A"}).iloc[0]
    assert row["letter"] == "A"
    assert (row["tasks"], row["seeds"], row["steps"], row["k"], row["rollouts"]) == (2, 2, 1, 4, 32)
    reach = limiting.reach(found)
    assert reach["runs"] == 2 and reach["gpu"] == 0 and reach["scaffolds"] == ["template"]
    assert "real GPU kernels" in words.reach_verdict(reach) and "0 of 2 runs on a GPU" in words.reach_text(reach)
    assert "repeated on a GPU" in words.reach_verdict(reach | {"gpu": 1})


def test_widths_are_those_of_the_strongest_design() -> None:
    effects = {n: mean_effect([0.1 * (-1) ** i for i in range(n)], range(n)) for n in (4, 20)}
    policies = {
        f"{n} tasks": {"transfer": Finding("", Outcome.UNDECIDED, power=effect.power(-0.1), effect=effect, size=-0.1)}
        for n, effect in effects.items()
    }
    row = limiting.widths(verdicts_study.by_claim(policies)).iloc[0]
    assert row["tasks"] == 20 and row["size"] == 0.1 and 0 < row["half"] < 0.2
    assert row["needed"] > 20 and row["power"] < 0.8
    assert "0 of 1 test would" in words.widths_verdict(limiting.widths(verdicts_study.by_claim(policies)))
    nothing = limiting.widths(verdicts_study.by_claim({}))
    assert nothing.empty and "No main claim" in words.widths_verdict(nothing)


def test_the_paper_s_designs_have_little_power() -> None:
    found = limiting.paper_power()
    assert found["power"].between(0.05, 0.5).all() and (found["needed"] > 5).all()
    assert "surprisal over confidence" in words.paper_text(found)


def test_the_evaluator_s_limits_come_from_its_recordings() -> None:
    found, reports = aa.calibrations(), m.recorded("exploits_cpu", "exploits_cuda")
    table = words.evaluator(found, reports)
    assert len(table) == 6 and table["home"].str.startswith("{ref}`9 <sec-measurement").all()
    assert table["evidence"].str.len().min() > 10
    assert len(words.evaluator(found, [])) == 3
    assert "faster" in words.calibrated(found) and "undecided" in words.noise_verdict(found)


def test_a_need_that_no_number_of_tasks_meets_is_said_so() -> None:
    table = pd.DataFrame({"power": [0.1], "needed": [math.inf]})
    assert "over 1,000 tasks" in words.widths_verdict(table)


def test_labels_tell_policies_apart() -> None:
    runs = family([[[1, 2], [2, 2]]])
    assert list(limiting.families({}, runs)) == [study.label(next(iter(runs.values())))]
