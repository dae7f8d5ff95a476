"""What the other processes do while the main one makes a run: sample their share, take part in each update.

They hold the same policy and make the same steps, and write nothing; what a step's rollouts were worth they are told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vegtts_core.policy.load import load_trainable
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.training.groups import Group, Stop
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import Processes
from vegtts_core.training.slots import build_slots, schedule
from vegtts_core.training.step_sampling import sample_together
from vegtts_core.training.update import train


def agreed(answer: list[Group] | Stop) -> list[Group]:
    """The groups that the main process made of a step, or its decision to stop, raised."""
    if isinstance(answer, Stop):
        raise answer
    return answer


def follow(parameters: AdaptationParameters, checkpoints: Path, processes: Processes) -> None:
    """Take part in the main process's run, whose ``checkpoints`` this process must see. Raises what that raises."""
    slots = build_slots(
        parameters.tasks, parameters.scaffolds, parameters.size, parameters.examples, parameters.judged_on
    )
    plan = schedule(slots, parameters.tasks_per_step, parameters.seed)
    model, tokenizer, identity = load_trainable(
        parameters.policy, parameters.adapter, parameters.lora, parameters.device, parameters.seed
    )
    policy = TransformersPolicy(model, tokenizer, identity, cuda_graphs=parameters.cuda_graphs)

    def sample(step: int) -> None:
        if processes.broadcast(_unasked):
            sample_together(policy, parameters, step, plan(step), processes)

    def groups(step: int) -> list[Group]:
        sample(step)
        return agreed(processes.broadcast(_unasked))

    made = train(
        model,
        tokenizer,
        groups,
        checkpoints,
        parameters.update,
        steps=parameters.steps,
        groups=len(plan(0)),
        temperature=parameters.temperature_of_loss,
        seed=parameters.seed,
        keep_every=parameters.keep_every,
    )
    if parameters.judge_last and made == parameters.steps:
        sample(made)


def _unasked() -> Any:
    raise AssertionError("only the main process decides")
