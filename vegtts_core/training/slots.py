"""What a run asks of its policy: pairs of task and scaffold, their prompts, and which of them each step draws.

It knows tasks, scaffolds and seeds; it knows no models or rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vegtts_core.errors import UserError
from vegtts_core.evaluator.choice import scaffold_for
from vegtts_core.kernels.templates.coverage import covered
from vegtts_core.runs.files import write_json
from vegtts_core.scaffolds import Prompt
from vegtts_core.tasks import Size, Task, get_task, load_tasks
from vegtts_core.tasks.load import named_selections

#: Keeps the order of tasks apart from other random numbers of the same seed.
_STREAM = 0x510F


@dataclass(frozen=True)
class Slot:
    """A task asked for in a scaffold, and the prompt that asks."""

    task: Task
    scaffold: str
    prompt: Prompt

    @property
    def key(self) -> str:
        """Names its group; baselines and replayed rollouts are kept under it."""
        return f"{self.scaffold}:{self.task.key}"


def build_slots(
    tasks: str | Sequence[int | str],
    scaffolds: Sequence[str],
    size: Size,
    examples: Sequence[int],
    device: str,
    skip: bool = False,
) -> list[Slot]:
    """Every task in every scaffold that has it, scaffold by scaffold.

    Raises UserError if nothing is left, and for a task that is also an example; with ``skip`` such a task's own prompt
    goes without that example instead.
    """
    wanted = load_tasks(tasks, size)
    shown = [get_task(example, size) for example in examples]
    asked = {(task.level, task.id) for task in wanted}
    for example in shown:
        if (example.level, example.id) in asked and not skip:
            raise UserError(f"Task {example.key} is asked for and stands as an example in the prompt: take it out.")
    templates = {entry.key for entry in covered() if entry.family is not None} if "template" in scaffolds else set()
    slots = []
    for name in scaffolds:
        scaffold = scaffold_for(name, device)
        slots += [
            Slot(task, name, scaffold.prompt(task, [example for example in shown if example.id != task.id]))
            for task in wanted
            if name != "template" or task.key in templates
        ]
    if not slots:
        raise UserError("None of the tasks has a kernel template: use scaffold forward or kernel.")
    return slots


def write_prompts(folder: Path, slots: Sequence[Slot]) -> None:
    """``prompts.json``: every prompt of a run by its id, with task, scaffold and messages."""
    write_json(
        folder / "prompts.json",
        {
            slot.prompt.id: {
                "task": slot.task.key,
                "scaffold": slot.scaffold,
                "messages": [{"role": m.role.value, "content": m.content} for m in slot.prompt.messages],
            }
            for slot in slots
        },
    )


def refuse_evaluation_tasks(tasks: Sequence[Task], split: str) -> None:
    """Raise UserError if a task is an evaluation task of ``split`` or in a subset that results are shown for."""
    named = named_selections()
    if f"{split}_eval" not in named:
        raise UserError(f"There is no split {split!r}: use one of l1_seed42, l1_seed43, l1_seed44.")
    kept_out = {id for name in (f"{split}_eval", "subset_1", "subset_2") for id in named[name]}
    for task in tasks:
        if task.level == 1 and task.id in kept_out:
            raise UserError(f"Task {task.key} is an evaluation task of {split}: no policy may be trained on it.")


def schedule(slots: Sequence[Slot], per_step: int | None, seed: int) -> Callable[[int], list[Slot]]:
    """Which slots step s asks for: all (``per_step`` None or too large), or the next of a seeded shuffle.

    Every slot comes once before any comes twice, but for one whose task is in the step already, which waits.
    """
    if per_step is None or per_step >= len(slots):
        return lambda step: list(slots)
    if per_step > len({slot.task.key for slot in slots}):
        raise UserError(f"There are fewer than {per_step} tasks for a step: lower tasks_per_step.")
    drawn: list[list[Slot]] = []
    waiting: list[Slot] = []
    epoch = 0

    def draw(step: int) -> list[Slot]:
        nonlocal epoch
        while len(drawn) <= step:
            chosen: list[Slot] = []
            while len(chosen) < per_step:
                here = {slot.task.key for slot in chosen}
                place = next((index for index, slot in enumerate(waiting) if slot.task.key not in here), None)
                if place is None:
                    order = np.random.default_rng([seed, epoch, _STREAM]).permutation(len(slots))
                    waiting.extend(slots[index] for index in order)
                    epoch += 1
                else:
                    chosen.append(waiting.pop(place))
            drawn.append(chosen)
        return drawn[step]

    return draw
