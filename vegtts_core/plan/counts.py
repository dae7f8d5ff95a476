"""What a run asks for, before it runs: calls of the sampler, updates, contexts of a teacher, completions to score.

Built from the run's own slots, prompts and schedule, so numbers of rollouts and prompt tokens are those that the run
will record. How long completions are, and how many differ, is not known here: see `vegtts_core.plan.writing`.
It knows parameters, prompts and their lengths; it knows no models, rates or seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.kernels.types import Language
from vegtts_core.plan.families import PROBE, Family, TransferParameters
from vegtts_core.plan.model_facts import ModelFacts, model_facts
from vegtts_core.plan.prompts import PromptCounter
from vegtts_core.search.parameters import BestOfNParameters
from vegtts_core.tasks import load_tasks
from vegtts_core.training.demonstrations import demonstrations
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.slots import Slot, build_slots, refuse_evaluation_tasks, schedule
from vegtts_core.training.teacher import Feedback, teacher_prompt
from vegtts_core.training.warm_start import FIRST
from vegtts_core.training.warm_start_parameters import WarmStartParameters


@dataclass(frozen=True)
class Ask:
    """A prompt: its task, scaffold and length in tokens. ``taught``: the teacher's length without a solution."""

    task: str
    scaffold: str
    tokens: int
    taught: int = 0


@dataclass(frozen=True)
class Group:
    """``k`` completions of one prompt. ``given``: tokens of those that are not sampled (a warm start's own answers)."""

    ask: Ask
    k: int
    given: tuple[int, ...] = ()
    kept: bool = False
    """Only distinct correct ones of the ``k`` are in it (a warm start's fit), at most ``most``."""
    most: int | None = None


@dataclass(frozen=True)
class Work:
    """What one run does. ``calls``: each one call of the sampler; ``updates``: the groups of each update.

    ``taught``: the groups that a teacher scores, per update; ``scored``: groups that are only scored, once per pass.
    ``given``: completions that are evaluated without having been sampled, by task and scaffold.
    """

    family: Family
    policy: str
    adapter: str | None
    dtype: str
    device: str
    judged_on: str
    temperature: float
    max_new_tokens: int
    merged: bool
    """Whether the adapter is merged into the weights, or stays beside them (as it does in training)."""
    calls: tuple[tuple[Group, ...], ...]
    updates: tuple[tuple[Group, ...], ...] = ()
    taught: tuple[tuple[Group, ...], ...] = ()
    scored: tuple[tuple[Group, ...], ...] = ()
    given: tuple[Group, ...] = ()
    retimed: bool = False
    facts: ModelFacts | None = None
    """The policy's model; None where its configuration is not at hand."""
    notes: tuple[str, ...] = field(default=())

    @property
    def rollouts(self) -> int:
        """Completions that the policy writes."""
        return sum(group.k for call in self.calls for group in call)

    @property
    def prompt_tokens(self) -> int:
        """Counted once per rollout, as the paper and every compute record do."""
        return sum(group.k * group.ask.tokens for call in self.calls for group in call)

    @property
    def prompt_tokens_computed(self) -> int:
        """Counted once per call: completions share their prompt's keys and values."""
        return sum(group.ask.tokens for call in self.calls for group in call)

    @property
    def references(self) -> int:
        """Tasks whose reference is evaluated as a candidate of its own."""
        return len({group.ask.task for call in self.calls for group in call}) if self.retimed else 0


def work_of(family: Family, count: PromptCounter, config: Path | None = None) -> Work:
    """The work of one run; ``count`` gives the length of a prompt, ``config`` replaces the policy's config.json.

    Raises UserError where the run would refuse, and for a configuration that cannot be read.
    """
    work = _work(family, count)
    return replace(work, facts=model_facts(work.policy, config))


def _work(family: Family, count: PromptCounter) -> Work:
    parameters = family.parameters
    if isinstance(parameters, BestOfNParameters):
        return _best_of_n(family, parameters, count)
    if isinstance(parameters, WarmStartParameters):
        return _warm_start(family, parameters, count)
    if isinstance(parameters, AdaptationParameters):
        return _adaptation(family, parameters, count)
    assert family.after is not None
    if isinstance(parameters, TransferParameters):
        return _transfer(family, parameters, family.after, count)
    assert family.kind == PROBE
    return _probe(family, family.after, count)


def _best_of_n(family: Family, given: BestOfNParameters, count: PromptCounter) -> Work:
    slots = build_slots(given.tasks, (given.scaffold,), given.size, given.examples, given.judged_on)
    if len(slots) < len(load_tasks(given.tasks, given.size)):
        raise UserError("Some of the tasks have no kernel template: leave them out, or use scaffold forward or kernel.")
    asks = [_ask(slot, count) for slot in slots]
    size = given.prompts_per_batch
    calls = [
        tuple(Group(ask, given.k) for ask in asks[start : start + size])
        for _ in given.seeds
        for start in range(0, len(asks), size)
    ]
    return Work(
        family,
        given.policy,
        given.adapter,
        given.dtype,
        given.device,
        given.judged_on,
        given.temperature,
        given.max_new_tokens,
        given.dtype == "float32",
        tuple(calls),
        retimed=True,
    )


def _adaptation(family: Family, given: AdaptationParameters, count: PromptCounter) -> Work:
    slots = build_slots(given.tasks, given.scaffolds, given.size, given.examples, given.judged_on)
    if given.training_only:
        refuse_evaluation_tasks([slot.task for slot in slots], given.split)
    drawn = schedule(slots, given.tasks_per_step, given.seed)
    sdpo = given.algorithm == "sdpo"
    asks = {slot.key: _ask(slot, count, given if sdpo else None) for slot in slots}
    steps = [
        tuple(Group(asks[slot.key], given.k) for slot in drawn(step)) for step in range(given.steps + given.judge_last)
    ]
    updates = tuple(steps[: given.steps])
    notes = ["Early stopping may end it sooner."] if given.patience is not None else []
    if sdpo and given.distillation.feedback:
        notes.append("A teacher's feedback holds error messages, which have no bound: its tokens are an expectation.")
    return Work(
        family,
        given.policy,
        given.adapter,
        "float32",  # what is trained is loaded in float32 (policy.load.load_trainable)
        given.device,
        given.judged_on,
        given.temperature,
        given.max_new_tokens,
        False,
        tuple(steps),
        updates,
        updates if sdpo else (),
        notes=tuple(notes),
    )


def _warm_start(family: Family, given: WarmStartParameters, count: PromptCounter) -> Work:
    arguments = (given.tasks, given.scaffolds, given.size)
    bare = build_slots(*arguments, (), given.judged_on)
    shown = {slot.key: slot for slot in build_slots(*arguments, given.examples, given.judged_on, skip=True)}
    refuse_evaluation_tasks([slot.task for slot in bare], given.split)
    language = Language.CPP if given.judged_on == "cpu" else Language.CUDA
    worked = {
        slot.key: tuple(count.texts(demonstrations(slot.task, slot.scaffold, language, wanted, given.seed)))
        for slot in bare
        if (wanted := given.demonstrations.get(slot.scaffold, 0))
    }
    calls, updates = [], []
    for stage in range(given.rounds + 1):
        asked = [slot if stage > FIRST else shown[slot.key] for slot in bare]
        sampled = [slot for slot in asked if stage > FIRST or slot.key not in worked]
        calls.append(tuple(Group(_ask(slot, count), given.k) for slot in sampled))
        fitted = [
            Group(
                _ask(slot, count),
                given.k * (stage + (slot.key not in worked)),
                worked.get(slot.key, ()),
                True,
                given.most,
            )
            for slot in bare
        ]
        # Which slots have something to fit to is not known: a fit passes over all of them at most.
        number = max(1, math.ceil(given.epochs * len(fitted) / given.tasks_per_update))
        endless = [fitted[place % len(fitted)] for place in range(number * given.tasks_per_update)]
        per = given.tasks_per_update
        updates += [tuple(endless[start : start + per]) for start in range(0, number * per, per)]
    return Work(
        family,
        given.policy,
        None,
        "float32",
        given.device,
        given.judged_on,
        given.temperature,
        given.max_new_tokens,
        False,
        tuple(calls),
        tuple(updates),
        given=tuple(Group(_ask(slot, count), 0, worked[slot.key]) for slot in bare if slot.key in worked),
    )


def _transfer(family: Family, given: TransferParameters, after: AdaptationParameters, count: PromptCounter) -> Work:
    slots = build_slots(given.tasks, after.scaffolds, after.size, after.examples, after.judged_on)
    adapted = build_slots(after.tasks, after.scaffolds, after.size, after.examples, after.judged_on)
    again = {slot.task.key for slot in slots} & {slot.task.key for slot in adapted}
    if again:
        raise UserError(f"Section transfer judges on {sorted(again)[0]}, which is adapted on: name other tasks.")
    asks = [_ask(slot, count) for slot in slots]
    k = given.k or after.k
    control = 2 * k if given.control_k is None else given.control_k
    checkpoints = min(3, after.steps + 1)  # the start, the best and the last, which may be the same
    calls = [tuple(Group(ask, k) for ask in asks)] * checkpoints
    calls += [tuple(Group(ask, control) for ask in asks)] if control else []
    notes = ("The best checkpoint may be the first or the last: then one fewer is judged.",) if after.steps > 1 else ()
    return _after(family, after, tuple(calls), notes=notes)


def _probe(family: Family, after: AdaptationParameters, count: PromptCounter) -> Work:
    slots = build_slots(after.tasks, after.scaffolds, after.size, after.examples, after.judged_on)
    first = schedule(slots, after.tasks_per_step, after.seed)(0)
    groups = tuple(Group(_ask(slot, count), after.k) for slot in first)
    note = "Its samples are the run's own rollouts of step 0, so nothing is sampled."
    return _after(family, after, (), scored=(groups,) * (after.steps + 1), notes=(note,))


def _after(family: Family, after: AdaptationParameters, calls: tuple[tuple[Group, ...], ...], **more: Any) -> Work:
    """Work that the checkpoints of an adaptation run do, one after the other."""
    return Work(
        family,
        after.policy,
        after.adapter or "its checkpoints",
        "float32",
        after.device,
        after.judged_on,
        after.temperature,
        after.max_new_tokens,
        True,
        calls,
        **more,
    )


def _ask(slot: Slot, count: PromptCounter, sdpo: AdaptationParameters | None = None) -> Ask:
    taught = 0
    if sdpo is not None:
        shown = _SUCCESS if sdpo.distillation.feedback else None
        context = teacher_prompt(slot.prompt, shown, None, sdpo.distillation.closing)
        taught = count(context)
    return Ask(slot.task.key, slot.scaffold, count(slot.prompt), taught)


#: What a teacher is shown of a correct attempt: as long as any other outcome without an error's message.
_SUCCESS = Feedback(True, True, 1.23, 1.234e-3)
