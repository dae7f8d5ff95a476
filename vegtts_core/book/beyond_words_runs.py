"""The sentences of chapter 10 on runs that move weights and on policies; rules as in ``beyond_words``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
import pandas as pd

from vegtts_core.book.adapting_words import plural
from vegtts_core.book.beyond_ranking import points
from vegtts_core.book.beyond_variants import MEASURES, Pair, equal_starts, signal
from vegtts_core.book.beyond_words import LUCK, by_chance, of_chance, tested_of
from vegtts_core.book.prose import listed, number
from vegtts_core.book.selecting_words import signed
from vegtts_core.ranking import Order

# -- variants ----------------------------------------------------------------------------------------------------


def recorded(pairs: Sequence[Pair]) -> str:
    """Which variants there are, and of which the control is missing."""
    if not pairs:
        return "No variant of the update is recorded yet: this section has no data to show."
    names = listed([f"`{pair.name}` ({pair.what})" for pair in pairs])
    text = f"Recorded: {names}."
    lone = [f"`{pair.name}`" for pair in pairs if pair.control is None]
    if lone:
        text += f" Without a control on the same machine and seed, and so not compared: {listed(lone)}."
    starts = [(pair, *equal_starts(pair)) for pair in pairs if pair.control is not None]
    unlike = [f"`{pair.name}` ({same} of {both})" for pair, same, both in starts if same != both]
    if starts:
        text += (
            f" Step 0 does not hold the same completions as its control's: {listed(unlike)}."
            if unlike
            else " At step 0 each wrote exactly what its control wrote, so differences there are the clock's."
        )
    return text


ONLY_NOISE = "Of the updates that section 6.7 names none is recorded here, only the noise control below."


def variants_text(differences: pd.DataFrame) -> str:
    """The difference of each variant, the noise control apart, at the last common step."""
    rows = differences[~differences["shuffled"].astype(bool)]
    if rows.empty:
        return "Nothing to compare." if differences.empty else ONLY_NOISE
    parts = []
    for name, part in rows.groupby("pair", sort=False):
        row = part.iloc[-1]
        correct, fast = (number(points(row[key]), lambda v: signed(v, "+.0f")) for key in ("correct", "fast"))
        parts.append(f"{name} at step {row['step']}: correct {correct} points, fast_1 {fast} points")
    return f"Variant minus control, {'; '.join(parts)}."


def variants_verdict(differences: pd.DataFrame) -> str:
    """Which variants, the noise control apart, differ from their control after the start."""
    rows = differences[(differences["step"] > 0) & ~differences["shuffled"].astype(bool)]
    if rows.empty:
        return "Not run: no such variant has a control here."
    tested, found = 0, {}
    for row in rows.to_dict("records"):
        for key, title in MEASURES.items():
            for effect in tested_of([row[key]]):
                tested += 1
                if effect.sign:
                    place = f"{row['pair']}, {title} {'above' if effect.sign > 0 else 'below'} its control"
                    found.setdefault(place, []).append(str(row["step"]))
    count = sum(map(len, found.values()))
    text = f"{of_chance(count, tested)}"
    text = f"{text[0].upper()}{text[1:]}, steps of one run not being independent."
    if not found:
        return f"{text} No variant is shown to differ."
    parts = [f"{place} at step{'s' * (len(steps) > 1)} {listed(steps)}" for place, steps in found.items()]
    text = f"{text} {'; '.join(parts)}."
    return f"{text} {LUCK}" if by_chance(count, tested) else text


def learning_text(learning: pd.DataFrame, pairs: Sequence[Pair]) -> str:
    """Changes with real and with shuffled rewards, and whether shuffling left anything in the rewards."""
    if learning.empty:
        return "No noise control is recorded."
    parts = []
    for row in learning[learning["measure"] == "correct"].to_dict("records"):
        real, noise, gap = (number(points(row[k]), lambda v: signed(v, "+.0f")) for k in ("real", "shuffled", "gap"))
        parts.append(
            f"{row['pair'].split(':')[0]} ({plural(row['seeds'], 'seed')}), correct rollouts to step {row['step']}: "
            f"{real} points with real rewards, {noise} with shuffled ones, difference {gap}"
        )
    text = f"{'; '.join(parts)}."
    both = [pair for pair in pairs if pair.shuffled and pair.control is not None]
    found = _range([value for pair in both for value in signal(pair.variant)])
    own = _range([value for pair in both if pair.control for value in signal(pair.control)])
    return (
        f"{text} Rewards as the updates got them correlate with correctness by {found} shuffled, {own} in the controls."
    )


def _range(values: Sequence[float]) -> str:
    known = [v for v in values if not isnan(v)]
    if not known:
        return "not defined"
    return f"{number(round(min(known), 2) + 0.0, '.2f')} to {number(round(max(known), 2) + 0.0, '.2f')}"


def learning_verdict(learning: pd.DataFrame, called: Mapping[str, str] | None = None) -> str:
    """Whether what real rewards change exceeds what noise changes: correctness with its power, the others in a line.

    ``called``: what to call a policy in place of its letter (``beyond_ranking.titles``).
    """
    if learning.empty:
        return "Whether a change is learning at all cannot be said without one."
    parts = []
    for row in learning[learning["measure"] == "correct"].to_dict("records"):
        letter = row["pair"].split(":")[0]
        policy = f"({called[letter].split(': ', 1)[1]})" if called else letter
        gap, noise = row["gap"], row["shuffled"].interval.estimate
        whole = row["real"].interval.estimate
        if gap.sign:
            word = "more" if gap.sign > 0 else "less"
            parts.append(f"for policy {policy} real rewards change correctness by {word} than noise")
            continue
        text = f"for policy {policy} the change of correctness is not shown to exceed noise"
        if whole * noise > 0 and abs(whole) > 0.01 and abs(noise) > 1e-9:
            text += f", which moved it by {number(noise / whole, '.0%')} as much"
        if not isnan(row["power"]):
            text += f" (power for a gap as large as the whole change: {number(row['power'], '.0%')})"
        parts.append(text)
    others = learning[learning["measure"] != "correct"]
    beyond = sum(effect.sign > 0 for effect in others["gap"])
    tail = (
        f"Of {len(others)} changes of fast_1 and mean speedup, {beyond} {'exceeds' if beyond == 1 else 'exceed'} noise."
    )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. {tail}"


# -- policies ----------------------------------------------------------------------------------------------------


def policies_verdict(table: pd.DataFrame) -> str:
    """Whether any policy's surprisal beats random choice, and which does best per sample."""
    sure = [row["policy"] for row in table.to_dict("records") if row["surprisal"].low > 1]
    worse = [row["policy"] for row in table.to_dict("records") if row["surprisal"].high < 1]
    best = table.iloc[int(np.argmax([row.estimate for row in table["sample"]]))]
    text = f"Most often fast per sample: policy {best['policy']} ({number(best['sample'], '.0%')})."
    if sure:
        text += f" Surprisal beats random choice for policy {listed(sure)}."
    if worse:
        text += f" It is worse than random for policy {listed(worse)}."
    if not sure:
        text += " For no policy is surprisal shown to beat random choice."
    return text


# -- the takeaway ------------------------------------------------------------------------------------------------


def ranking_takeaway(effects: pd.DataFrame) -> str:
    """Whether surprisal as an order of evaluation saves any, over all policies."""
    tested = tested_of(effects.loc[effects["order"] == str(Order.SURPRISAL), "first_fast"])
    found = [effect.sign for effect in tested if effect.sign]
    if not found or by_chance(len(found), len(tested)):
        return "As an order of evaluation it is not shown to save any."
    if len(set(found)) > 1:
        return "As an order of evaluation it saves some for one policy and costs some for another."
    return f"As an order of evaluation it {'saves' if found[0] < 0 else 'costs'} some."


def choosing_takeaway(effects: pd.DataFrame, kinds: pd.DataFrame) -> str:
    """Whether, after the filter, surprisal beats random choice of the same cost: overall, and for any kind of group."""
    ratios = effects.set_index("rule")["ratio"]
    whole = {1: "is faster than", -1: "is slower than", 0: "is not shown to differ from"}[ratios["surprisal"].sign]
    signs = [effect.sign for effect in tested_of(kinds["gain"])]
    some = sum(sign > 0 for sign in signs)
    text = f"After the filter, what it returns {whole} a random choice of the same cost"
    if some and not by_chance(sum(sign != 0 for sign in signs), len(signs)):
        return f"{text}; it is a better rule in {some} of {len(signs)} kinds of group."
    return f"{text}, and in none of {len(signs)} kinds of group is it shown to be better."
