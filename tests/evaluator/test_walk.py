"""The recorded walk through the stages: every candidate ends where its name says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vegtts_core.evaluator.choice import scaffold_for
from vegtts_core.evaluator.walk import TASK, completions, main
from vegtts_core.scaffolds import Refusal
from vegtts_core.tasks import get_task

STAGES = {
    "the reference written back": "reward",
    "an honest kernel": "reward",
    "a filled template": "reward",
    "calls the host": "scaffold",
    "typo": "compile",
    "half of the answer": "correctness",
    "right for the benchmark's inputs only": "correctness",
    "writes beyond its output": "correctness",
    "leaves the output as it is": "correctness",
    "writes its input": "correctness",
    "never ends": "correctness",
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_the_call_of_the_host_is_refused_by_the_parser(device: str) -> None:
    task = get_task(TASK)
    texts = completions(task, device)
    assert list(texts) == list(STAGES)
    for name, (scaffold, text) in texts.items():
        parsed = scaffold_for(scaffold, device).parse(task, text)
        assert isinstance(parsed, Refusal) == (name == "calls the host"), (name, parsed)


def test_a_walk_on_the_cpu(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    walk = json.loads((tmp_path / "walk.json").read_text())
    assert {one["name"]: one["sound"]["stage"] for one in walk["candidates"]} == STAGES
    for one in walk["candidates"]:
        assert (one["sound"]["reward"] > 0) == (STAGES[one["name"]] == "reward")
        assert one["sound"]["reason"] or one["sound"]["correct"]
