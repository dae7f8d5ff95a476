"""What the timed calls of the sound protocol say: a log-ratio with its interval, and a decision; knows no processes."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.settings import Reach, SoundSettings
from vegtts_core.evaluator.timing_statistics import Interval, charged, decide, estimate, widened
from vegtts_core.evaluator.types import DeviceState, Measurement


def summary(reference: list[Call], candidate: list[Call], charge: bool) -> tuple[Interval, tuple[float, ...]]:
    """The interval of the log-ratio, and the candidate's seconds with what is charged to them.

    Scaffold ``forward`` is charged nothing: what its allow-list admits has ended when the clock stops, and a charge
    that can only be positive made identical code look one or two per cent slower than itself.
    """
    seconds = tuple(call.seconds for call in candidate)
    if charge:
        writing = [call.writing_seconds for call in candidate]
        seconds = charged(seconds, writing, [call.writing_seconds for call in reference])
    ratios = [math.log(theirs.seconds / ours) for theirs, ours in zip(reference, seconds, strict=True)]
    return estimate(ratios), seconds


def between_evaluations(reference: list[Call], seconds: tuple[float, ...], reach: Reach) -> float:
    """Half-width of what differs between evaluations of such calls: by the shorter one's median. 0 without calls."""
    return reach.of(min(map(statistics.median, ([call.seconds for call in reference], seconds)))) if seconds else 0.0


def enough(interval: Interval, between: float, half_width: float) -> bool:
    """Whether the noise is so small that timing may stop: as asked, or half of what differs between evaluations.

    That part is the same in all pairs. Beside it, noise of half its size makes the interval an eighth wider.
    """
    return interval.half_width <= max(half_width, between / 2)


def measurement_of(
    interval: Interval,
    candidate_seconds: tuple[float, ...],
    reference: list[Call],
    discarded: int,
    states: tuple[DeviceState, ...],
    settings: SoundSettings,
    reach: Reach,
) -> Measurement:
    """The measurement of a right candidate from one pair of processes; the first two are what `summary` gave.

    Its interval holds the noise and what differs between evaluations, whatever the decision.
    """
    between = between_evaluations(reference, candidate_seconds, reach)
    interval = widened(interval, between)
    return Measurement(
        correct=True,
        speedup=math.exp(interval.center),
        speedup_low=math.exp(interval.low),
        speedup_high=math.exp(interval.high),
        decision=decide(interval, settings.minimum_effect),
        reward=math.exp(interval.center),
        reference_seconds=tuple(call.seconds for call in reference),
        candidate_seconds=candidate_seconds,
        discarded_pairs=discarded,
        device_states=states,
        between_evaluations=between,
    )


def spanning(before: Measurement, after: Measurement, minimum_effect: float) -> Measurement:
    """Two measurements of one candidate in different processes as one; its interval spans both."""
    theirs, ours = (
        before.reference_seconds + after.reference_seconds,
        before.candidate_seconds + after.candidate_seconds,
    )
    center = estimate([math.log(r / c) for r, c in zip(theirs, ours, strict=True)]).center
    low, high = min(before.speedup_low, after.speedup_low), max(before.speedup_high, after.speedup_high)
    interval = Interval(center, math.log(low), math.log(high))
    return replace(
        after,
        speedup=math.exp(center),
        speedup_low=low,
        speedup_high=high,
        decision=decide(interval, minimum_effect),
        reward=math.exp(center),
        reference_seconds=theirs,
        candidate_seconds=ours,
        discarded_pairs=before.discarded_pairs + after.discarded_pairs,
        device_states=before.device_states + after.device_states,
        process_pairs=before.process_pairs + after.process_pairs,
        between_evaluations=max(before.between_evaluations, after.between_evaluations),
    )


def worked_on(candidate: list[Call], reference: list[Call]) -> bool:
    """Whether writing its results down took so long that there was more to it than writing.

    That is, in the median, longer than twice the reference's, a fifth of its own call and a millisecond together: what
    less takes longer is charged to its calls (`charged`), and may have honest reasons.
    """
    writing, usual = (statistics.median(call.writing_seconds for call in calls) for calls in (candidate, reference))
    return writing > 2 * usual + 0.2 * statistics.median(call.seconds for call in candidate) + 1e-3
