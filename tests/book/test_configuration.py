"""Appendix A's tables: the file agrees with the paper, and what ran is read from manifests, not assumed."""

import json

import pytest

from vegtts_core.book import configuration, published
from vegtts_core.book import configuration_open as left
from vegtts_core.book.tables import Table
from vegtts_core.training.parameters import AdaptationParameters


def ran(family, name="run", **parameters):
    values = AdaptationParameters(tasks=(4, 5), **parameters).model_dump(mode="json")
    git = {"commit": "0123456789", "modified": True}
    machine = {"cores": 2, "cpu": "Chip", "device": "cpu"}
    return configuration.Ran(family, name, {"parameters": values, "git": git, "machine": machine})


def test_paper_yaml_stands_beside_every_published_line():
    lines = configuration.line_by_line([])
    assert len(lines) == len(published.table("A")) and lines["here"].isna().all() and not lines["differs"].any()
    same = lines[lines["parameter"] != "checkpoint"]
    assert list(same["file"]) == list(same["published"])
    assert lines.loc[lines["parameter"] == "checkpoint", "file"].iloc[0] == "RLVR, step 40"


def test_what_ran_is_read_from_its_parameters():
    runs = [ran("adaptation", k=8, update={"learning_rate": 1e-5}), ran("adaptation", k=32)]
    lines = configuration.line_by_line(runs).set_index(["group", "parameter"])
    assert lines.loc[("batch TTT", "k"), "here"] == "8" and lines.loc[("batch TTT", "k"), "differs"]
    assert not lines.loc[("batch TTT", "learning rate"), "differs"]
    assert lines.loc[("batch TTT", "step 1 rollouts"), "here"] == "32"
    assert lines.loc[("RLVR", "model"), "here"] is None
    assert "batch TTT, k: 8 for 32" in left.differences(lines.reset_index())
    facts = left.facts(runs, lines.reset_index(), "recorded")
    assert facts["lines"] == "19" and "rlvr" in facts["missing"]
    assert Table(lines.reset_index(), "tab-x", "c", configuration.LINE_COLUMNS).rows


def test_a_family_shows_what_varies_within_it():
    runs = [ran("learning_rates", update={"learning_rate": value}) for value in (1e-5, 3e-7)]
    frame = configuration.families(runs).set_index("family")
    assert frame.at["learning rates", "rate"] == "1e-5 and 3e-7" and frame.at["learning rates", "runs"] == 2
    assert frame.at["learning rates", "commit"] == "0123456, changed"
    assert frame.at["rlvr", "runs"] == 0


@pytest.mark.parametrize(("value", "text"), [(1e-5, "1e-5"), (3e-7, "3e-7"), (1e-4, "1e-4"), (0.00025, "2.5e-4")])
def test_learning_rates_are_written_as_the_paper_does(value, text):
    assert configuration.rate(value) == text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (None, "the policy as released"),
        ("embedded", "the embedded adapter (RLVR, last step)"),
        ("runs/x/checkpoints/checkpoint-40", "RLVR, step 40"),
        ("runs/x/warm_start/adapter", "the warm start"),
    ],
)
def test_adapters_in_words(name, words):
    assert configuration.adapter(name) == words


def test_unfinished_and_missing_recordings_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(configuration, "recorded_folder", lambda: tmp_path)
    for name, status in (("one", "complete"), ("two", "running")):
        (tmp_path / name).mkdir()
        manifest = {"status": status, "parameters": AdaptationParameters().model_dump(mode="json")}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    params = tmp_path / "p.yaml"
    params.write_text("recorded:\n  adaptation: [one, two, three]\n  probe: two\n")
    assert [run.name for run in configuration.ran("recorded", params)] == ["one"]


def test_live_runs_are_those_of_the_file_and_nothing_is_run():
    found = configuration.ran("live", "cpu")
    families = {run.family for run in found}
    assert {"warm_start", "rlvr", "best_of_n", "adaptation"} <= families
    rlvr = next(run for run in found if run.family == "rlvr")
    assert configuration.adapter(rlvr.parameters["adapter"]) == "the warm start"
    assert left.steps_here(found).startswith("2 steps, 72 rollouts")


def test_open_choices_and_costs():
    frame = left.left_open([ran("adaptation", update={"entropy": 0.01})])
    assert frame.set_index("what").at["entropy bonus", "adaptation"] == "0.01"
    assert frame["rlvr"].isna().all() and frame["file"].notna().all()
    costs = left.step_costs()
    assert (costs["shown-cost"], costs["named-cost"], costs["named-ratio"]) == ("960", "1,440", "4.5")


def test_the_listing_is_the_file_s_own_text():
    text = left.sections("rlvr", "adaptation")
    assert text.startswith("rlvr:") and "seed_44" in text and "sdpo" not in text.lower()
