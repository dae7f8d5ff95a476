"""What the other processes do while the main one makes a run: sample their share, take part in each update.

They hold the same policy and make the same steps, and write nothing; what a step's rollouts were worth they are told.
Each process samples every n-th prompt of a step. Random numbers belong to a prompt and a sample (``randomness``), so
that the tokens do not depend on the number of processes; a batch of other prompts may move the last digits of a
log-probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vegtts_core.policy.load import load_trainable
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.policy.types import Completion, Progress
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import Processes
from vegtts_core.training.slots import Slot, build_slots, schedule
from vegtts_core.training.update import Group, Stop, train


def share(slots: Sequence[Slot], processes: Processes) -> Sequence[Slot]:
    """The slots that this process samples."""
    return slots[processes.index :: processes.count]


def sample_together(
    policy: TransformersPolicy,
    parameters: AdaptationParameters,
    step: int,
    slots: Sequence[Slot],
    processes: Processes,
    progress: Progress | None = None,
) -> list[list[Completion]]:
    """K completions of each slot, in the order of ``slots``, on every process; ``progress`` is of the own share."""
    own = [slot.prompt for slot in share(slots, processes)]
    # The step moves the upper half of the seed, so that step 0 draws what Best-of-N draws.
    seed = parameters.seed + (step << 32)
    written = policy.sample(own, parameters.k, parameters.sampling, seed, progress) if own else []
    parts = processes.gather(written)
    return [parts[place % processes.count][place // processes.count] for place in range(len(slots))]


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
    policy = TransformersPolicy(model, tokenizer, identity)

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
