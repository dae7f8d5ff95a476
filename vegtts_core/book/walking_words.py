"""The sentences of chapter 3.1 that depend on what the walk found. It reads verdicts and decides nothing itself."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

from vegtts_core.book import published, walking
from vegtts_core.book.prose import number
from vegtts_core.book.walking import Walk, speedup_of
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.types import Decision, Stage

_SPEEDUP = "{:.2f}×"


def facts(walks: list[Walk]) -> dict[str, str]:
    """What the chapter's sentences mention of the first walk, by name."""
    walk, *others = walks
    sound = EvaluatorSettings().sound
    typo = walking.error_line(walk, walking.TYPO)
    return {
        "task": f"task {walk.task.id}, {walk.task.name}",
        "elements": number(walking.elements(walk), ",d"),
        "machine": machine(walk),
        "others": _others(others),
        "candidates": str(len(walk.candidates)),
        "ended": ended(walk),
        "difference": difference(walk),
        "host-reason": _reason(walk, walking.HOST),
        "typo-reason": _reason(walk, walking.TYPO),
        "typo-line": str(typo),
        "typo-unit-line": str(walking.unit_line(walk, walking.TYPO, typo)),
        "narrow-reason": _reason(walk, walking.NARROW),
        "error-factor": number(sound.error_factor, "g"),
        "minimum-effect": number(sound.minimum_effect, ".0%"),
        "half-width": number(sound.half_width, ".0%"),
        "reference": reference(walk),
        "reward-seconds": number(total_seconds(walk.entry(walking.HONEST)), ".1f"),
        "typo-seconds": number(total_seconds(walk.entry(walking.TYPO)), ".1f"),
    }


def machine(walk: Walk) -> str:
    """What a walk was made on."""
    return (
        f"one {walk.processor}" if "gpu" in walk.machine else f"{walk.machine['cores']} cores of {walk.machine['cpu']}"
    )


def _others(walks: list[Walk]) -> str:
    if not walks:
        return "No other device was walked on."
    return f"The same walk was made on {' and on '.join(machine(walk) for walk in walks)}."


def _reason(walk: Walk, name: str) -> str:
    return walk.entry(name)["sound"]["reason"]


def total_seconds(entry: dict[str, Any]) -> float:
    """What an evaluation took, all stages together."""
    return sum(entry["sound"]["seconds"].values())


def ended(walk: Walk) -> str:
    """How many candidates ended in which stage."""
    counts = Counter(entry["sound"]["stage"] for entry in walk.candidates)
    early = [f"{counts[stage]} ended at {stage}" for stage in Stage if stage != Stage.REWARD and counts[stage]]
    return f"{', '.join([*early, f'{counts[Stage.REWARD]} passed all five stages'])}"


def difference(walk: Walk) -> str:
    """What the published protocol rewards and the sound one refuses."""
    names = walking.only_published(walk)
    if not names:
        return "In this walk the published protocol rewards nothing that the sound one refuses."
    listed = " and ".join(f"“{name}” ({_reward(walk, name)})" for name in names)
    return f"The published protocol rewards what the sound one refuses: {listed}."


def _reward(walk: Walk, name: str) -> str:
    return number(walk.entry(name)["published"]["reward"], _SPEEDUP)


def reference(walk: Walk) -> str:
    """What both protocols say of the reference as its own candidate."""
    entry = walk.entry(walking.REFERENCE)
    sound, paper = entry["sound"], entry["published"]
    if not (sound["correct"] and paper["correct"]):
        return f"In this walk the reference written back came no further than {sound['stage']}: {sound['reason']}"
    theirs = f"{paper['decision']}, {number(paper['speedup'], _SPEEDUP)}, by the published rule"
    return f"The reference written back is {theirs}, and {sound['decision']}, {speedup_of(sound)}, by the sound one."


def reference_range(walk: Walk) -> tuple[float, float]:
    """The reference's median time (ms) beside one candidate and another: lowest and highest, sound protocol."""
    medians = [
        1e3 * statistics.median(theirs for theirs, _ in entry["sound"]["pairs"]) for entry in walking.rewarded(walk)
    ]
    return min(medians, default=float("nan")), max(medians, default=float("nan"))


def hacking_published() -> str:
    """The paper's claim that there is no reward without a right and fast kernel, in our words."""
    return next(claim.sentence for claim in published.claims() if claim.id == "no-reward-hacking")


def hacking_here(walk: Walk) -> str:
    """What the walk says of it."""
    kept = [e["name"] for e in walk.candidates if not e["sound"]["reward"] > 0 and not e["published"]["reward"] > 0]
    return f"{difference(walk)} Both refuse the other {len(kept)} that are wrong or do not run."


def hacking_verdict(walk: Walk) -> str:
    """What follows."""
    wrong = [name for name in walking.only_published(walk) if not walk.entry(name)["sound"]["correct"]]
    if wrong:
        return (
            "Execution alone does not do it. A reward is as trustworthy as the inputs on which the code was executed: "
            "where those are few and known, a wrong kernel is paid for its speed."
        )
    return "Nothing was paid for wrongly in this walk. Nor does one walk of our own show that nothing could be."


def clock_here(walk: Walk) -> str:
    """How far one clock reading can be trusted, from the reference's own calls."""
    low, high = reference_range(walk)
    paper = [theirs for theirs, _ in walk.entry(walking.REFERENCE)["published"]["pairs"]]
    spread = max(paper) / min(paper) - 1 if paper else float("nan")
    return (
        f"{len(paper)} calls of the reference on the same inputs differ by up to {number(spread, '.0%')}; its median "
        f"lies between {number(low, '.3g')} and {number(high, '.3g')} ms, depending on the candidate beside which it "
        f"was timed.\n\n{_itself(walk)}"
    )


def _itself(walk: Walk) -> str:
    entry = walk.entry(walking.REFERENCE)
    sound, paper = speedup_of(entry["sound"]), number(entry["published"]["speedup"], ".2f")
    return f"The reference against itself: {paper} under the published protocol, {sound} under the sound one."


def clock_verdict(walk: Walk) -> str:
    """Whether the interval of identical work holds 1."""
    sound = walk.entry(walking.REFERENCE)["sound"]
    low, high = sound["speedup_low"], sound["speedup_high"]
    said = "A measured speedup is a random number, and a protocol that reports no interval cannot say how random."
    if low is None or high is None:
        return said
    if low <= 1 <= high:
        return f"{said} For identical work the sound interval holds 1, as it should."
    verdict = "" if sound["decision"] == Decision.UNDECIDED else f" and the decision is {sound['decision']}"
    return (
        f"{said} Here even the sound interval misses 1{verdict}: it does not hold what differs from one pair of "
        "processes to the next, nor a machine that is busy with other things. Chapter 9 counts how often that happens."
    )


def dense_here(walk: Walk) -> str:
    """The rewards of the walk, and the most that the task allows."""
    values = [entry["sound"]["reward"] for entry in walking.rewarded(walk)]
    listed = ", ".join(number(value, ".2f") for value in sorted(values)) or "none"
    room = number(walking.headroom(walk), "{:.1f}×")
    return (
        f"Rewards above 0: {listed}; 0 for the other {len(walk.candidates) - len(values)}. The headroom of this task "
        f"on this device is {room}."
    )


def takeaway(walk: Walk) -> str:
    """The chapter in a few sentences."""
    paid, wrongly = len(walking.rewarded(walk)), len(walking.only_published(walk))
    more = f" The published protocol pays {wrongly} more, which the sound one refuses." if wrongly else ""
    return (
        "The candidate never holds the stopwatch, the answer key or the pen: each is in a process that no candidate's "
        f"code enters. Of {len(walk.candidates)} candidates the sound protocol pays {paid}.{more} A verdict is worth "
        "what its inputs and its clock are worth; the sandbox only makes sure that nobody else wrote it."
    )
