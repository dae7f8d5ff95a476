"""The rules of the table of claims on made tables: what is replicated, what not, what is undecided or an artefact."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vegtts_core import metrics
from vegtts_core.book import published, verdicts, verdicts_study
from vegtts_core.book.tables import Table
from vegtts_core.book.verdict_rules import best_of_n
from vegtts_core.book.verdict_rules.measuring import measured
from vegtts_core.book.verdicts import Entry, Finding, Outcome, by_sign
from vegtts_core.book.walking import Walk
from vegtts_core.runs.schema import SAMPLES
from vegtts_core.statistics import mean_effect
from vegtts_core.tasks import get_task


def table(surprising_is_fast: bool, tasks: int = 8, k: int = 20, correct: bool = True) -> pd.DataFrame:
    rows = []
    for task in range(1, tasks + 1):
        for seed in (1, 2, 3):
            for sample in range(k):
                fast = (sample < 4) == surprising_is_fast
                row = dict.fromkeys(SAMPLES.names)
                row |= {"task": f"level1/{task}", "task_id": task, "seed": seed, "step": 0, "sample": sample}
                row |= {
                    "tokens": 8,
                    "mean_logprob": -2.0 + 0.05 * sample,
                    "sampling_mean_logprob": -1.0 + 0.05 * sample,
                }
                row |= {"fingerprint": f"{task}-{sample}", "published_correct": correct, "sound_correct": correct}
                speedup = 2.0 if fast else 0.5
                row |= {"published_speedup": speedup, "sound_speedup": speedup}
                row |= {"sound_speedup_low": speedup * 0.99, "sound_speedup_high": speedup * 1.01}
                row |= {"sound_decision": "faster" if fast else "slower"}
                rows.append(row)
    return pd.DataFrame(rows)


def outcomes(samples: pd.DataFrame) -> dict[str, Outcome]:
    found = best_of_n.findings(metrics.under(samples, "sound"))
    return {name: finding.outcome for name, finding in found.items()}


def test_a_world_in_which_surprise_is_speed() -> None:
    found = outcomes(table(surprising_is_fast=True, k=64))
    assert found["search-solves-all"] is Outcome.REPLICATED
    assert outcomes(table(surprising_is_fast=True, k=20))["search-solves-all"] is Outcome.UNDECIDED
    assert found["surprisal-beats-confidence"] is Outcome.REPLICATED
    assert found["inverse-confidence"] is Outcome.REPLICATED
    assert found["huge-speedups"] is Outcome.ARTEFACT


def test_a_world_in_which_confidence_is_speed() -> None:
    found = outcomes(table(surprising_is_fast=False))
    assert found["surprisal-beats-confidence"] is Outcome.NOT_REPLICATED
    assert found["inverse-confidence"] is Outcome.NOT_REPLICATED


@pytest.mark.parametrize("samples", [table(True, correct=False), table(True, tasks=1), table(True, tasks=1, k=1)])
def test_poor_data_decide_nothing_about_selection_and_have_no_power(samples: pd.DataFrame) -> None:
    found = best_of_n.findings(metrics.under(samples, "sound"))
    for name in ("surprisal-beats-confidence", "top3-is-oracle", "saturation"):
        assert found[name].outcome is Outcome.UNDECIDED and found[name].power == 0, name


def test_power_rises_with_tasks() -> None:
    few, many = (best_of_n.findings(metrics.under(mixed(tasks), "sound")) for tasks in (5, 16))
    name = "surprisal-beats-confidence"
    assert 0 < few[name].power < many[name].power < 1 and few[name].n == "5×3×20"


def mixed(tasks: int) -> pd.DataFrame:
    """Surprise is speed in every other task."""
    worlds = [table(bool(task % 2), tasks).query(f"task_id == {task}") for task in range(1, tasks + 1)]
    return pd.concat(worlds, ignore_index=True)


def test_only_the_published_protocol_makes_an_artefact() -> None:
    sound = {"a": Finding("no", Outcome.NOT_REPLICATED), "b": Finding("open", Outcome.UNDECIDED, power=0.6)}
    paper = {name: Finding("yes", Outcome.REPLICATED) for name in sound}
    found = best_of_n.with_artefacts(sound, paper)
    assert found["a"].outcome is Outcome.ARTEFACT and "yes" in found["a"].why
    assert found["b"].outcome is Outcome.UNDECIDED
    assert best_of_n.with_artefacts(sound, sound) == sound


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ([], Outcome.NOT_RUN),
        ([Outcome.UNDECIDED, Outcome.REPLICATED], Outcome.REPLICATED),
        ([Outcome.REPLICATED, Outcome.NOT_REPLICATED], Outcome.NOT_REPLICATED),
        ([Outcome.REPLICATED, Outcome.ARTEFACT], Outcome.ARTEFACT),
        ([Outcome.UNDECIDED, Outcome.UNDECIDED], Outcome.UNDECIDED),
    ],
)
def test_a_claim_is_replicated_only_if_no_policy_contradicts_it(found: list[Outcome], outcome: Outcome) -> None:
    assert verdicts.overall(Finding("", each) for each in found) is outcome


def test_what_only_one_of_many_policies_shows_by_a_hair_is_undecided() -> None:
    values = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.6])
    effects = [mean_effect(values, range(6)), mean_effect(values - values.mean(), range(6))]
    found = {name: Finding("", by_sign(e, 1), effect=e, claimed=1) for name, e in zip("ab", effects, strict=True)}
    assert verdicts.together({"a": found["a"]})["a"].outcome is Outcome.REPLICATED
    assert verdicts.together(found)["a"].outcome is Outcome.REPLICATED
    many = {f"b{n}": found["b"] for n in range(40)}
    undone = verdicts.together(found | many)["a"]
    assert undone.outcome is Outcome.UNDECIDED and "42 policies" in undone.why
    assert effects[0].among(42).low < effects[0].low and effects[0].among(1) is effects[0]


def test_the_shown_finding_has_most_power_and_the_others_are_counted() -> None:
    given = {
        "small": Finding("s", Outcome.UNDECIDED, power=0.1),
        "large": Finding("l", Outcome.UNDECIDED, power=0.9),
        "other": Finding("o", Outcome.REPLICATED, "It holds.", power=0.5),
    }
    entry = Entry(published.claims()[0], given)
    assert entry.deciding == ("other", given["other"])
    assert entry.finding.why == "It holds. Other runs: 2 undecided."
    without = Entry(published.claims()[0], {name: given[name] for name in ("small", "large")})
    assert without.deciding[0] == "large" and without.outcome is Outcome.UNDECIDED


def made(**findings: Finding) -> verdicts.Entries:
    return verdicts_study.by_claim({"one policy": {name.replace("_", "-"): each for name, each in findings.items()}})


def test_every_claim_has_a_row_and_the_tally_adds_up() -> None:
    found = best_of_n.findings(metrics.under(table(True), "sound"))
    entries = verdicts_study.by_claim({"A policy": found, "Another": found})
    rows = pd.concat([verdicts.claims_table(entries, main) for main in (True, False)])
    assert len(rows) == len(published.claims()) == sum(verdicts.tally(entries).values())
    needs = {claim.sentence: claim.needs for claim in published.claims()}
    for row in rows.to_dict("records"):
        assert ("not run" in row["outcome"]) == (needs[row["claim"]] is not published.Needs.BEST_OF_N)
        assert row["published"] and row["why"]
    assert verdicts.letters(entries) == {"A policy": "A", "Another": "B"}
    assert verdicts.counts(made()) == f"{len(published.claims())} not run"
    assert verdicts.legend(entries) == "A: A policy; B: Another"
    assert list(verdicts.policies_columns(entries)) == list(verdicts.policies_table(entries).columns)


def test_cells_name_the_power_where_there_is_one() -> None:
    entries = made(saturation=Finding("x", Outcome.UNDECIDED, power=0.2), quartiles=Finding("y", Outcome.REPLICATED))
    found = verdicts.policies_table(entries)
    assert list(found.columns) == ["claim", "replicated", "undecided"]
    assert found["undecided"].dropna().tolist() == ["A\u00a0(20%)"] and found["replicated"].dropna().tolist() == ["A"]


def test_policies_share_a_cell_where_they_share_a_verdict() -> None:
    say = {name: Finding("x", Outcome.UNDECIDED, power=0.1) for name in ("One", "Two")}
    say["Three"] = Finding("x", Outcome.NOT_REPLICATED)
    entries = dict(made())
    entries["saturation"] = replace(entries["saturation"], findings=say)
    found = verdicts.policies_table(entries)
    assert found.iloc[0].tolist()[1:] == ["C", "A\u00a0(10%), B\u00a0(10%)"]
    assert list(found.columns) == ["claim", "not replicated", "undecided"]
    text = Table(found, "tab-any", "Any.", verdicts.policies_columns(entries)).text()
    assert "nan" not in text


def test_figure_one_has_the_paper_beside_both_protocols() -> None:
    views = {f"here, {name}": metrics.under(table(True), name) for name in ("published", "sound")}
    frame = verdicts.figure_one(views)
    here = frame[frame["source"] != "paper"]
    assert (here["high"] > here["low"]).all()  # also where every task agrees
    assert set(frame["source"]) == {"paper", "here, published", "here, sound"}
    assert frame.loc[frame["strategy"] == "TTT, per sample", "value"].item() == 0.306


def test_what_a_clock_can_see_is_its_width_over_the_minimum_effect() -> None:
    rows = pd.DataFrame({"task": "t", "fingerprint": ["a", "b", "b"], "sound_speedup": [1.1, 2.0, 2.0]})
    rows["sound_speedup_low"] = rows["sound_speedup"] / 1.05
    assert verdicts.speedup_needed(rows) == pytest.approx(1.02 * 1.05)


def test_a_wrong_candidate_that_is_paid_contradicts_the_claim() -> None:
    honest, wrong = (
        {"name": name, "published": {"reward": 1.2}, "sound": {"reward": reward}}
        for name, reward in (("honest", 1.1), ("wrong", 0.0))
    )
    walks = {n: Walk(get_task(25), "cpu", {}, tuple(e)) for n, e in (("good", [honest]), ("bad", [honest, wrong]))}
    samples = twice(np.random.default_rng(0).normal(size=60), noise=0.0)
    assert measured(samples, [walks["good"]])["no-reward-hacking"].outcome is Outcome.UNDECIDED
    found = measured(samples, [walks["good"], walks["bad"]])["no-reward-hacking"]
    assert found.outcome is Outcome.NOT_REPLICATED and "wrong" in found.here and "honest" not in found.here
    entries = verdicts_study.by_claim({"one policy": dict(measured(samples, [walks["bad"]]))})
    assert entries["no-reward-hacking"].outcome is Outcome.NOT_REPLICATED


def twice(logs: np.ndarray, noise: float) -> pd.DataFrame:
    """Sixty candidates of six tasks, evaluated twice: log-speedups ``logs``, the second time with noise."""
    samples = table(True, tasks=6, k=10).drop_duplicates(["task", "sample"]).reset_index(drop=True)
    again = logs + noise * np.random.default_rng(1).normal(size=60)
    return samples.assign(published_speedup=np.exp(logs), retimed_published_speedup=np.exp(again), retimed_correct=True)


@pytest.mark.parametrize(("noise", "outcome"), [(0.0, Outcome.REPLICATED), (30.0, Outcome.NOT_REPLICATED)])
def test_a_ranking_is_consistent_if_it_repeats(noise: float, outcome: Outcome) -> None:
    samples = twice(np.random.default_rng(0).normal(size=60), noise)
    assert measured(samples, [])["fast-proxy"].outcome is outcome


def test_three_tasks_that_agree_exactly_do_not_decide_a_ranking() -> None:
    samples = twice(np.random.default_rng(0).normal(size=60), noise=0.0)
    assert measured(samples[samples["task_id"] <= 3], [])["fast-proxy"].outcome is Outcome.UNDECIDED


def test_recorded_runs_fill_the_table() -> None:
    entries = verdicts_study.entries("recorded", "cpu")
    assert entries["headline-gap"].outcome is Outcome.ARTEFACT
    run = {name for name, entry in entries.items() if entry.outcome is not Outcome.NOT_RUN}
    assert {"search-beats-adaptation", "equivalent-k", "rho-deepens", "transfer", "feedback-no-lift", "regimes"} <= run
    for name, entry in entries.items():
        for found in entry.findings.values():
            assert found.why and (math.isnan(found.power) or 0 <= found.power <= 1), name
        if entry.claim.main and entry.findings and name != "headline-gap":
            assert entry.finding.n and not math.isnan(entry.finding.power), name
    assert set(verdicts_study.decided(entries)) == run
