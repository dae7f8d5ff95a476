"""What a run cost, and whether two runs cost the same (sections 4.1, 4.6, appendix C).

Equal rollouts is the paper's rule; tokens are reported, because a teacher adds tokens without adding rollouts. This
module reads compute records and counts rows; it never estimates what was not recorded: unknown seconds are NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from vegtts_core.errors import UserError

NAN = float("nan")


class On(StrEnum):
    """What two budgets must agree in."""

    ROLLOUTS = "rollouts"
    """Section 4.1."""
    TOKENS = "tokens"
    """Rollouts, and student and teacher tokens together."""


@dataclass(frozen=True)
class Budget:
    """Rollouts and what they cost, summed over tasks and seeds.

    ``student_tokens``: prompt and completion, a prompt counted once per rollout; ``teacher_tokens``: scored by a
    teacher; ``wall_seconds``; ``device_seconds``: sampling, training and evaluating. NaN where not recorded.
    """

    rollouts: int
    student_tokens: float
    teacher_tokens: float
    wall_seconds: float
    device_seconds: float

    @property
    def total_tokens(self) -> float:
        """Student and teacher, as table C.1 adds them."""
        return self.student_tokens + self.teacher_tokens

    def __add__(self, other: Budget) -> Budget:
        return Budget(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Budget)))

    @classmethod
    def from_compute(cls, compute: Mapping[str, Any]) -> Budget:
        """From a ``*_compute.json`` (or a step's record of one). Raises UserError for a missing entry."""
        missing = [f.name for f in fields(cls) if f.name not in compute]
        if missing:
            raise UserError(f"The compute record lacks {', '.join(missing)}: record the run again with this version.")
        return cls(**{f.name: compute[f.name] for f in fields(cls)})


def sum_steps(records: Iterable[Mapping[str, Any]], step: int) -> Budget:
    """Budget of an adaptation run up to and including ``step``: the sum of its steps' compute records.

    Each record has ``step`` and ``Budget``'s entries, and is what writing and judging that step's rollouts cost, and
    the update that followed. Raises UserError if no record reaches the step.
    """
    found = [record for record in records if record["step"] <= step]
    if not any(record["step"] == step for record in found):
        raise UserError(f"The run has no record of step {step}: name a step that it reached.")
    total = Budget(0, 0, 0, 0.0, 0.0)
    for record in found:
        total += Budget.from_compute(record)
    return total


def at_step(
    samples: pd.DataFrame,
    step: int,
    prompt_tokens: Mapping[str, int] | None = None,
    seed: int | None = None,
    teacher_tokens: float = 0,
) -> Budget:
    """Budget of a samples table up to and including ``step``, of one seed or of all of them: rollouts, tokens.

    Checkpoint s is chosen by its own rollouts, so using it costs the rollouts of steps 0 to s: the paper's 320 for
    "step 1" (appendix A). A Best-of-N run has step 0 only. ``prompt_tokens``: tokens of each task's prompt; without it
    student tokens are NaN. The table holds neither teacher tokens (0 by default: no teacher; SDPO must say) nor seconds
    (NaN).
    Raises UserError for a step or seed that the table lacks, or a task without prompt tokens.
    """
    steps, seeds = samples["step"].to_numpy(), samples["seed"].to_numpy()
    mine = np.full(len(samples), True) if seed is None else seeds == seed
    if not np.any(mine & (steps == step)):
        where = "" if seed is None else f" of seed {seed}"
        raise UserError(f"The samples table has no step {step}{where}: name a step that the run reached.")
    spent = mine & (steps <= step)
    student = NAN
    if prompt_tokens is not None:
        tasks = samples["task"].to_numpy()[spent]
        unknown = sorted(set(tasks) - set(prompt_tokens))
        if unknown:
            raise UserError(f"The length of the prompt is not known for {', '.join(unknown)}: give its tokens as well.")
        student = float(samples["tokens"].to_numpy()[spent].sum() + sum(prompt_tokens[task] for task in tasks))
    return Budget(int(spent.sum()), student, teacher_tokens, NAN, NAN)


def compare(
    left: Budget, right: Budget, names: tuple[str, str], tolerance: float = 0.0, on: On | str = On.ROLLOUTS
) -> pd.DataFrame:
    """Both budgets side by side, refused where they are not equal in what they must be (section 4.1).

    Returns one row per quantity: ``quantity``, one column per name, ``ratio`` (left / right, NaN if right is 0 or a
    side unknown), ``required``. ``tolerance``: allowed difference as a share of the larger side.
    Raises UserError, naming both sides, if rollouts differ (or, ``on`` tokens, rollouts or total tokens, or those are
    not known), and ValueError for equal names or another ``on``.
    """
    required = ["rollouts", "total_tokens"] if On(on) is On.TOKENS else ["rollouts"]
    if names[0] == names[1]:
        raise ValueError("Two budgets need two names.")
    quantities = ["rollouts", "student_tokens", "teacher_tokens", "total_tokens", "wall_seconds", "device_seconds"]
    rows = []
    for quantity in quantities:
        a, b = getattr(left, quantity), getattr(right, quantity)
        # Not "unequal": NaN must be refused as well.
        if quantity in required and not abs(a - b) <= tolerance * max(a, b):
            what = quantity.replace("_", " ")
            raise UserError(
                f"The budgets differ in {what}, {_shown(a)} for {names[0]} and {_shown(b)} for {names[1]}: "
                "compare runs that spent as much."
            )
        rows.append((quantity, a, b, a / b if b else NAN, quantity in required))
    return pd.DataFrame(rows, columns=["quantity", *names, "ratio", "required"])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == value else "unknown"
