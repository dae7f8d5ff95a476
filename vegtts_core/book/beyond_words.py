"""The sentences of chapter 10 that depend on the data.

Pure functions of the tables of ``beyond_*``. A direction is only named where bootstrap and t-interval over tasks both
exclude equality; many intervals make some that do by chance, so their number is said beside what chance alone gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.book import published
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.beyond_ranking import ratio
from vegtts_core.book.prose import listed, number
from vegtts_core.evaluator.settings import BetweenEvaluations, Reach
from vegtts_core.ranking import Order
from vegtts_core.runs.repeats import agreement
from vegtts_core.statistics import Effect, Interval

CHANCE = 0.05
"""Share of 95% intervals that exclude an equality that holds."""


def of_chance(found: int, tested: int) -> str:
    """``2 of 15 intervals exclude equality, where 0.8 would by chance``."""
    if not tested:
        return "no interval could be formed"
    verb, expected = "excludes" if found == 1 else "exclude", number(CHANCE * tested, ".1f")
    return f"{found} of {plural(tested, 'interval')} {verb} equality, where {expected} would by chance"


def by_chance(found: int, tested: int) -> bool:
    """Whether so many of ``tested`` intervals, or more, would exclude an equality that holds in over 5% of cases.

    As if they were independent. They are not, so this lets through too much rather than too little.
    """
    return found == 0 or float(stats.binom.sf(found - 1, tested, CHANCE)) > CHANCE


LUCK = "That is no more than chance gives, so none of it counts as found."


def _policies(count: int) -> str:
    return "1 policy" if count == 1 else f"{count} policies"


def tested_of(effects: Iterable[Effect]) -> list[Effect]:
    """Those with bounds on both sides, of data in which anything moved."""
    return [e for e in effects if not isnan(e.low) and not isnan(e.high) and e.high - e.low > 1e-12]


def paper(path: str, fmt: str) -> str:
    """A published number."""
    return number(float(published.value(path)), fmt)


# -- ranking -----------------------------------------------------------------------------------------------------


def ranking_text(effects: pd.DataFrame, order: Order = Order.SURPRISAL) -> str:
    """What one order does to the evaluations until the first fast candidate, per policy."""
    parts = []
    for row in effects[effects["order"] == str(order)].to_dict("records"):
        effect = row["first_fast"]
        if effect.n:
            parts.append(f"{number(ratio(effect), '.2f')} ({row['policy']}, {plural(effect.n, 'task')})")
    if not parts:
        return "No task has a fast candidate, so no order can find one sooner."
    return f"Evaluations to the first fast candidate, {order} first over random order: {'; '.join(parts)}."


def ranking_verdict(effects: pd.DataFrame) -> str:
    """Which orders save evaluations and which cost some, by either count of them, and how many chance would name."""
    tested, saves, costs = 0, [], []
    for row in effects.to_dict("records"):
        for what, title in (("first_fast", "to the first fast"), ("fastest", "to the fastest")):
            for effect in tested_of([row[what]]):
                tested += 1
                place = f"{row['order']} ({title}, {row['policy']})"
                if effect.sign:
                    (saves if effect.sign < 0 else costs).append(place)
    text = f"Of evaluations needed, {of_chance(len(saves) + len(costs), tested)}."
    for title, found in (("Fewer", saves), ("More", costs)):
        if found:
            text += f" {title} than random: {listed(found)}."
    if saves + costs and by_chance(len(saves) + len(costs), tested):
        text += f" {LUCK}"
    known = tested_of(effects.loc[effects["order"] == str(Order.SURPRISAL), "first_fast"])
    ours = [e for e in known if e.sign]
    if by_chance(len(ours), len(known)):
        return f"{text} That surprisal first finds a fast candidate sooner is not shown for any policy here."
    signs = {e.sign for e in ours}
    word = "sooner or later" if len(signs) > 1 else "sooner" if signs == {-1} else "later"
    return f"{text} Surprisal first finds a fast candidate {word} than random for {_policies(len(ours))}."


# -- timing again ------------------------------------------------------------------------------------------------


def retiming_verdict(effects: pd.DataFrame) -> str:
    """Whether spending the end of a budget on the leaders raises what is realised."""
    tested = tested_of(effects["gain"])
    if not tested:
        return "No policy here has enough tasks with more candidates than the budget: not decided."
    up, down = (sum(e.sign == way for e in tested) for way in (1, -1))
    text = f"Over all budgets, {of_chance(up + down, len(tested))} ({up} for re-timing, {down} against)."
    if by_chance(up + down, len(tested)):
        return f"{text} Whether the last evaluations are better spent on the leaders is not decided."
    if up and down:
        return f"{text} Neither way of spending is better throughout."
    return f"{text} {'Timing the leaders again' if up else 'Evaluating more candidates'} is the better use."


def agreement_text(table: pd.DataFrame) -> str:
    """How far two evaluations of one candidate are apart."""
    if table.empty:
        return "No candidate here was evaluated twice."
    share, noise = (float(np.average(table[name], weights=table["candidates"])) for name in ("outside", "by_noise"))
    worst = table.iloc[int(table["factor"].to_numpy().argmax())]
    return (
        f"Of {int(table['candidates'].sum())} correct candidates that were evaluated twice, {number(share, '.0%')} "
        f"have two 95% intervals that exclude each other ({number(noise, '.0%')} if they held the noise within one "
        "evaluation alone); the largest disagreement is "
        f"{number(worst['first'], '{:.2f}×')} against {number(worst['second'], '{:.2f}×')} (task {worst['task']})."
    )


EXPECTED_APART = 0.01
"""Share of pairs of equal 95% intervals that exclude each other where only the error in them is at work (0.6%)."""


def held_out_text(found: pd.DataFrame) -> str:
    """Whether the reach of the intervals holds for evaluations that it was not found from; empty if there are none.

    ``found``: ``beyond_retiming.repeated``.
    """
    later = found[found["later"] & found["device"].eq("cuda") & ~found["scaffold"].isin(["forward", "module"])]
    if later.empty:
        return ""
    told = agreement(later, BetweenEvaluations().events)
    alone = agreement(later, Reach(share=0.0))
    return (
        f"How wide they must be was found from a part of the runs. Of {len(later):,} pairs of evaluations of one "
        f"kernel of which at least one came later, {number(told['disjoint'], '.1%')} exclude each other "
        f"({number(alone['disjoint'], '.1%')} by the noise alone) and {number(told['contradicting'], '.1%')} "
        "contradict each other's decision."
    )


def agreement_verdict(table: pd.DataFrame) -> str:
    """What that says of a clock's interval."""
    if table.empty:
        return ""
    share = float(np.average(table["outside"], weights=table["candidates"]))
    if share <= 5 * EXPECTED_APART:
        return (
            "Two evaluations agree about as well as their intervals say. These hold what differs between evaluations "
            "(new memory, new processes, another card) beside the noise within one."
        )
    return (
        "If an interval held all of the error, under 1% of pairs would exclude each other. So these hold the noise "
        "within one evaluation, but not all of what differs between two (fresh inputs, new processes), which is what a "
        "search falls for."
    )


# -- choosing ----------------------------------------------------------------------------------------------------


def choosing_text(effects: pd.DataFrame, rules: Sequence[str] = ("surprisal", "confidence", "majority")) -> str:
    """Ratios of some rules to random of their cost."""
    table = effects.set_index("rule")
    parts = [f"{rule} {number(ratio(table.at[rule, 'ratio']), '.2f')}" for rule in rules if rule in table.index]
    n = int(table["tasks"].max())
    return f"Speedup over random of the same cost: {'; '.join(parts)} ({plural(n, 'task')}, all policies together)."


def choosing_verdict(effects: pd.DataFrame) -> str:
    """Which rules beat random of the same cost, by speedup or by success."""
    rows = effects[~effects["rule"].isin(["oracle"]) & effects["ratio"].notna()]
    better, worse, tested = [], [], 0
    for row in rows.to_dict("records"):
        for key, title in (("ratio", "speedup"), ("points", "fast_1")):
            for effect in tested_of([row[key]]):
                tested += 1
                if effect.sign:
                    (better if effect.sign > 0 else worse).append(f"{row['rule']} ({title})")
    text = f"{of_chance(len(better) + len(worse), tested)}."
    text = text[0].upper() + text[1:]
    for title, found in (("Better than random", better), ("Worse", worse)):
        if found:
            text += f" {title}: {listed(found)}."
    if better + worse and by_chance(len(better) + len(worse), tested):
        text += f" {LUCK}"
    elif not better:
        text += " No rule that costs no more than random is shown to beat it."
    return text


# -- when --------------------------------------------------------------------------------------------------------


def when_text(counts: pd.Series, correlations: pd.DataFrame) -> str:
    """How many groups there are, how many have a choice, and what goes with the gain."""
    first = (
        f"{counts['groups']} groups of {plural(int(counts['runs']), 'run')} on {plural(int(counts['tasks']), 'task')}: "
        f"nothing correct in {counts['none']}, one distinct candidate in {counts['one']}, a choice in "
        f"{counts['choice']}."
    )
    known = correlations[correlations["known"] == "before"]
    said = [
        f"{row['quantity']} {number(row['rho'], '.2f')}"
        for row in known.to_dict("records")
        if not isnan(row["rho"].estimate)
    ]
    return f"{first} ρ with the gain, of what is known before: {'; '.join(said)}." if said else first


def when_verdict(kinds: pd.DataFrame) -> str:
    """For whom surprisal is a good rule, for whom not, and of how many kinds nothing can be said."""
    if kinds.empty:
        return "No group here has a choice."
    good = [row["kind"] for row in kinds.to_dict("records") if row["gain"].sign > 0]
    bad = [row["kind"] for row in kinds.to_dict("records") if row["gain"].sign < 0]
    tested = len(tested_of(kinds["gain"]))
    text = f"{of_chance(len(good) + len(bad), tested)}."
    text = text[0].upper() + text[1:]
    for found, word in ((good, "is a better rule than random choice"), (bad, "is a worse rule than random choice")):
        if found:
            text += f" Surprisal {word} in these: {listed(found)}."
    if good + bad and by_chance(len(good) + len(bad), tested):
        text += f" {LUCK}"
    if not good:
        text += " For no kind of group that can be told beforehand is it shown to be a good rule."
    if len(good) + len(bad) < tested:
        text += f" For {tested - len(good) - len(bad)} kinds the interval allows both."
    return text


def mechanics(correlations: pd.DataFrame) -> str:
    """What the correlation within a group does to the gain: its mechanics."""
    rows = correlations.set_index("quantity")
    name = next((n for n in rows.index if str(n).startswith("ρ(")), None)
    if name is None or isnan(rows.at[name, "rho"].estimate):  # type: ignore[union-attr]
        return "Too few groups have a correlation of their own."
    found: Interval = rows.at[name, "rho"]  # type: ignore[assignment]
    sure = not isnan(found.low) and found.low > 0
    word = "goes with" if sure else "is not shown to go with"
    return (
        f"The gain {word} the group's own correlation of surprisal and speed (ρ = {number(found, '.2f')}), "
        "which is known only once everything has been timed."
    )
