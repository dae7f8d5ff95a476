"""The command as a person types it: tables, JSON, limits, rates of all kinds, a measurement, errors in a sentence."""

from __future__ import annotations

import json

import pytest
import yaml

from vegtts_core.plan import library
from vegtts_core.plan.__main__ import main

RATES = {
    "policy": "openai/gpt-oss-120b",
    "sampling": {"prompt_token": 1e-4, "step": 0.03, "token": 1e-3},
    "update": {"prompt_token": 2e-3, "token": 2e-3},
    "evaluation": {"forward": {"session": 1.0, "wrong": 0.5, "correct": 3.0}},
}


@pytest.fixture
def rates(tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump(RATES))
    return str(path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Measurements go into a folder of this test; the converted weights stay where they are."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(library, "cache_root", lambda: folder)
    return folder


def planned(capsys, *arguments):
    status = main([*arguments, "--json"])
    output = capsys.readouterr()
    return status, json.loads(output.out) if output.out else {}, " ".join(output.err.split())


def test_the_paper_with_given_rates(capsys, rates):
    status, found, _ = planned(capsys, "paper", "--rates", rates, "--completion-tokens", "200")
    assert status == 0
    runs = {run["name"]: run for run in found["runs"]}
    best = runs["best_of_n"]
    assert best["rollouts"] == 640 and not best["prompts_exact"]
    assert best["expected"]["completion_tokens"] == 640 * 200
    assert best["bound"]["completion_tokens"] == 640 * 1024
    sampled = best["expected_seconds"]["sampling"]
    rate = RATES["sampling"]
    assert sampled > best["prompt_tokens_computed"] * rate["prompt_token"] + 640 * 200 * rate["token"]
    assert best["wall_seconds"] == pytest.approx(best["expected_seconds"]["total"])
    assert best["memory"]["weights"] > 2 * 116e9 and runs["seed_42"]["memory"]["weights"] > 4 * 116e9
    assert "20 runs" in found["sentence"] and found["sentence"].endswith(".")


def test_without_rates_time_is_not_made_up(capsys, cache):
    status, found, _ = planned(capsys, "paper", "--section", "sdpo_feedback")
    assert status == 0
    for run in found["runs"]:
        assert run["wall_seconds"] is None and any("--measure" in note for note in run["notes"])
        assert run["rollouts"] == 320
    assert "not known without rates" in found["sentence"]


def test_rates_of_another_policy_are_not_taken(capsys, rates):
    status, found, _ = planned(capsys, "cpu", "--section", "adaptation", "--rates", rates)
    assert status == 0 and found["runs"][0]["wall_seconds"] is None
    assert any("The rates given are of policy openai/gpt-oss-120b" in note for note in found["runs"][0]["notes"])


def test_rates_of_recorded_runs_and_a_limit(capsys):
    arguments = ["recorded_cpu", "--section", "adaptation", "--rates", "adaptation_cpu_44"]
    status, found, _ = planned(capsys, *arguments, "--limit-hours", "1")
    assert status == 0 and len(found["runs"]) == 4
    assert (
        600 < sum(run["wall_seconds"] for run in found["runs"]) < 1800
    )  # of three, 1077 s recorded, one run disturbed
    status, found, said = planned(capsys, *arguments, "--limit-hours", "0.1")
    assert status == 1 and found["runs"]
    assert "error: The plan takes" in said and "min, more than the 6 min allowed: lower k" in said


def test_a_limit_needs_a_time(capsys, cache):
    status, _, said = planned(capsys, "paper", "--section", "isolated", "--limit-hours", "5")
    assert status == 1 and "so a limit cannot be kept" in said


def test_evaluation_under_other_settings_is_said(capsys):
    _, found, _ = planned(capsys, "cpu", "--section", "adaptation", "--rates", "adaptation_cpu_44")
    assert any("other settings (correctness_trials, protocols" in note for note in found["runs"][0]["notes"])


def test_what_does_not_fit_is_said(capsys, rates):
    arguments = ["paper", "--section", "best_of_n", "--rates", rates, "--device-memory", "80"]
    _, found, _ = planned(capsys, *arguments)
    assert any("may not fit: a device has 80 GiB" in note for note in found["runs"][0]["notes"])
    _, found, _ = planned(capsys, *arguments, "--devices", "8", "--sharded")
    assert not any("may not fit" in note for note in found["runs"][0]["notes"])
    assert found["runs"][0]["evaluations_per_device"] < 20


def test_a_policy_that_is_not_here_is_known_by_its_configuration(capsys, tmp_path, cache):
    """Memory, and the batches that follow from it, come from the file that is given."""
    params = tmp_path / "elsewhere.yaml"
    params.write_text("best_of_n: {policy: some/where-else, tasks: [4], examples: [], k: 200, max_new_tokens: 64}\n")
    _, found, _ = planned(capsys, str(params))
    assert found["runs"][0]["memory"] is None and any("--config" in note for note in found["runs"][0]["notes"])
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64}))
    _, found, _ = planned(capsys, str(params), "--config", str(config))
    assert found["runs"][0]["memory"]["weights"] > 0
    rows = 128 * 64  # one wave of rows, each with a block of tokens
    assert found["runs"][0]["memory"]["completion_cache"] == 2 * 2 * 64 * 4 * rows


def test_tables_for_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["recorded_cpu", "--rates", "adaptation_cpu_44", "sdpo_feedback_cpu_42"]) == 0
    shown = capsys.readouterr().out
    for word in ("completion", "teacher", "scored", "judging", "wall time", "Adam's moments", "with plain TRL"):
        assert word in shown
    assert "and 2 more, each" in shown and "…" not in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 100
    last = shown.strip().splitlines()[-1]
    assert last.startswith("28 runs: 17,792 rollouts") and last.endswith("whose rates are not known.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "There are no parameters called nothing"),
        (["cpu", "--section", "nothing"], "cpu has no section nothing: choose from adaptation, best_of_n"),
        (["cpu", "--devices", "0"], "--devices is 0: give at least 1."),
        (["cpu", "--completion-tokens", "0"], "--completion-tokens is 0: give a positive length."),
        (["cpu", "--device-memory", "-1"], "--device-memory is -1: give a positive number of GiB."),
        (["cpu", "--rates", "x.json", "--measure"], "give one of them."),
        (["cpu", "--rates", "probe_of_nothing"], "There is no run in probe_of_nothing"),
        (["paper", "--section", "best_of_n", "--measure"], "is not on this machine, so it cannot be measured"),
        (["paper", "--section", "best_of_n", "--config", "nothing.json"], "nothing.json cannot be read"),
    ],
)
def test_errors_are_one_sentence(capsys, arguments, said):
    status, _, error = planned(capsys, *arguments)
    assert status == 1 and said in error
    assert error.count("error:") == 1 and error.endswith(".") and "Traceback" not in error


def test_a_measurement_is_made_kept_and_used(capsys, cache, tmp_path, tiny_policy):
    """The tiny model writes nonsense, which is refused: all but evaluation is measured."""
    run = {"policy": str(tiny_policy), "tasks": [4, 12], "scaffolds": ["template"], "examples": [], "steps": 2, "k": 4}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"adaptation": run | {"max_new_tokens": 12, "temperature": 1.0}}))
    arguments = [str(path), "--section", "adaptation"]
    _, before, _ = planned(capsys, *arguments)
    assert before["runs"][0]["wall_seconds"] is None
    status, found, said = planned(capsys, *arguments, "--measure")
    assert status == 0 and "updates of one group" in said
    (plan,) = found["runs"]
    assert plan["rates"][0].startswith("measured here")
    assert 0 < plan["expected_seconds"]["sampling"] < 30 and 0 < plan["expected_seconds"]["update"] < 60
    assert plan["expected"]["distinct_candidates"] == 0
    (kept,) = (cache / "rates").glob("*.json")
    facts = json.loads(kept.read_text())["rates"]
    assert facts["place"]["cpu"] and facts["place"]["cores"] and facts["settings"]["protocols"]
    _, again, _ = planned(capsys, *arguments)
    assert again["runs"][0]["expected_seconds"] == plan["expected_seconds"]
    stale = json.loads(kept.read_text())
    stale["rates"]["named_otherwise"] = 1
    for text in (json.dumps(stale), "{", "{}"):  # of another version, or half of one: as if there were none
        kept.write_text(text)
        status, found, _ = planned(capsys, *arguments)
        assert status == 0 and found["runs"][0]["wall_seconds"] is None


@pytest.mark.slow
def test_a_measured_plan_holds_for_a_real_run(capsys, cache, tmp_path):
    """Measured on this machine, planned, then run: rollouts and prompt tokens exact, time within 30%."""
    from vegtts_core.search import BestOfNParameters, best_of_n

    run = {"tasks": "subset_1", "seeds": [7], "k": 16, "temperature": 0.25, "max_new_tokens": 64}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"best_of_n": run}))
    status, found, _ = planned(capsys, str(path), "--measure")
    assert status == 0
    (plan,) = found["runs"]
    made = best_of_n(BestOfNParameters.read("best_of_n", path), tmp_path / "run").compute
    assert plan["rollouts"] == made["rollouts"] and plan["prompt_tokens"] == made["prompt_tokens"]
    assert plan["expected"]["completion_tokens"] == pytest.approx(made["completion_tokens"], rel=0.3)
    assert plan["expected_seconds"]["recorded"] == pytest.approx(made["wall_seconds"], rel=0.3)
