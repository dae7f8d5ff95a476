"""Made-up updates, by however many processes were started: ``python together.py POLICY FOLDER`` with torch's variables.

Each process writes what it ended with to ``FOLDER/<index>.pt``. Run by test_processes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vegtts_core.errors import UserError
from vegtts_core.policy.load import LoraParameters, load_trainable
from vegtts_core.training.gradients import GradientSum
from vegtts_core.training.groups import Group, StepReport, UpdateParameters
from vegtts_core.training.logprobs import completion_logprobs
from vegtts_core.training.processes import join, leave
from vegtts_core.training.update import train
from vegtts_core.training.zero import ZeroOptimizer

SLOTS = 4
Rollouts = Callable[[int], list[Group]]


def groups_of(step: int, lengths: Sequence[int] = (9, 23, 14), quiet: Sequence[int] = ()) -> list[Group]:
    """Prompts of these lengths, three completions each; those at ``quiet`` places have no advantage."""
    random = np.random.default_rng(step)
    found = []
    for place, length in enumerate(lengths):
        completions = [random.integers(100, 4000, size=random.integers(1, 12)).tolist() for _ in range(3)]
        worth = random.normal(size=3) * (place not in quiet)
        found.append(Group(random.integers(100, 4000, size=length).tolist(), completions, worth))
    return found


def even(step: int) -> list[Group]:
    return groups_of(step, (9, 9, 9, 9))


def one_heard(step: int) -> list[Group]:
    return groups_of(step, quiet=(0, 2))


def silent_first(step: int) -> list[Group]:
    return groups_of(step, quiet=(0, 1, 2) if step == 0 else ())


#: name: (rollouts, dtype, parameters of the update)
CASES: dict[str, tuple[Rollouts, torch.dtype, dict[str, Any]]] = {
    "even": (even, torch.float64, {}),
    "uneven": (groups_of, torch.float64, {"entropy": 0.05, "kl": 0.1}),
    "plain": (groups_of, torch.float64, {"shared_prompt": False, "entropy": 0.05, "kl": 0.1}),
    "grpo": (groups_of, torch.float64, {"loss": "grpo"}),
    "dr_grpo": (even, torch.float64, {"loss": "dr_grpo", "entropy": 0.05}),
    "one heard": (one_heard, torch.float64, {}),
    "one heard, regularised": (one_heard, torch.float64, {"entropy": 0.05}),
    "silent first": (silent_first, torch.float64, {}),
    "passes shared": (even, torch.float64, {"pass_tokens": 10_000}),
    "float32": (groups_of, torch.float32, {"entropy": 0.05}),
}


#: Those that weights or an optimiser spread over the processes could do differently.
SHARDED = ("uneven", "one heard", "silent first", "float32")


def fit(policy: Path, folder: Path, case: str, steps: int = 2, single: bool = False) -> dict[str, Any]:
    """What the updates were: gradients before clipping, reports, the adapter's weights. ``single``: in float32."""
    rollouts, dtype, values = CASES[case]
    model, tokenizer, _ = load_trainable(str(policy), None, LoraParameters(rank=4, alpha=8), "cpu", 7)
    model.to(torch.float32 if single else dtype)
    processes = join("cpu")

    def asked(step: int) -> list[Group]:
        for _ in range(1 + processes.index):  # sampling and scoring take each process another number of passes
            with torch.no_grad():
                completion_logprobs(model, [5, 6, 7], [[8, 9]])
        return rollouts(step)

    gradients: list[torch.Tensor] = []
    give = GradientSum.give

    def watched(self: GradientSum) -> None:
        give(self)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone())

    reduce = ZeroOptimizer.reduce

    def watched_there(self: ZeroOptimizer, own: Sequence[torch.Tensor]) -> None:
        reduce(self, own)
        found = dict(zip(self.parameters, self.gradients(), strict=True))
        gradients.append(torch.cat([found[p].flatten() for p in model.parameters() if p.requires_grad]))

    reports: list[StepReport] = []
    GradientSum.give, ZeroOptimizer.reduce = watched, watched_there
    try:
        train(
            model,
            tokenizer,
            asked,
            folder,
            UpdateParameters.checked({"learning_rate": 1.0e-2} | values),
            steps=steps,
            groups=SLOTS,
            temperature=0.5,
            seed=7,
            on_step=reports.append,
        )
    finally:
        GradientSum.give, ZeroOptimizer.reduce = give, reduce
    weights = {name: value.detach().clone() for name, value in model.named_parameters() if "lora" in name}
    return {"gradients": gradients, "reports": [asdict(report) for report in reports], "weights": weights}


def spoiled(policy: Path, folder: Path) -> str:
    """The error of a step in which one process alone has an infinite gradient, of a finite loss."""
    take = GradientSum.take

    def spoil(self: GradientSum) -> None:
        for parameter in self._parameters:
            if join("cpu").index == 1 and parameter.grad is not None:
                parameter.grad.fill_(torch.inf)
        take(self)

    GradientSum.take = spoil
    try:
        fit(policy, folder, "float32")
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        GradientSum.take = take
    return ""


def infinite(policy: Path, folder: Path) -> str:
    """The error of a step of which one group, so one process, has an infinite loss."""

    def rollouts(step: int) -> list[Group]:
        groups = even(step)
        groups[1] = Group(groups[1].prompt, groups[1].completions, np.full(3, np.inf))
        return groups

    CASES["infinite"] = (rollouts, torch.float32, {})
    try:
        fit(policy, folder, "infinite")
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(policy: Path, folder: Path) -> None:
    processes = join("cpu")
    names = SHARDED if processes.sharded or processes.zero == 1 else CASES
    # DeepSpeed keeps weights and moments in float32.
    found: dict[str, Any] = {name: fit(policy, folder / name, name, single=processes.zero > 0) for name in names}
    found["resumed"] = fit(policy, folder / "made by one", "float32", 4)
    found["infinite"] = infinite(policy, folder / "infinite")
    found["spoiled"] = spoiled(policy, folder / "spoiled")
    torch.save(found, folder / f"{processes.index}.pt")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
