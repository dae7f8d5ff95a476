"""Runs that move weights, end to end on a tiny model: what is recorded, what resumes, what is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from vegtts_core.errors import UserError
from vegtts_core.policy.folders import ORIGIN
from vegtts_core.policy.load import LoraParameters, load_policy, load_trainable
from vegtts_core.runs.store import load_run
from vegtts_core.training import adaptation
from vegtts_core.training.adaptation import adapt
from vegtts_core.training.checkpoints import adapter_sha256, export_adapter, step_folder
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.slots import build_slots, schedule

KILLS = 2


def values(policy: Path, **more: Any) -> dict[str, Any]:
    return {
        "policy": str(policy),
        "lora": {"rank": 4, "alpha": 8},
        "tasks": [30, 12],
        "examples": [],
        "k": 3,
        "steps": 3,
        "temperature": 1.0,
        "max_new_tokens": 8,
        "algorithm": "sdpo",  # a model that is never right has a gradient only there
        "update": {"learning_rate": 1.0e-3},
        "evaluator": {"protocols": ["sound"]},
    } | more


@pytest.fixture(scope="module")
def parameters(tiny_policy: Path) -> AdaptationParameters:
    return AdaptationParameters.checked(values(tiny_policy))


@pytest.fixture(scope="module")
def folder(parameters: AdaptationParameters, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("adaptation") / "run"
    adapt(parameters, target)
    return target


def test_every_rollout_is_recorded_once(folder: Path) -> None:
    run = load_run(folder)
    assert len(run.samples) == run.compute["rollouts"] == 4 * 2 * 3
    assert run.samples.groupby(["step", "task"]).size().eq(3).all()
    assert list(run.steps["step"]) == [0, 1, 2, 3]
    taught = run.steps[run.steps["step"] < 3]  # the last step's rollouts judge and teach nothing
    assert run.compute["teacher_tokens"] > taught["student_tokens"].sum() > 0
    assert list(run.steps["skipped"]) == [False, False, False, True]  # the last step only judges


def test_each_step_moves_the_weights_and_says_to_what(folder: Path) -> None:
    manifest = load_run(folder).manifest
    digests = manifest["adapters"]
    assert sorted(digests) == ["1", "2", "3"] and len(set(digests.values())) == 3
    for step, digest in digests.items():
        assert adapter_sha256(step_folder(folder / "checkpoints", int(step))) == digest


def test_step_0_draws_what_best_of_n_draws(folder: Path, tiny_policy: Path, parameters: AdaptationParameters) -> None:
    slots = build_slots([30, 12], ("forward",), "cpu", (), "cpu")  # type: ignore[arg-type]
    written = load_policy(str(tiny_policy)).sample([slot.prompt for slot in slots], 3, parameters.sampling, 42)
    samples = load_run(folder).samples
    first = samples[samples["step"] == 0].sort_values(["task", "sample"])
    expected = {slot.task.key: [c.text for c in group] for slot, group in zip(slots, written, strict=True)}
    assert list(first["completion"]) == [text for task in sorted(expected) for text in expected[task]]


def test_a_checkpoint_is_a_policy(folder: Path, tiny_policy: Path) -> None:
    checkpoint = step_folder(folder / "checkpoints", 2)
    adapted = load_policy(str(tiny_policy), str(checkpoint))
    assert adapted.identity.adapter_sha256 == load_run(folder).manifest["adapters"]["2"]


def test_killed_at_random_moments(tiny_policy: Path, tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "tiny.yaml"
    source.write_text(yaml.safe_dump({"adaptation": values(tiny_policy)}))

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vegtts_core.training", "adapt", "--params", str(source)]
        return subprocess.Popen(
            [*command, "--folder", str(tmp_path / name)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    begun = time.monotonic()
    assert start("whole").wait(timeout=300) == 0
    length = time.monotonic() - begun
    dice = random.Random(20261125)
    for _ in range(KILLS):
        process = start("broken")
        time.sleep(dice.uniform(0.5 * length, 0.95 * length))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start("broken").wait(timeout=300) == 0
    whole, broken = (load_run(tmp_path / name / "adaptation") for name in ("whole", "broken"))
    assert broken.manifest["adapters"] == whole.manifest["adapters"]
    columns = ["task", "step", "sample", "token_ids", "logprobs", "stage", "error"]
    pd.testing.assert_frame_equal(broken.samples[columns], whole.samples[columns])
    same = ["step", "rollouts", "student_tokens", "teacher_tokens", "loss", "grad_norm", "adapter_sha256"]
    pd.testing.assert_frame_equal(broken.steps[same], whole.steps[same])


def test_killed_after_the_last_update(
    tiny_policy: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = AdaptationParameters.checked(values(tiny_policy))
    sample = adaptation._Adaptation._sample

    def dies_at_the_last(self: Any, step: int) -> Any:
        if step == parameters.steps:
            raise KeyboardInterrupt
        return sample(self, step)

    monkeypatch.setattr(adaptation._Adaptation, "_sample", dies_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        adapt(parameters, tmp_path / "run")
    monkeypatch.undo()
    whole, broken = load_run(folder), adapt(parameters, tmp_path / "run")
    assert whole.manifest["adapters"] == broken.manifest["adapters"]
    assert list(broken.samples["completion"]) == list(whole.samples["completion"])


def test_a_batch_without_a_correct_sample_is_skipped_and_counted(tiny_policy: Path, tmp_path: Path) -> None:
    run = adapt(AdaptationParameters.checked(values(tiny_policy, algorithm="grpo", steps=2)), tmp_path / "run")
    assert run.compute["skipped_updates"] == 2
    assert list(run.steps["silent_groups"])[:2] == [2, 2]
    assert len(set(run.manifest["adapters"].values())) == 1


def test_one_rollout_has_no_group(tiny_policy: Path) -> None:
    with pytest.raises(UserError, match="one rollout per task has no group"):
        AdaptationParameters.checked(values(tiny_policy, k=1, algorithm="grpo"))


def test_evaluation_tasks_are_refused_for_training(tiny_policy: Path, tmp_path: Path) -> None:
    parameters = AdaptationParameters.checked(values(tiny_policy, tasks=[25, 12], training_only=True))
    with pytest.raises(UserError, match="level1/12 is an evaluation task"):
        adapt(parameters, tmp_path / "run")


def test_every_slot_comes_once_before_any_comes_twice() -> None:
    slots = build_slots([19, 20, 21, 22, 25], ("forward", "template"), "cpu", (), "cpu")  # type: ignore[arg-type]
    draw = schedule(slots, 4, 5)
    drawn = [slot.key for step in range(5) for slot in draw(step)]
    assert len(slots) == 10
    for step in range(5):
        tasks = [slot.task.key for slot in draw(step)]
        assert len(set(tasks)) == 4  # a task once per step, whatever its scaffold
    assert max(drawn.count(key) for key in set(drawn)) - min(drawn.count(slot.key) for slot in slots) <= 1
    assert [slot.key for slot in schedule(slots, 4, 5)(3)] == [slot.key for slot in draw(3)]
    assert [slot.key for slot in schedule(slots, None, 5)(3)] == [slot.key for slot in slots]


# -- adapters that do not belong here ---------------------------------------------------------------------------------


def test_an_adapter_on_attention_alone(tmp_path: Path, folder: Path, tiny_policy: Path) -> None:
    lora = LoraParameters(rank=4, alpha=8, layers="attention")
    model, _, _ = load_trainable(str(tiny_policy), None, lora, "cpu", 0)
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_" in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj"}
    model.save_pretrained(str(tmp_path))
    load_trainable(str(tiny_policy), str(tmp_path), lora, "cpu", 0)
    with pytest.raises(UserError, match=r"is on layers attention: set lora\.layers to attention"):
        load_trainable(str(tiny_policy), str(tmp_path), LoraParameters(rank=4), "cpu", 0)
    with pytest.raises(UserError, match=r"is on layers all: set lora\.layers to all"):
        load_trainable(str(tiny_policy), str(step_folder(folder / "checkpoints", 1)), lora, "cpu", 0)


def test_attention_of_other_names_is_refused() -> None:
    with pytest.raises(UserError, match=r"no layers of these names: use lora\.layers all"):
        LoraParameters(layers="attention").targets(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_an_adapter_of_another_rank(folder: Path, tiny_policy: Path) -> None:
    with pytest.raises(UserError, match="has rank 4 and rank 16 is asked for"):
        load_trainable(str(tiny_policy), str(step_folder(folder / "checkpoints", 1)), LoraParameters(rank=16), "cpu", 0)


def test_an_adapter_of_another_base_model(folder: Path, tiny_policy: Path, tmp_path: Path) -> None:
    origin = {"policy": "someone/else", "weights_sha256": "0" * 64}
    export_adapter(step_folder(folder / "checkpoints", 1), tmp_path / "adapter", origin)
    assert json.loads((tmp_path / "adapter" / ORIGIN).read_text())["policy"] == "someone/else"
    with pytest.raises(UserError, match="was trained on someone/else"):
        load_policy(str(tiny_policy), str(tmp_path / "adapter"))


def test_an_adapter_that_was_half_written(folder: Path, tiny_policy: Path, tmp_path: Path) -> None:
    source = step_folder(folder / "checkpoints", 1)
    export_adapter(source, tmp_path / "adapter", {"policy": "tiny", "weights_sha256": ""})
    (tmp_path / "adapter" / ORIGIN).unlink()
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or only half written"):
        load_policy(str(tiny_policy), str(tmp_path / "adapter"))
    weights.unlink()
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        load_policy(str(tiny_policy), str(tmp_path / "adapter"))


def test_half_the_size_loads_to_nearly_the_same(folder: Path, tiny_policy: Path, tmp_path: Path) -> None:
    source = step_folder(folder / "checkpoints", 3)
    weights = load_policy(str(tiny_policy)).identity.weights_sha256
    export_adapter(source, tmp_path / "half", {"policy": "tiny", "weights_sha256": weights}, half=True)
    full, half = (source / "adapter_model.safetensors", tmp_path / "half" / "adapter_model.safetensors")
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert load_policy(str(tiny_policy), str(tmp_path / "half")).identity.adapter_sha256
