"""Recorded rollouts measured again: what is new, what stays, and going on after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vegtts_core.errors import UserError
from vegtts_core.project import recorded_folder
from vegtts_core.remeasuring import main, remeasure
from vegtts_core.runs.files import sha256_of, write_json
from vegtts_core.runs.intervals import BETWEEN
from vegtts_core.runs.store import load_run


def small(name: str, folder: Path) -> Path:
    """A recorded CPU run cut to one task: two correct candidates, a wrong and a refused one."""
    shutil.copytree(recorded_folder() / name, folder / name)
    target = folder / name
    table = pq.read_table(target / "samples.parquet")
    distinct = table.to_pandas().drop_duplicates(subset=["task", "fingerprint", "stage"])
    counts = distinct.assign(right=distinct["error"].isna()).groupby("task")["right"].agg(["sum", "size"])
    has_both = counts.index[(counts["sum"] >= 2) & (counts["size"] > counts["sum"])]
    one = distinct[distinct["task"] == has_both[0]]
    right = one[one["error"].isna()].head(2)
    others = one[one["error"].notna()].groupby("stage").head(1)
    assert len(right) == 2 and len(others) >= 1
    keep = sorted([*right.index, *others.index])
    pq.write_table(table.take(pa.array(keep)), target / "samples.parquet")
    references = json.loads((target / "references.json").read_text())
    write_json(target / "references.json", [row for row in references if row["task"] == one["task"].iloc[0]])
    manifest = json.loads((target / "manifest.json").read_text())
    manifest.pop("remeasured", None)
    manifest["corrections"] = ["references.json: floors were another device's.", "another correction"]
    for file in ("samples.parquet", "references.json"):
        manifest["files"][file]["sha256"] = sha256_of(target / file)
    write_json(target / "manifest.json", manifest)
    return target


@pytest.mark.timing
def test_times_are_new_and_the_rest_is_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = small("best_of_n_cpu_forward_025", tmp_path), tmp_path / "new"
    assert main([str(folder), "--out", str(out), "--why", "A test."]) == 0
    assert "->" in capsys.readouterr().out
    old, new = load_run(folder), load_run(out / folder.name)
    same = ["task", "seed", "sample", "completion", "logprobs", "fingerprint", "evaluation_seconds"]
    pd.testing.assert_frame_equal(old.samples[same], new.samples[same])
    right, wrong = old.samples["error"].isna(), old.samples["error"].notna()
    pd.testing.assert_frame_equal(old.samples[wrong], new.samples[wrong], check_like=True)
    assert new.samples[wrong][BETWEEN].isna().all() and new.samples[right][BETWEEN].gt(0).all()
    assert new.samples.loc[right, "sound_correct"].all() and new.samples.loc[right, "retimed_correct"].all()
    measured = new.samples.loc[right, "sound_candidate_seconds"].map(tuple)
    assert not set(measured) & set(old.samples.loc[right, "sound_candidate_seconds"].map(tuple))
    assert (new.samples.loc[right, "reward"] == new.samples.loc[right, "sound_speedup"]).all()
    assert new.references["reference_seconds"].iloc[0] != old.references["reference_seconds"].iloc[0]
    assert new.manifest["remeasured"]["why"] == "A test." and new.manifest["remeasured"]["candidates"] == 2
    for when in ("before", "after"):
        assert sum(new.manifest["remeasured"]["decisions"][when].values()) == 2
    assert new.manifest["corrections"] == ["another correction"] and new.manifest["git"] == old.manifest["git"]
    assert new.measured_on == new.manifest["remeasured"]["machine"] and old.measured_on == old.manifest["machine"]

    # A task at a time: the manifest tells both, and what was decided before either.
    other = new.samples["task"].iloc[0]
    (twice,) = remeasure([out / folder.name], tmp_path / "twice", "Again.", [other])
    told = load_run(twice).manifest["remeasured"]
    assert told["tasks"] == new.manifest["remeasured"]["tasks"] and told["candidates"] == 2 and told["why"] == "Again."
    assert told["decisions"]["before"] == new.manifest["remeasured"]["decisions"]["before"]
    assert [one["why"] for one in told["earlier"]] == ["A test."] and "decisions" not in told["earlier"][0]

    # Killed after the verdicts: nothing is measured twice, and the tables are the same.
    kept = out / "verdicts" / "parts" / "verdicts.jsonl", out / folder.name / "samples.parquet"
    before = [path.read_bytes() for path in kept]
    remeasure([folder], out, "A test.")
    assert [path.read_bytes() for path in kept] == before
    with pytest.raises(UserError, match="holds a run with other parameters: name another folder"):
        remeasure([folder], out, "For another reason.")


def test_what_cannot_be_measured_again_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = recorded_folder()
    runs = [recorded / "best_of_n_cpu_forward_025", recorded / "best_of_n_h100_template_1"]
    assert main([*map(str, runs), "--out", str(tmp_path), "--why", "x"]) == 1
    assert main([str(recorded / "probe_cpu_42"), "--out", str(tmp_path), "--why", "x"]) == 1
    assert main([str(tmp_path / "none"), "--out", str(tmp_path), "--why", "x"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "not measured under the same settings" in said[0]
    assert "name that run as well" in said[1]
    assert "There is no run in none" in said[2]


def test_a_candidate_that_is_read_otherwise_today_is_refused(tmp_path: Path) -> None:
    folder = small("best_of_n_cpu_forward_025", tmp_path)
    table = pq.read_table(folder / "samples.parquet")
    rows = [row | {"fingerprint": "0" * 16} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "samples.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["samples.parquet"]["sha256"] = sha256_of(folder / "samples.parquet")
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(UserError, match="measure it at the run's own commit"):
        remeasure([folder], tmp_path / "new", "x")
