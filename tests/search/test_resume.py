"""Killed by SIGKILL at random moments, a run goes on and ends with the table of an unbroken one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

from vegtts_core.runs import load_run
from vegtts_core.runs.schema import MEASURED
from vegtts_core.search.__main__ import main

KILLS = 3


def start(params: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vegtts_core.search", "--params", str(params), "--folder", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_at_random_moments(tiny_yaml: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    # In a process like the others: another number of threads would round log-probabilities differently.
    assert start(tiny_yaml, tmp_path / "whole").wait(timeout=300) == 0
    whole = load_run(tmp_path / "whole")
    length = time.monotonic() - begun
    broken = tmp_path / "broken"
    dice = random.Random(20261123)
    for _ in range(KILLS):
        process = start(tiny_yaml, broken)
        time.sleep(dice.uniform(4.0, length))  # a process needs some seconds to import torch
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last = start(tiny_yaml, broken)
    assert last.wait(timeout=300) == 0
    run = load_run(broken)
    columns = [name for name in run.samples.columns if name not in MEASURED]
    pd.testing.assert_frame_equal(run.samples[columns], whole.samples[columns])
    for name in ("rollouts", "prompt_tokens", "completion_tokens", "student_tokens", "distinct_candidates"):
        assert run.compute[name] == whole.compute[name]
    assert not (broken / "parts").exists()


def test_the_command_line_says_one_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("best_of_n:\n  kk: 3\n")
    command = [sys.executable, "-m", "vegtts_core.search", "--params", str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Unknown parameter kk" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_run_of_a_family_goes_where_all_of_them_would_put_it(tiny_yaml: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(tiny_yaml.read_text())["best_of_n"] | {"tasks": [4], "seeds": [1], "k": 2}
    family = tmp_path / "family.yaml"
    family.write_text(yaml.safe_dump({"study": values | {"vary": {"cool": {"temperature": 0.2}, "warm": {}}}}))
    arguments = ["--params", str(family), "--section", "study", "--folder", str(tmp_path / "runs")]
    assert main([*arguments, "--only", "cool"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cool"]
    assert load_run(tmp_path / "runs" / "cool").manifest["parameters"]["temperature"] == 0.2
