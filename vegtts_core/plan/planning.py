"""A plan: every run of a parameter file with what it will spend, hold and take. It reads, counts and multiplies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vegtts_core.plan.counts import Work, work_of
from vegtts_core.plan.durations import Amounts, Seconds, amounts, seconds
from vegtts_core.plan.families import Family, families
from vegtts_core.plan.library import Library
from vegtts_core.plan.memory import Memory, memory_of
from vegtts_core.plan.prompts import prompt_counter


@dataclass(frozen=True)
class RunPlan:
    """One run. ``bound`` holds whatever the policy writes (None in it: there is none), ``expected`` where it is known.

    ``device_seconds``: of all devices together. ``evaluations_per_device``: distinct candidates, those timed again and
    references. ``memory`` is None where the model's configuration is not at hand.
    """

    section: str
    name: str
    policy: str
    device: str
    rollouts: int
    prompt_tokens: int
    prompt_tokens_computed: int
    prompts_exact: bool
    updates: int
    references: int
    bound: Amounts
    bound_seconds: Seconds
    expected: Amounts | None
    expected_seconds: Seconds | None
    device_seconds: float | None
    evaluations_per_device: float
    memory: Memory | None
    rates: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def student_tokens(self) -> float:
        """Prompt and completion, as compute records count them; expected, else the bound."""
        return self.prompt_tokens + (self.expected or self.bound).completion_tokens

    @property
    def wall_seconds(self) -> float | None:
        """All that the run will take: expected, else the bound; None where no rate is known."""
        return (self.expected_seconds or self.bound_seconds).total

    def to_json(self) -> dict[str, Any]:
        """Plain values, with sums of what they add up to."""
        values = asdict(self) | {"student_tokens": self.student_tokens, "wall_seconds": self.wall_seconds}
        for name in ("bound_seconds", "expected_seconds"):
            if values[name] is not None:
                found: Seconds = getattr(self, name)
                values[name] |= {"recorded": found.recorded, "total": found.total}
        if self.memory is not None:
            values["memory"] |= {"total": self.memory.total, "plain_total": self.memory.plain_total}
        return values


def plan(
    params: str | Path,
    library: Library,
    section: str | None = None,
    *,
    devices: int = 1,
    sharded: bool = False,
    config: Path | None = None,
    completion_tokens: float | None = None,
    device_gib: float | None = None,
    progress: Callable[[Work], None] = lambda work: None,
) -> list[RunPlan]:
    """The plan of ``params`` (a YAML file or a name in ``params/``) or of one section. Raises UserError.

    ``config``: a config.json for the policy. ``completion_tokens``: a length that completions are expected to have.
    ``device_gib``: memory of a device, which the plan is held against (None: this machine's, where that is known).
    ``progress`` is called before each run is planned.
    """
    found = []
    for family in families(params, section):
        work = work_of(family, prompt_counter(_policy(family)), config)
        progress(work)
        found.append(plan_work(work, library, devices, sharded, completion_tokens, device_gib))
    return found


def plan_work(
    work: Work,
    library: Library,
    devices: int = 1,
    sharded: bool = False,
    completion_tokens: float | None = None,
    device_gib: float | None = None,
) -> RunPlan:
    """The plan of one run; see `plan`."""
    count = prompt_counter(work.policy)
    facts = work.facts
    rates, said = library.rates(work)
    writing, more = library.writing(work)
    notes = [note for note in (count.note, *work.notes, *said, *more) if note]
    bound = amounts(work, None, rates)
    expected = amounts(work, writing, rates) if writing is not None else None
    if completion_tokens is not None:
        expected = _as_long_as(expected or bound, work, completion_tokens)
    used = expected or bound
    spent = seconds(work, used, writing, rates, devices)
    alone = seconds(work, used, writing, rates, 1).total
    missing = [part.name for part in fields(spent) if getattr(spent, part.name) is None]
    if rates is not None and missing:
        notes.append(f"Its rates of {', '.join(missing)} are not known: its time is not predicted.")
    if facts is None:
        notes.append(f"The configuration of {work.policy} is not at hand: give it with --config to plan memory.")
    elif not facts.shares_prompts:
        notes.append("Its attention needs a cache per completion, so a prompt is stored once per row, not once.")
    rows = used.completion_tokens / used.steps if used.steps else 0.0
    if rates is not None and rates.rows and rows and not rates.rows[0] / 2 <= rows <= 2 * rates.rows[1]:
        notes.append(
            "Its calls advance fewer or more rows at a time than those that rates were observed with: the time of "
            "sampling is extrapolated."
        )
    judged = used.distinct_candidates + used.correct + work.references
    room = device_gib or library.room(work)
    memory = memory_of(work, facts, devices, sharded, room) if facts else None
    if memory is not None and room is not None and memory.total > room * 2**30:
        notes.append(f"It may not fit: a device has {room:,.0f} GiB.")
    return RunPlan(
        section=work.family.section,
        name=work.family.name,
        policy=work.policy,
        device=work.device,
        rollouts=work.rollouts,
        prompt_tokens=work.prompt_tokens,
        prompt_tokens_computed=work.prompt_tokens_computed,
        prompts_exact=count.exact,
        updates=len(work.updates),
        references=work.references,
        bound=bound,
        bound_seconds=seconds(work, bound, None, rates, devices),
        expected=expected,
        expected_seconds=spent if expected is not None else None,
        device_seconds=alone,
        evaluations_per_device=judged / devices,
        memory=memory,
        rates=rates.sources if rates is not None else (),
        notes=tuple(dict.fromkeys(notes)),
    )


def _as_long_as(amount: Amounts, work: Work, tokens: float) -> Amounts:
    """``amount`` with completions of ``tokens`` each, as the user expects them."""
    total = min(tokens, work.max_new_tokens) * work.rollouts
    share = total / amount.completion_tokens if amount.completion_tokens else 0.0
    return replace(
        amount, completion_tokens=total, steps=amount.steps * min(1.0, share), update_texts=amount.update_texts * share
    )


def _policy(family: Family) -> str:
    given: Any = family.after if family.after is not None else family.parameters
    return given.policy
