"""No evaluation task was trained on or shown: proved from the prompts that the recorded runs kept."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from vegtts_core.policy.embedded import EMBEDDED_ADAPTER
from vegtts_core.policy.folders import ORIGIN
from vegtts_core.project import recorded_folder
from vegtts_core.runs.store import load_run
from vegtts_core.scaffolds.assemble import reference_class
from vegtts_core.tasks import load_tasks, named_selections

RUNS = ["warm_start_embedded", "rlvr_embedded", "warm_start_h100"]


def forward_text(source: str) -> str:
    """The reference's ``forward``: what tells one task from another."""
    body = next(
        node for node in reference_class(source).body if isinstance(node, ast.FunctionDef) and node.name == "forward"
    )
    return ast.get_source_segment(source, body) or ""


@pytest.mark.parametrize("name", RUNS)
def test_no_prompt_asks_for_or_shows_an_evaluation_task(name: str) -> None:
    folder: Path = recorded_folder() / name
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    evaluation = {f"level1/{id}" for id in named_selections()["l1_seed42_eval"]}
    training = {f"level1/{id}" for id in named_selections()["l1_seed42_train"]}
    # Tasks that differ in their inputs alone may share a prompt, which is kept once.
    assert {prompt["task"] for prompt in prompts.values()} <= training
    samples = load_run(folder).samples
    assert set(samples["task"]) <= training and not set(samples["task"]) & evaluation
    assert set(samples["prompt_id"]) <= set(prompts)  # every rollout's prompt is among those looked at
    trained = {forward_text(task.source) for task in load_tasks("l1_seed42_train")}
    held_out = {
        text: task.key for task in load_tasks("l1_seed42_eval") if (text := forward_text(task.source)) not in trained
    }
    assert len(held_out) >= 8  # convolutions and products of matrices read alike on both sides of the split
    for prompt in prompts.values():
        shown = "\n".join(message["content"] for message in prompt["messages"])
        assert not [key for text, key in held_out.items() if text in shown]


def test_the_adapter_was_made_by_these_runs() -> None:
    origin = json.loads((EMBEDDED_ADAPTER / ORIGIN).read_text(encoding="utf-8"))
    manifest = load_run(recorded_folder() / "rlvr_embedded").manifest
    assert origin["parameters"]["rlvr"] | {"adapter": None} == manifest["parameters"] | {"adapter": None}
    assert origin["step"] == 40 and origin["weights_sha256"] == manifest["policy"]["weights_sha256"]
    assert (EMBEDDED_ADAPTER / "adapter_model.safetensors").stat().st_size <= 12 * 2**20
