"""Expected tokens, candidates and seconds of a run: its work, how its policy writes, and rates.

Each quantity has a bound, which holds whatever the policy writes, and an expectation where writing is known; seconds
are there where a rate is. On several devices, whole units of work are shared out evenly and nothing is waited for.
It knows work, writing and rates; it measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from vegtts_core.plan.counts import Ask, Group, Work
from vegtts_core.plan.rates import CandidateRates, Rates
from vegtts_core.plan.waves import call_batches, waves
from vegtts_core.plan.writing import Slot, Writing
from vegtts_core.training.parameters import AdaptationParameters


@dataclass(frozen=True)
class Amounts:
    """What a run spends: tokens by kind, candidates, and what its seconds depend on.

    ``teacher_tokens`` count a context and its completion per rollout (table C.1); ``teacher_passes`` what is computed.
    ``update_prompts`` and ``update_texts``: tokens of prompts, and of different completions, that updates compute.
    ``correct``: distinct candidates that are timed again. ``steps``: decoding steps, whatever their rows.
    """

    completion_tokens: float
    steps: float
    distinct_candidates: float
    correct: float
    update_prompts: float
    update_texts: float
    teacher_tokens: float
    teacher_passes: float
    scored_tokens: float
    scored_passes: float


@dataclass(frozen=True)
class Seconds:
    """Wall time in seconds by kind; None where no rate is known. The last two are in no compute record."""

    sampling: float | None
    evaluation: float | None
    preparing: float | None
    update: float | None
    retiming: float | None
    references: float | None

    @property
    def recorded(self) -> float | None:
        """What a compute record calls ``wall_seconds``: sampling, evaluation, preparing and update."""
        return _sum([self.sampling, self.evaluation, self.preparing, self.update])

    @property
    def total(self) -> float | None:
        """All of it."""
        return _sum([getattr(self, part.name) for part in fields(self)])


def amounts(work: Work, writing: Writing | None, rates: Rates | None) -> Amounts:
    """Expected amounts; with ``writing`` None the bounds: every completion as long as may be and unlike all others."""
    new = work.max_new_tokens
    completion = steps = 0.0
    for call in work.calls:
        for batch, wave in call_batches(work, call):
            groups = [call[place] for place in batch]
            total = sum(group.k for group in groups)
            completion += sum(group.k * _mean(writing, group.ask, new) for group in groups)
            rows = [(group.ask.scaffold, group.ask.task, group.k * min(wave, total) // total) for group in groups]
            longest = new if writing is None else writing.longest([row for row in rows if row[2]], new)
            steps += waves(total, wave) * longest
    candidates, correct = _candidates(work, writing)
    heard = rates.heard if rates and writing is not None else 1.0
    prompts = heard * sum(group.ask.tokens for update in work.updates for group in update if _size(group, writing))
    texts = heard * sum(_texts(group, writing, new) for update in work.updates for group in update)
    teacher, passes = _teacher(work, writing, rates)
    scored = [group for one in work.scored for group in one]
    own = sum(group.k * _mean(writing, group.ask, new) for group in scored)
    different = sum(_texts(group, writing, new) for group in scored)
    return Amounts(
        completion_tokens=completion,
        steps=steps,
        distinct_candidates=candidates,
        correct=correct if work.retimed else 0.0,
        update_prompts=prompts,
        update_texts=texts,
        teacher_tokens=teacher,
        teacher_passes=passes,
        scored_tokens=own,
        scored_passes=sum(group.ask.tokens for group in scored) + different,
    )


def seconds(work: Work, amount: Amounts, writing: Writing | None, rates: Rates | None, devices: int = 1) -> Seconds:
    """Seconds of ``amount`` at ``rates``; kinds of work that a run has none of take 0."""
    rates = rates or Rates()
    spread = _spread(work.calls, devices)
    groups = _spread(work.updates or work.scored, devices)
    sampling = 0.0 if not work.calls else None
    if rates.sampling is not None:
        prompt = work.prompt_tokens_computed
        sampling = spread * rates.sampling.seconds(prompt, amount.steps, amount.completion_tokens)
    update = 0.0 if not work.updates else None
    if rates.update is not None:
        update = groups * rates.update.seconds(amount.update_prompts, amount.update_texts)
    passes = amount.teacher_passes + amount.scored_passes
    preparing = 0.0 if not passes else None
    if rates.scoring is not None:
        preparing = groups * rates.scoring * passes
    workers = getattr(getattr(work.family.parameters, "evaluator", None), "workers", 1)
    evaluation, retiming, references = _evaluation(work, writing, rates, devices * workers)
    return Seconds(sampling, evaluation, preparing, update, retiming, references)


def share(units: int, devices: int) -> float:
    """Part of the work that the busiest of ``devices`` has, where units are not split."""
    return math.ceil(units / devices) / units if units else 1.0


def _spread(parts: Sequence[Sequence[Group]], devices: int) -> float:
    """Of calls, or updates, that devices take apart prompt by prompt: the largest share that one of them has."""
    return max((share(len(part), devices) for part in parts), default=1.0)


@dataclass(frozen=True)
class _Judging:
    """Sessions, wrong and correct candidates of one scaffold; then those of a second evaluation of the correct ones."""

    sessions: float = 0.0
    wrong: float = 0.0
    correct: float = 0.0
    again: float = 0.0

    def __add__(self, other: _Judging) -> _Judging:
        return _Judging(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


def _evaluation(
    work: Work, writing: Writing | None, rates: Rates, side_by_side: int
) -> tuple[float | None, float | None, float | None]:
    """(first verdicts, second ones, references), each candidate on one device."""
    judging: dict[str, _Judging] = {}
    for (scaffold, _), found in _judged(work, writing).items():
        judging[scaffold] = judging.get(scaffold, _Judging()) + found
    if not judging:
        return 0.0, 0.0, 0.0
    distinct = sum(found.wrong + found.correct for found in judging.values())
    spread = share(math.ceil(distinct), side_by_side)
    first, again = [], []
    for scaffold, found in judging.items():
        own = rates.evaluation.get(scaffold, CandidateRates())
        first.append(own.seconds(found.sessions, found.wrong, found.correct))
        again.append(own.seconds(found.again, 0.0, found.correct) if work.retimed else 0.0)
    # A reference is a candidate of scaffold forward; where that has no rates, the run's own stand for it.
    own = rates.evaluation.get("forward") or rates.evaluation.get(next(iter(judging)), CandidateRates())
    references = own.seconds(work.references, 0.0, work.references)
    return _times(_sum(first), spread), _times(_sum(again), spread), references


def _judged(work: Work, writing: Writing | None) -> dict[Slot, _Judging]:
    """Per (scaffold, task). Runs with steps judge what is new after each, others everything at the end.

    Where so many new candidates are expected, one minus their exponential is the chance that there is any.
    """
    stepwise = work.family.kind in ("adaptation", "warm_start")
    parts = (
        [tuple(call) for call in work.calls] if stepwise else [tuple(group for call in work.calls for group in call)]
    )
    written: dict[Slot, int] = {}
    before: dict[Slot, float] = {}
    sessions: dict[Slot, float] = {}
    given: dict[Slot, int] = {(group.ask.scaffold, group.ask.task): len(group.given) for group in work.given}
    for number, part in enumerate(parts):
        for group in part:
            slot = group.ask.scaffold, group.ask.task
            written[slot] = written.get(slot, 0) + group.k
        asked: set[Slot] = {(group.ask.scaffold, group.ask.task) for group in part}
        asked |= set() if number else set(given)
        for slot in asked:
            count = written.get(slot, 0)
            now = float(count) if writing is None or not count else writing.distinct_candidates(*slot, count)
            new = max(0.0, now - before.get(slot, 0.0)) + (0 if number else given.get(slot, 0))
            sessions[slot] = sessions.get(slot, 0.0) + 1 - math.exp(-new)
            before[slot] = now
    found = {}
    for slot, distinct in before.items():
        correct = distinct if writing is None or not distinct else distinct * writing.correct(*slot)
        right = correct + given.get(slot, 0)
        found[slot] = _Judging(sessions[slot], distinct - correct, right, 1 - math.exp(-right))
    return found


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _candidates(work: Work, writing: Writing | None) -> tuple[float, float]:
    found = _judged(work, writing).values()
    return sum(each.wrong + each.correct for each in found), sum(each.correct for each in found)


def _mean(writing: Writing | None, ask: Ask, new: int) -> float:
    return new if writing is None else writing.mean(ask.scaffold, ask.task, new)


def _size(group: Group, writing: Writing | None) -> float:
    """Completions in an update's group."""
    if not group.kept:
        return group.k
    sampled = float(group.k)
    if writing is not None:
        ask = group.ask
        sampled = writing.distinct_candidates(ask.scaffold, ask.task, group.k) * writing.correct(ask.scaffold, ask.task)
    return min(group.most or math.inf, sampled + len(group.given))


def _texts(group: Group, writing: Writing | None, new: int) -> float:
    """Tokens of a group's different completions."""
    if group.kept:
        size = _size(group, writing)
        given = sum(group.given) / len(group.given) if group.given else _mean(writing, group.ask, new)
        return size * given
    if writing is None:
        return group.k * new
    return writing.distinct_tokens(group.ask.scaffold, group.ask.task, group.k)


def _teacher(work: Work, writing: Writing | None, rates: Rates | None) -> tuple[float, float]:
    """(teacher tokens per rollout, tokens that student and teacher compute while they score)."""
    parameters = work.family.parameters
    if not work.taught or not isinstance(parameters, AdaptationParameters):
        return 0.0, 0.0
    new = work.max_new_tokens
    shown = parameters.distillation
    tokens = passes = 0.0
    for group in (group for update in work.taught for group in update):
        mean, texts = _mean(writing, group.ask, new), _texts(group, writing, new)
        context, contexts = float(group.ask.taught), 1.0
        if shown.feedback or shown.solution:
            added = mean if shown.solution else 0.0  # about as long as what is shown: another's completion
            if writing is not None and rates is not None and rates.shown_tokens is not None and shown.solution:
                context, added = group.ask.tokens + rates.shown_tokens, 0.0
            context += added
            ask = group.ask
            contexts = group.k if writing is None else writing.distinct_outcomes(ask.scaffold, ask.task, group.k)
        tokens += group.k * (context + mean)
        same = context == group.ask.tokens  # shown nothing more, the teacher is the student and is not run
        passes += group.ask.tokens + texts + (0.0 if same else contexts * context + texts)
    return tokens, passes


def _sum(values: Sequence[float | None]) -> float | None:
    return None if any(value is None for value in values) else sum(value for value in values if value is not None)
