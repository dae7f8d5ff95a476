"""Transfer: adapted checkpoints on tasks that they were not adapted to (section 5.5)."""

from __future__ import annotations

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.selecting_words import points
from vegtts_core.book.transferring import CONDITIONS, Direction, shown_name
from vegtts_core.book.verdict_rules.adaptation_benefit import fast_per_task
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdicts import Finding, Outcome, because, by_sign, sizes
from vegtts_core.statistics import Effect, mean_effect


def transfer(found: Direction) -> Finding:
    """Adapted checkpoints less the base on tasks that they were not adapted to, per sample."""
    base = fast_per_task(found.samples("base"), found.protocol)
    effects = {name: _paired(fast_per_task(found.samples(name), found.protocol), base) for name in found.steps}
    if not effects:
        return Finding("the best step is the base", Outcome.UNDECIDED, "No adapted checkpoint was judged.", "", 0.0)
    paper = published.table("5.5-transfer")
    direction = found.name if found.name in paper.index else paper.index[0]
    size = float(paper.at[direction, "fast_1"]) - float(paper.at[direction, "base"])
    outcomes = {by_sign(effect, -1, size) for effect in effects.values()}
    outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.UNDECIDED
    power = min(known_power(effect.power(size)) for effect in effects.values())
    parts = [f"{CONDITIONS[name]} less base {points(effect.interval)}" for name, effect in effects.items()]
    why = because(outcome, "adaptation costs on other tasks", "no such loss on other tasks", power)
    n = sizes(found.judged.samples[found.judged.samples["seed"] == found.seed])
    least = min(effects.values(), key=lambda effect: known_power(effect.power(size)))
    return Finding(f"{shown_name(found.name)}: {'; '.join(parts)}", outcome, why, n, power, least, size)


def _paired(first: pd.Series, second: pd.Series) -> Effect:
    difference = (first - second).dropna()
    return mean_effect(difference.to_numpy(), difference.index.to_numpy())
