"""Killed by SIGKILL at random moments, a run goes on and ends with the table of an unbroken one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from vegtts_core.runs import load_run
from vegtts_core.runs.schema import MEASURED

KILLS = 3


def start(yaml: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vegtts_core.search", "--params", str(yaml), "--folder", str(folder)]
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
