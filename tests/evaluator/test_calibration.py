"""A/A calibration: the shares and their intervals, resuming, and a short real run."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from vegtts_core.evaluator.calibration import main, shares, wilson


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipy_s(counts: tuple[int, int]) -> None:
    hits, trials = counts
    peer = binomtest(hits, trials).proportion_ci(method="wilson")
    assert wilson(hits, trials) == pytest.approx((peer.low, peer.high), abs=1e-6)


def test_no_trials_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_shares_count_failed_measurements_as_not_faster() -> None:
    decisions = ["faster", "slower", "undecided", None]
    (share,) = shares([{"protocol": "sound", "decision": decision} for decision in decisions])
    assert (share.measurements, share.faster, share.slower, share.undecided, share.share) == (4, 1, 1, 1, 0.25)


def test_a_run_and_its_continuation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--tasks", "88", "--repeats", "2", "--per-process", "2", "--out", str(tmp_path)]
    assert main(options) == 0
    assert "published" in capsys.readouterr().out
    rows = pq.read_table(tmp_path / "calibration.parquet").to_pylist()
    assert [(row["task"], row["protocol"], row["repeat"]) for row in rows] == [
        ("level1/88", protocol, repeat) for protocol in ("published", "sound") for repeat in (0, 1)
    ]
    # Few calls on a machine where other tests run: the published protocol's point estimates can be far off.
    assert all(row["correct"] and 0.1 < row["speedup"] < 10 for row in rows)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["kind"] == "calibration" and manifest["files"]["calibration.parquet"]["rows"] == 4
    written = (tmp_path / "calibration.parquet").read_bytes()
    assert main(options) == 0  # nothing is measured again
    assert (tmp_path / "calibration.parquet").read_bytes() == written
    assert main([*options, "--repeats", "3"]) == 2
    assert "other parameters: name another folder" in capsys.readouterr().err


def test_an_unknown_task_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tasks", "no_such", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
