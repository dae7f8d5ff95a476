"""How a policy has written before: lengths of completions, and how many of them differ. From recorded rollouts alone.

A plan needs the expected length of a completion, the longest of a batch (which decides how many steps decoding takes),
the tokens of a group's different completions (which an update computes once) and the distinct candidates among a
task's rollouts (which are evaluated once). Up to the number recorded, different ones are counted by rarefaction, which
is unbiased and exact at that number; beyond it, growth goes on as the power that the recorded half and whole give.
It knows counts and lengths; it knows no policies, prompts or seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

Slot = tuple[str, str]
"""(scaffold, task key)"""


@dataclass(frozen=True)
class Sampled:
    """Rollouts of one prompt: of so many, each different one came ``counts`` times and weighs ``weights``."""

    rollouts: int
    counts: tuple[int, ...]
    weights: tuple[float, ...]

    def distinct(self, n: float) -> float:
        """Expected weight of the different ones among ``n`` rollouts."""
        if not self.counts or n <= 0:
            return 0.0
        if n <= self.rollouts:
            return self._rarefied(n)
        whole = self._rarefied(self.rollouts)
        half = self._rarefied(self.rollouts / 2)
        power = math.log2(whole / half) if self.rollouts > 1 and half > 0 else 1.0
        return whole * (n / self.rollouts) ** min(1.0, max(0.0, power))

    def _rarefied(self, n: float) -> float:
        """Sum of w (1 - C(N - c, n) / C(N, n)): drawn without replacement."""
        counts, weights = np.array(self.counts, float), np.array(self.weights, float)
        total = float(self.rollouts)
        left = total - counts
        missing = np.zeros(len(counts))
        some = left >= n
        missing[some] = np.exp(
            gammaln(left[some] + 1) - gammaln(left[some] - n + 1) - gammaln(total + 1) + gammaln(total - n + 1)
        )
        return float(np.sum(weights * (1 - missing)))


@dataclass(frozen=True)
class SlotWriting:
    """What was written for one task in one scaffold. ``lengths``: how often each length came.

    ``texts``: different completions per group, weighed by tokens; ``outcomes``: different candidates and refusals per
    group, which is how many contexts a teacher with feedback has; ``candidates``: different ones per run. ``correct``:
    share of the distinct candidates that were correct.
    """

    lengths: Mapping[int, int]
    texts: tuple[Sampled, ...]
    outcomes: tuple[Sampled, ...]
    candidates: tuple[Sampled, ...]
    correct: float

    @property
    def mean(self) -> float:
        """Tokens of a completion."""
        return sum(length * count for length, count in self.lengths.items()) / sum(self.lengths.values())


@dataclass(frozen=True)
class Writing:
    """All that is known of how one policy writes at one temperature; ``source`` names the runs."""

    source: str
    policy: str
    adapter: str | None
    temperature: float
    max_new_tokens: int
    slots: Mapping[Slot, tuple[SlotWriting, ...]]

    def of(self, scaffold: str, task: str) -> tuple[SlotWriting, ...]:
        """What is known of the task in the scaffold, else of all tasks in the scaffold; empty if it never wrote one."""
        own = self.slots.get((scaffold, task))
        if own:
            return own
        return tuple(each for (name, _), found in self.slots.items() if name == scaffold for each in found)

    def mean(self, scaffold: str, task: str, bound: int) -> float:
        """Expected tokens of a completion."""
        found = self.of(scaffold, task)
        return min(bound, _average([each.mean for each in found]))

    def longest(self, rows: Sequence[tuple[str, str, int]], bound: int) -> float:
        """Expected tokens of the longest of rows (scaffold, task, how many), at most ``bound``."""
        beyond = np.zeros(bound)  # log of the probability that no row is longer than t tokens, t = 0 .. bound - 1
        for scaffold, task, count in rows:
            total: Counter[int] = Counter()
            for each in self.of(scaffold, task):
                total.update(each.lengths)
            share = np.zeros(bound + 1)
            for length, times in total.items():
                share[min(bound, length)] += times
            below = np.cumsum(share)[:bound] / share.sum()
            with np.errstate(divide="ignore"):
                beyond += count * np.log(np.minimum(below, 1.0))
        return float(np.sum(1 - np.exp(beyond)))

    def distinct_tokens(self, scaffold: str, task: str, k: int) -> float:
        """Expected tokens of the different completions among a group's ``k``."""
        return _average([text.distinct(k) for each in self.of(scaffold, task) for text in each.texts])

    def distinct_outcomes(self, scaffold: str, task: str, k: int) -> float:
        """Expected different candidates and refusals among a group's ``k``."""
        return min(k, _average([some.distinct(k) for each in self.of(scaffold, task) for some in each.outcomes]))

    def distinct_candidates(self, scaffold: str, task: str, n: float) -> float:
        """Expected distinct candidates among a task's ``n`` rollouts of one run; refused completions are none."""
        found = [some.distinct(n) for each in self.of(scaffold, task) for some in each.candidates]
        return min(n, _average(found))

    def correct(self, scaffold: str, task: str) -> float:
        """Expected share of distinct candidates that are correct."""
        return _average([each.correct for each in self.of(scaffold, task)])

    def knows(self, scaffolds: Iterable[str]) -> bool:
        """Whether it wrote in all of these scaffolds."""
        return set(scaffolds) <= {name for name, _ in self.slots}


def writing_of(
    rows: Sequence[Mapping[str, Any]], source: str, policy: str, adapter: str | None, given: Mapping[str, Any]
) -> Writing | None:
    """From rows of a samples table (the sampled ones); ``given``: the run's parameters. None if nothing was sampled."""
    by_slot: dict[Slot, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["logprobs"] is not None and len(row["logprobs"]):
            by_slot.setdefault((row["scaffold"], row["task"]), []).append(row)
    if not by_slot:
        return None
    correct = f"{given['protocol']}_correct"
    slots = {slot: (_slot_writing(own, correct),) for slot, own in by_slot.items()}
    return Writing(source, policy, adapter, float(given["temperature"]), int(given["max_new_tokens"]), slots)


def _slot_writing(rows: Sequence[Mapping[str, Any]], correct: str) -> SlotWriting:
    # Best-of-N judges all seeds of a task together, an adaptation all of its steps: candidates are those of the run.
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    verdicts: dict[str, Any] = {}
    for row in rows:
        groups.setdefault((row["seed"], row["step"]), []).append(row)
        if row["fingerprint"]:
            verdicts.setdefault(row["fingerprint"], row[correct])
    counts = Counter(row["fingerprint"] for row in rows if row["fingerprint"])
    known = [bool(verdict) for verdict in verdicts.values() if verdict is not None]
    return SlotWriting(
        lengths=Counter(int(row["tokens"]) for row in rows),
        texts=tuple(_different([tuple(row["token_ids"]) for row in own], len) for own in groups.values()),
        outcomes=tuple(_different([_outcome(row) for row in own], lambda outcome: 1.0) for own in groups.values()),
        candidates=(Sampled(len(rows), tuple(counts.values()), (1.0,) * len(counts)),),
        correct=_average(known),
    )


def _different(values: Sequence[Any], weight: Callable[[Any], float]) -> Sampled:
    found = Counter(values)
    return Sampled(len(values), tuple(found.values()), tuple(float(weight(value)) for value in found))


def _outcome(row: Mapping[str, Any]) -> Any:
    """What feedback on a rollout depends on."""
    return row["fingerprint"] or row.get("reason") or tuple(row["token_ids"])


def pooled(writings: Sequence[Writing]) -> Writing:
    """Several runs' as one; policy, adapter and temperature are the first's."""
    slots: dict[Slot, tuple[SlotWriting, ...]] = {}
    for writing in writings:
        for slot, found in writing.slots.items():
            slots[slot] = slots.get(slot, ()) + found
    first = writings[0]
    return Writing(
        ", ".join(writing.source for writing in writings),
        first.policy,
        first.adapter,
        first.temperature,
        max(writing.max_new_tokens for writing in writings),
        slots,
    )


def best_match(
    writings: Sequence[Writing], policy: str, adapter: str | None, temperature: float, scaffolds: Iterable[str]
) -> tuple[Writing | None, str]:
    """What is closest to a policy at a temperature, and a sentence on how it differs (empty if it does not).

    Only runs in the same scaffolds are asked; a policy counts for more than its adapter, that for more than the
    temperature. All that are equally close are pooled.
    """
    fitting = [writing for writing in writings if writing.knows(scaffolds)]
    if not fitting:
        return None, ""

    def closeness(writing: Writing) -> int:
        same = (writing.policy == policy, writing.adapter == adapter, math.isclose(writing.temperature, temperature))
        return 4 * same[0] + 2 * same[1] + same[2]

    most = max(closeness(writing) for writing in fitting)
    found = pooled([writing for writing in fitting if closeness(writing) == most])
    if most == 7:
        return found, ""
    wrote = f"{found.policy}{f' with adapter {found.adapter}' if found.adapter else ''}"
    return found, (
        f"How long completions are and how many differ is taken from {found.source} ({wrote} at temperature "
        f"{found.temperature:g}): this policy's own may be others."
    )


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
