"""Updates on TRL's trainer: equal to TRL's own path, resumable bit by bit, skipped where there is nothing to learn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vegtts_core.errors import UserError
from vegtts_core.policy.load import LoraParameters, load_trainable
from vegtts_core.training.checkpoints import latest_step, step_folder, steps_on_disk
from vegtts_core.training.groups import Group, StepReport, UpdateParameters
from vegtts_core.training.update import train

RATE = 1.0e-2


def groups_of(step: int, silent: bool = False, by_token: bool = False) -> list[Group]:
    """Three prompts of unequal length with four completions each, from the step's own random numbers."""
    random = np.random.default_rng(step)
    found = []
    for length in (9, 23, 14):
        completions = [random.integers(100, 4000, size=random.integers(1, 12)).tolist() for _ in range(4)]
        worth: Any = np.zeros(4) if silent else random.normal(size=4)
        if by_token:
            worth = [random.normal(size=len(ids)) for ids in completions]
        found.append(Group(random.integers(100, 4000, size=length).tolist(), completions, worth))
    return found


def fit(
    policy: Path,
    folder: Path,
    rollouts: Any,
    steps: int,
    reports: list[StepReport] | None = None,
    temperature: float = 0.5,
    groups: int = 3,
    **values: Any,
) -> dict[str, torch.Tensor]:
    model, tokenizer, _ = load_trainable(str(policy), None, LoraParameters(rank=4, alpha=8), "cpu", 7)
    parameters = UpdateParameters.checked({"learning_rate": RATE} | values)
    keep = reports.append if reports is not None else lambda report: None
    train(
        model,
        tokenizer,
        rollouts,
        folder,
        parameters,
        steps=steps,
        groups=groups,
        temperature=temperature,
        seed=7,
        on_step=keep,
    )
    return {name: value.detach().clone() for name, value in model.named_parameters() if "lora" in name}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """What all but one weight in 500 differ by at most.

    Adam moves a weight by the rate whatever its gradient's size: where a gradient is all rounding, so is the move.
    """
    assert one.keys() == other.keys()
    return float(torch.cat([(one[name] - other[name]).abs().flatten() for name in one]).quantile(0.998))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"loss": "grpo"},
        {"loss": "dr_grpo"},
        {"clip": 0.2},
        {"kl": 0.1},
        {"entropy": 0.05},
        {"loss": "grpo", "entropy": 0.05, "kl": 0.1},
    ],
)
def test_two_updates_are_those_of_trl_itself(tiny_policy: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    ours: list[StepReport] = []
    theirs: list[StepReport] = []
    shared = fit(tiny_policy, tmp_path / "ours", groups_of, 2, ours, **values)
    plain = fit(tiny_policy, tmp_path / "trl", groups_of, 2, theirs, shared_prompt=False, **values)
    assert distance(shared, plain) < 0.02 * RATE
    for one, other in zip(ours, theirs, strict=True):
        # Trainer rounds what it logs to four digits.
        assert one.loss == pytest.approx(other.loss, rel=2e-3, abs=2e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=2e-3)


def test_groups_that_share_a_pass_give_the_same_update(tiny_policy: Path, tmp_path: Path) -> None:
    alone = fit(tiny_policy, tmp_path / "alone", groups_of, 1, entropy=0.0, pass_tokens=0)
    together = fit(tiny_policy, tmp_path / "together", groups_of, 1, entropy=0.0, pass_tokens=100_000)
    assert distance(alone, together) < 0.02 * RATE


def test_token_advantages_move_tokens(tiny_policy: Path, tmp_path: Path) -> None:
    def one(step: int) -> list[Group]:
        return groups_of(step, by_token=True)

    def same(step: int) -> list[Group]:
        return [
            Group(group.prompt, group.completions, [np.full(len(ids), 1.5) for ids in group.completions])
            for group in groups_of(step)
        ]

    def scalar(step: int) -> list[Group]:
        return [Group(group.prompt, group.completions, np.full(4, 1.5)) for group in groups_of(step)]

    by_token = fit(tiny_policy, tmp_path / "a", one, 1)
    constant = fit(tiny_policy, tmp_path / "b", same, 1)
    assert distance(constant, fit(tiny_policy, tmp_path / "c", scalar, 1)) < 0.02 * RATE
    assert distance(by_token, constant) > 0.5 * RATE


def test_an_importance_ratio_weighs_the_update(tiny_policy: Path, tmp_path: Path) -> None:
    def old(shift: float) -> Any:
        def rollouts(step: int) -> list[Group]:
            [group] = groups_of(step)[:1]
            logprobs = [[-8.0 + shift * (row % 2)] * len(ids) for row, ids in enumerate(group.completions)]
            return [Group(group.prompt, group.completions, group.advantages, logprobs)]

        return rollouts

    assert distance(
        fit(tiny_policy, tmp_path / "a", old(0.0), 1, groups=1), fit(tiny_policy, tmp_path / "b", old(3.0), 1, groups=1)
    )


def test_a_step_without_a_gradient_changes_nothing(tiny_policy: Path, tmp_path: Path) -> None:
    def rollouts(step: int) -> list[Group]:
        return groups_of(step, silent=step == 1)

    reports: list[StepReport] = []
    fit(tiny_policy, tmp_path, rollouts, 3, reports)
    before, skipped, after = (
        load_file(step_folder(tmp_path, step) / "adapter_model.safetensors") for step in (1, 2, 3)
    )
    assert distance(before, skipped) == 0  # momentum of step 0 included
    assert distance(skipped, after) > 0
    assert [report.skipped for report in reports] == [False, True, False]
    assert [report.silent_groups for report in reports] == [0, 3, 0]
    assert math.isnan(reports[1].loss) and not math.isnan(reports[2].loss)


def test_a_group_without_a_gradient_costs_no_pass(tiny_policy: Path, tmp_path: Path) -> None:
    def rollouts(step: int) -> Sequence[Group]:
        loud, *quiet = groups_of(step)
        return [loud, *(Group(group.prompt, group.completions, np.zeros(4)) for group in quiet)]

    reports: list[StepReport] = []
    fit(tiny_policy, tmp_path, rollouts, 1, reports)
    assert reports[0].silent_groups == 2 and not reports[0].skipped


def test_a_run_goes_on_with_the_bits_of_an_unbroken_one(tiny_policy: Path, tmp_path: Path) -> None:
    whole = fit(tiny_policy, tmp_path / "whole", groups_of, 4, weight_decay=0.01, schedule="constant")

    def broken(step: int) -> list[Group]:
        if step == 2:
            raise KeyboardInterrupt
        return groups_of(step)

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_policy, tmp_path / "broken", broken, 4, weight_decay=0.01)
    assert latest_step(tmp_path / "broken") == 2
    half = step_folder(tmp_path / "broken", 3)  # what a process that was killed while saving leaves behind
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    resumed = fit(tiny_policy, tmp_path / "broken", groups_of, 4, weight_decay=0.01)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    one, other = (
        (step_folder(tmp_path / name, 4) / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken")
    )
    assert one == other


def test_rollouts_are_asked_for_once_per_step(tiny_policy: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def rollouts(step: int) -> list[Group]:
        asked.append(step)
        return groups_of(step)

    fit(tiny_policy, tmp_path, rollouts, 3)
    assert asked == [0, 1, 2]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tiny_policy: Path, tmp_path: Path) -> None:
    def rollouts(step: int) -> list[Group]:
        groups = groups_of(step)
        if step == 1:
            return [Group(g.prompt, g.completions, np.full(4, np.inf)) for g in groups]
        return groups

    with pytest.raises(UserError, match=r"step 1 .*(kept|lower)"):
        fit(tiny_policy, tmp_path, rollouts, 3)
    assert steps_on_disk(tmp_path) == [1]
    kept = load_file(step_folder(tmp_path, 1) / "adapter_model.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_only_the_newest_checkpoint_keeps_the_optimiser(tiny_policy: Path, tmp_path: Path) -> None:
    fit(tiny_policy, tmp_path, groups_of, 3)
    assert [(step_folder(tmp_path, step) / "optimizer.pt").is_file() for step in (1, 2, 3)] == [False, False, True]
    assert json.loads((step_folder(tmp_path, 3) / "complete.json").read_text()) == {"step": 3}
