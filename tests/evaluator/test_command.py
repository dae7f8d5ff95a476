"""``python -m vegtts_core.evaluator``: a verdict to read, one object for programs, one sentence after a mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vegtts_core.evaluator.__main__ import main
from vegtts_core.evaluator.baselines import over
from vegtts_core.evaluator.types import Measurement
from vegtts_core.kernels.examples import example_text
from vegtts_core.kernels.templates.honest import honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.tasks import get_task

KEYS = {
    "task", "scaffold", "device", "protocol", "stage", "correct", "speedup", "speedup_low", "speedup_high", "decision",
    "reward", "reason",
}  # fmt: skip


def _said(path: Path, text: str, *options: str) -> dict[str, object]:
    path.write_text(text)
    command = [sys.executable, "-m", "vegtts_core.evaluator", str(path), "--task", "88", "--json", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    said = json.loads(result.stdout)  # exactly one object
    assert said.keys() >= KEYS and said["task"] == "level1/88"
    return said


# What a protocol shows does not depend on the scaffold, and what it finds is tested with every scaffold elsewhere.
@pytest.mark.parametrize(
    ("scaffold", "protocol"),
    [
        *((scaffold, "sound") for scaffold in ("forward", "module", "kernel", "template")),
        ("kernel", "published"),
        *(pytest.param(s, "published", marks=pytest.mark.slow) for s in ("forward", "module", "template")),
    ],
)
def test_one_object_for_every_scaffold(tmp_path: Path, scaffold: str, protocol: str) -> None:
    task = get_task("88")
    text = {
        "forward": task.forward_body,
        "module": task.source.replace("Model", "ModelNew"),
        "kernel": example_text(88, Language.CPP) or "",
        "template": honest_filling(task),
    }[scaffold]
    said = _said(tmp_path / "candidate", text, "--scaffold", scaffold, "--protocol", protocol)
    assert (said["correct"], said["stage"], said["reason"], said["error"]) == (True, "reward", "", None), said
    assert said["reward"] == said["speedup"] and said["protocol"] == protocol
    assert (said["speedup_low"] is None) == (protocol == "published")


@pytest.mark.slow
def test_a_speedup_over_torch_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kernel"
    path.write_text(example_text(88, Language.CPP) or "")
    assert main([str(path), "--task", "88", "--scaffold", "kernel", "--baseline", "compile"]) == 0
    shown = capsys.readouterr().out
    wanted = r"^compiled   \d+\.\d+ \[\d+\.\d+, \d+\.\d+\] over torch\.compile, which is \d"
    assert re.search(wanted, shown, re.MULTILINE), shown


def test_bounds_of_a_ratio_allow_for_the_worst_of_both() -> None:
    found, baseline = (Measurement(True, "", 2.0 * k, 1.5 * k, 3.0 * k) for k in (1.0, 0.5))
    assert over(found, baseline) == pytest.approx((2.0, 1.0, 4.0))


def test_a_wrong_one_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "body"
    path.write_text("return x")
    assert main([str(path), "--task", "88"]) == 0
    shown = capsys.readouterr().out
    assert "MinGPTNewGelu" in shown and "input_aliased at stage correctness" in shown and "reward     0.000" in shown


def test_a_refused_one_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "body"
    path.write_text("import os\nreturn x")
    assert main([str(path), "--task", "88", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["stage"], said["error"], said["correct"], said["reward"]) == (
        "scaffold",
        "refused_forbidden",
        False,
        0,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py", "--task", "88"], "nowhere.py cannot be read"),
        (["BODY", "--task", "1000"], "names no task"),
        (["BODY", "--task", "level1"], "names 100 tasks"),
        (["BODY"], "--task"),
        (["BODY", "--task", "88", "--scaffold", "x"], "no scaffold"),
        (["BODY", "--task", "88", "--device", "tpu"], "no device"),
        (["BODY", "--task", "88", "--size", "huge"], "not a size"),
        (["BODY", "--task", "88", "--protocol", "x"], "no protocol"),
        (["BODY", "--task", "88", "--without", "x"], "no layer"),
        (["BODY", "--task", "50", "--scaffold", "template"], "no kernel template"),
        (["BINARY", "--task", "88"], "not UTF-8"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "body").write_text("return x * 1")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    places = {"BODY": str(tmp_path / "body"), "BINARY": str(tmp_path / "binary")}
    assert main([places.get(one, one) for one in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and words in captured.err
