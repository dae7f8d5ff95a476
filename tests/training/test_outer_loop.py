"""Warm start and outer loop from the terminal, on a tiny model: what they leave, and the adapters that they export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vegtts_core.policy.folders import ORIGIN
from vegtts_core.policy.load import load_policy
from vegtts_core.runs.store import load_run
from vegtts_core.tasks import load_tasks
from vegtts_core.training.__main__ import main
from vegtts_core.training.checkpoints import adapter_sha256

TRAINING = [25, 47]


@pytest.fixture(scope="module")
def made(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a parameter file and both commands' runs and exports."""
    folder = tmp_path_factory.mktemp("loop")
    common = {"policy": str(tiny_policy), "lora": {"rank": 4, "alpha": 8}, "tasks": TRAINING, "k": 2}
    common |= {"examples": [], "max_new_tokens": 8}
    common |= {"evaluator": {"protocols": ["sound"], "sound": {"max_seconds": 0.1, "confirmations": 0}}}
    warm = common | {"demonstrations": {"forward": 2}, "epochs": 1}
    # A model that is never right has a gradient only from a teacher.
    grpo = common | {"training_only": True, "steps": 1, "algorithm": "sdpo"}
    params = folder / "tiny.yaml"
    params.write_text(yaml.safe_dump({"warm_start": warm, "rlvr": grpo}))
    given = ["--params", str(params)]
    assert main(["warm-start", *given, "--folder", str(folder / "warm"), "--export", str(folder / "warm_adapter")]) == 0
    assert main(["rlvr", *given, "--folder", str(folder / "loop"), "--export", str(folder / "adapter")]) == 0
    return folder


def test_the_loop_begins_where_the_warm_start_ended(made: Path) -> None:
    warm, loop = load_run(made / "loop" / "warm_start"), load_run(made / "loop" / "rlvr")
    assert loop.manifest["policy"]["adapter_sha256"] == warm.manifest["adapters"]["adapter"]
    keys = {task.key for task in load_tasks(TRAINING)}
    assert set(warm.samples["task"]) == set(loop.samples["task"]) == keys


@pytest.mark.parametrize(
    ("exported", "run", "key"), [("warm_adapter", "warm", "adapter"), ("adapter", "loop/rlvr", "1")]
)
def test_an_exported_adapter_is_a_policy_and_says_how_it_was_made(
    made: Path, tiny_policy: Path, exported: str, run: str, key: str
) -> None:
    manifest = load_run(made / run).manifest
    origin = json.loads((made / exported / ORIGIN).read_text())
    assert origin["trained_sha256"] == manifest["adapters"][key]
    assert origin["made_by"].endswith("--params tiny") and origin["git"] == manifest["git"]
    loaded = load_policy(str(tiny_policy), str(made / exported)).identity
    assert loaded.adapter_sha256 == adapter_sha256(made / exported) != origin["trained_sha256"]
    assert loaded.weights_sha256 == origin["weights_sha256"]
