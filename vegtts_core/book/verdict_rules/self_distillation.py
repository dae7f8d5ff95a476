"""Self-distillation (appendix E.1): what feedback adds, and what it costs."""

from __future__ import annotations

from vegtts_core.book import distilling_results, published
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdicts import MARGIN, Finding, Outcome, because, sizes
from vegtts_core.statistics import mean_effect

_TWICE = 0.2
"""How far from 2 a ratio may be that is called twice as many."""


def feedback(families: distilling_results.Families) -> Finding:
    """Feedback less prompt-only at adapted steps, less what the two differ by in the rollouts that they share."""
    protocol = distilling_results.protocols(families)[-1]
    table = distilling_results.paired(families, protocol)
    later = table[table["step"] > 0].groupby(["seed", "task"])["fast"].mean()
    net = (later - table[table["step"] == 0].set_index(["seed", "task"])["fast"]).dropna()
    effect = mean_effect(net.to_numpy(), net.index.get_level_values("task").to_numpy())
    size = published.number("E.1/sdpo-feedback/mean") - published.number("E.1/sdpo-prompt-only/mean")
    outcome = Outcome.REPLICATED if effect.below(MARGIN) else Outcome.UNDECIDED
    if effect.sign > 0:
        outcome = Outcome.NOT_REPLICATED
    power = known_power(effect.power(MARGIN - size))
    yes, no = f"a lift of {100 * MARGIN:.0f} points is excluded", "feedback lifts"
    n = sizes(distilling_results.together(families[distilling_results.FEEDBACK]))
    text = f"feedback less prompt-only: {points(effect.interval)}"
    return Finding(text, outcome, because(outcome, yes, no, power), n, power, effect, MARGIN - size)


def doubled(families: distilling_results.Families) -> Finding:
    """Teacher tokens beside student tokens of the feedback runs."""
    compute = [run.compute for run in families[distilling_results.FEEDBACK].values()]
    student, teacher = (sum(each[name] for each in compute) for name in ("student_tokens", "teacher_tokens"))
    ratio = (student + teacher) / student
    outcome = Outcome.REPLICATED if abs(ratio - 2) <= _TWICE else Outcome.NOT_REPLICATED
    text = f"{number(ratio, '.2f')} times the student's tokens"
    return Finding(
        text, outcome, "A count, not an estimate; how much a teacher reads depends on the feedback's length."
    )
