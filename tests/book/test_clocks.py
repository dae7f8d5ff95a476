"""Chapter 9's comparison of two clocks: the gate's experiment, what it changed, and medians by task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vegtts_core.book import clocks, study
from vegtts_core.book.measurement import NOTHING, Recording, recorded
from vegtts_core.book.tables import Table


def recording(ratio: float) -> Recording:
    row = dict.fromkeys(("kernel in a launcher", "kernel where references run", "reference"), 100.0)
    row |= {"kernel where references run, no gate": 130.0, "reference, no gate": 110.0, "task": "level1/12-diag"}
    return Recording("launch_gate", {"table": [row], "ratio": ratio, "ratio_without": 1.3})


def test_recorded_searches_on_a_gpu_fill_the_table():
    found = clocks.table(study.searches("recorded", "cpu"))
    assert len(found) and (found["candidate_published"] > 0).all()
    assert "nan" not in Table(found, "tab-any", "Any.", clocks.COLUMNS).text()
    assert "µs" in clocks.text(found)


def test_tasks_that_were_not_measured_again_are_left_out():
    run = study.studied("best_of_n_study")["best_of_n_h100_embedded_1"]
    whole = set(clocks.table({"a": run})["task"])
    kept = [key for key in run.manifest["remeasured"]["tasks"] if key != "level1/12"]
    partly = run.manifest | {"remeasured": run.manifest["remeasured"] | {"tasks": kept}}
    assert 12 in whole and set(clocks.table({"a": replace(run, manifest=partly)})["task"]) == whole - {12}


def test_the_recorded_gate_is_shown_and_told():
    (found,) = recorded("launch_gate")
    table = clocks.gate(found)
    assert len(table) >= 5 and (table[["launcher", "here"]] > 0).all(axis=None)
    assert f"({len(table)} tasks)" in clocks.gate_text(found)
    assert clocks.verdict(found).startswith("Behind the launch gate, yes")


@pytest.mark.parametrize(("ratio", "said"), [(1.01, "yes"), (1.3, "leans")])
def test_alike_is_what_differs_by_little(ratio: float, said: str):
    assert said in clocks.verdict(recording(ratio))
    assert "30.0%" in clocks.gate_text(recording(1.01)) and "10.0%" in clocks.gate_text(recording(1.01))


def test_what_changed_is_read_from_manifests():
    decisions = {"before": {"slower": 3}, "after": {"faster": 2, "same": 1}}
    (row,) = clocks.changes({"a": {"remeasured": {"decisions": decisions}}, "b": {}}).to_dict("records")
    assert (row["run"], row["candidates"]) == ("a", 3)
    assert (row["slower"], row["faster"]) == ("3\u00a0→\u00a00", "0\u00a0→\u00a02")


def test_runs_on_a_cpu_are_no_concern_of_it():
    own = dict(list(study.searches("recorded", "cpu").items())[:1])
    found = clocks.table(own)
    assert not len(found) and "No search" in clocks.text(found)


def test_nothing_recorded_is_said():
    assert clocks.verdict(None) == "Not measured." and "Not recorded" in clocks.gate_text(None)
    assert clocks.gate(None)["task"].tolist() == clocks.changes({})["run"].tolist() == [NOTHING]
