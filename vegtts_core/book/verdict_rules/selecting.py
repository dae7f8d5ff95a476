"""Selection: which rule picks a fast sample more often than another, by how much and how steadily (section 5.2)."""

from __future__ import annotations

from scipy import stats

from vegtts_core import selection
from vegtts_core.book import published
from vegtts_core.book.prose import interval, number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdict_rules.evidence import NO_CONTEST, NOTHING_FAST, Evidence, Rule
from vegtts_core.book.verdicts import MARGIN, Finding, Outcome, because, by_sign
from vegtts_core.selection import CONFIDENCE_GUIDED, RANDOM_CORRECT, SURPRISAL_GUIDED, Strategy
from vegtts_core.statistics import Effect


def _tasks(effect: Effect) -> str:
    return f" in the {effect.n} task{'s' * (effect.n != 1)} where rules can differ"


def _beats(first: Strategy, second: Strategy) -> Rule:
    def rule(evidence: Evidence) -> Finding:
        effect = evidence.difference(first, second)
        if not effect.n:
            return Finding("rules cannot differ", Outcome.UNDECIDED, NO_CONTEST, power=0.0, empty=True)
        size = published.number(f"5.3/{first.name}/fast_1") - published.number(f"5.3/{second.name}/fast_1")
        power = known_power(effect.power(size))
        outcome = by_sign(effect, 1, size)
        no = f"{first.name} is {'the worse' if effect.sign < 0 else 'not the better'} one"
        why = because(outcome, f"{first.name} is the better one", no, power)
        text = f"{points(effect.widest)}{_tasks(effect)}"
        return Finding(text, outcome, why, power=power, effect=effect, size=size, claimed=1)

    return rule


def _oracle(evidence: Evidence) -> Finding:
    effect = evidence.difference(selection.BEST_CORRECT, selection.SURPRISAL_GUIDED_TOP3)
    if not effect.n:
        return Finding("rules cannot differ", Outcome.UNDECIDED, NO_CONTEST, power=0.0, empty=True)
    outcome = Outcome.REPLICATED if effect.within(MARGIN) else Outcome.UNDECIDED
    if outcome is Outcome.UNDECIDED and effect.sign > 0:
        outcome = Outcome.NOT_REPLICATED
    power = known_power(effect.equality(MARGIN))
    limit = number(100 * MARGIN, ".0f")
    yes, no = f"the two differ by less than {limit} points", "the oracle finds fast samples that the top 3 miss"
    text = f"oracle less top 3: {points(effect.widest)}{_tasks(effect)}"
    return Finding(text, outcome, because(outcome, yes, no, power), power=power)


def _steady(evidence: Evidence) -> Finding:
    by_seed = evidence.outcomes.groupby(["strategy", "seed"])["success"].mean()
    seeds = evidence.outcomes["seed"].nunique()
    if evidence.nothing_fast or seeds < 2:
        why = NOTHING_FAST if evidence.nothing_fast else "One seed has no spread."
        return Finding("no spread to compare", Outcome.UNDECIDED, why, empty=evidence.nothing_fast)
    ours, theirs = (float(by_seed[s.name].std(ddof=1)) for s in (SURPRISAL_GUIDED, CONFIDENCE_GUIDED))
    text = f"std {number(ours, '.1%')} and {number(theirs, '.1%')}"
    if min(ours, theirs) < 1e-9:
        return Finding(text, Outcome.UNDECIDED, "A rule that does alike with every seed here may not with others.")
    bound = float(stats.f.ppf(0.975, seeds - 1, seeds - 1)) ** 0.5
    ratio = ours / theirs
    outcome = Outcome.REPLICATED if ratio * bound < 1 else Outcome.UNDECIDED
    if ratio / bound > 1:
        outcome = Outcome.NOT_REPLICATED
    why = f"{seeds} seeds know a ratio of two such deviations to a factor of {bound:.1f}."
    return Finding(text, outcome, why)


def _effect(evidence: Evidence) -> Finding:
    compared = selection.compare_strategies(evidence.outcomes)
    h, sign = compared.effect, compared.sign_one_sided
    p = f", sign test p = {number(sign.p_value, '.3f')}" if sign.n else ", no pair differs"
    text = f"h = {interval(h.estimate, h.low, h.high, '+.2f')}{p}"
    effect = evidence.difference(SURPRISAL_GUIDED, CONFIDENCE_GUIDED)
    if not effect.n:
        return Finding(text, Outcome.UNDECIDED, NO_CONTEST, power=0.0, empty=True)
    why = "Both take the seeds of a task, and copies, as independent; what decides is the difference over tasks."
    return Finding(text, by_sign(effect, 1), why, effect=effect, claimed=1)


RULES: dict[str, Rule] = {
    "surprisal-beats-confidence": _beats(SURPRISAL_GUIDED, CONFIDENCE_GUIDED),
    "top3-is-oracle": _oracle,
    "surprisal-beats-random": _beats(SURPRISAL_GUIDED, RANDOM_CORRECT),
    "confidence-below-random": _beats(RANDOM_CORRECT, CONFIDENCE_GUIDED),
    "surprisal-is-steady": _steady,
    "effect-size": _effect,
}
