"""A step's rollouts: who samples which, and how they are kept.

Each process samples every n-th prompt of a step. Random numbers belong to a prompt and a sample (``randomness``), so
that the tokens do not depend on the number of processes; a batch of other prompts may move the last digits of a
log-probability. It knows policies and slots; it knows nothing of what completions are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vegtts_core.policy.types import Completion, Policy, Progress
from vegtts_core.runs import machine
from vegtts_core.runs.rows import completion_columns, identity_facts
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import Processes
from vegtts_core.training.slots import Slot


def share(slots: Sequence[Slot], processes: Processes) -> Sequence[Slot]:
    """The slots that this process samples."""
    return slots[processes.index :: processes.count]


def sample_together(
    policy: Policy,
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


def unit_of(
    policy: Policy,
    parameters: AdaptationParameters,
    step: int,
    slots: Sequence[Slot],
    completions: Sequence[Sequence[Completion]],
    seconds: float,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and facts of a step as the run store keeps them; ``completions`` by slot took so many ``seconds``."""
    rows = [
        {"scaffold": slot.scaffold}
        | completion_columns(slot.task, parameters.seed, step, sample, slot.prompt.id, completion)
        for slot, group in zip(slots, completions, strict=True)
        for sample, completion in enumerate(group)
    ]
    identity, lengths = policy.identity, policy.prompt_tokens([slot.prompt for slot in slots])
    facts = {
        "sampling_seconds": seconds,
        "prompt_tokens": {slot.key: length for slot, length in zip(slots, lengths, strict=True)},
        "policy": identity_facts(identity),
        "versions": machine.versions() | identity.versions,
        "machine": machine.device(parameters.judged_on),
    }
    return rows, facts
