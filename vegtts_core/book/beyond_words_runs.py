"""The sentences of chapter 10 on runs that move weights and on policies; rules as in ``beyond_words``."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np
import pandas as pd

from vegtts_core.book.adapting_words import plural
from vegtts_core.book.beyond_ranking import points
from vegtts_core.book.beyond_variants import MEASURES, Pair, equal_starts, signal
from vegtts_core.book.beyond_words import LUCK, by_chance, listed, of_chance, tested_of
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import signed

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


def variants_text(differences: pd.DataFrame) -> str:
    """Each variant's difference at the last common step."""
    if differences.empty:
        return "Nothing to compare."
    parts = []
    for name, part in differences.groupby("pair", sort=False):
        row = part.iloc[-1]
        correct, fast = (number(points(row[key]), lambda v: signed(v, "+.0f")) for key in ("correct", "fast"))
        parts.append(f"{name} at step {row['step']}: correct {correct} points, fast_1 {fast} points")
    return f"Variant minus control, {'; '.join(parts)}."


def variants_verdict(differences: pd.DataFrame) -> str:
    """Which variants differ from their control after the start."""
    rows = differences[differences["step"] > 0]
    if rows.empty:
        return "Not run: no variant has a control here."
    tested, parts = 0, []
    for row in rows.to_dict("records"):
        for key, title in MEASURES.items():
            for effect in tested_of([row[key]]):
                tested += 1
                if effect.sign:
                    word = "above" if effect.sign > 0 else "below"
                    parts.append(f"{row['pair']}, {title} {word} its control at step {row['step']}")
    text = f"{of_chance(len(parts), tested)}"
    text = f"{text[0].upper()}{text[1:]}, steps of one run not being independent."
    if not parts:
        return f"{text} No variant is shown to differ."
    text = f"{text} {listed(parts)[0].upper()}{listed(parts)[1:]}."
    return f"{text} {LUCK}" if by_chance(len(parts), tested) else text


def learning_text(learning: pd.DataFrame, pairs: Sequence[Pair]) -> str:
    """Changes with real and with shuffled rewards, and whether shuffling left anything in the rewards."""
    if learning.empty:
        return "No noise control is recorded."
    parts = []
    for row in learning[learning["measure"] == "correct"].to_dict("records"):
        real, noise = (number(points(row[k]), lambda v: signed(v, "+.0f")) for k in ("real", "shuffled"))
        parts.append(
            f"{row['pair']}, to step {row['step']}: correct {real} points with real rewards, {noise} with shuffled ones"
        )
    text = f"{'; '.join(parts)}."
    for pair in pairs:
        if pair.shuffled and pair.control is not None:
            found, own = (_range(signal(run)) for run in (pair.variant, pair.control))
            text += " Rewards as the updates got them correlate with correctness by "
            text += f"{found} shuffled, {own} in the control."
    return text


def _range(values: Sequence[float]) -> str:
    known = [v for v in values if not isnan(v)]
    if not known:
        return "not defined"
    return f"{number(round(min(known), 2) + 0.0, '.2f')} to {number(round(max(known), 2) + 0.0, '.2f')}"


def learning_verdict(learning: pd.DataFrame) -> str:
    """Whether the control's changes exceed those that noise brings."""
    if learning.empty:
        return "Whether a change is learning at all cannot be said without one."
    parts = []
    for row in learning.to_dict("records"):
        title, gap, noise = MEASURES[row["measure"]], row["gap"], row["shuffled"]
        if gap.sign > 0:
            parts.append(f"{title}: real rewards do more than noise")
        elif gap.sign < 0:
            parts.append(f"{title}: real rewards do less than noise")
        else:
            estimate, whole = noise.interval.estimate, row["real"].interval.estimate
            share = estimate / whole if abs(whole) > 1e-9 else float("nan")
            told = (
                f" (noise alone moved it by {number(share, '.0%')} of what real rewards did)"
                if 0 < share < 10 and row["measure"] == "correct"
                else ""
            )
            parts.append(f"{title}: not shown to exceed noise{told}")
    text = "; ".join(parts)
    runs = learning["pair"].nunique()
    return f"{text[0].upper()}{text[1:]}. {plural(runs, 'noise run')}: a second could drift elsewhere."


# -- policies ----------------------------------------------------------------------------------------------------


def policies_verdict(table: pd.DataFrame) -> str:
    """Whether any policy's surprisal beats random choice, and which does best per sample."""
    sure = [row["policy"] for row in table.to_dict("records") if row["surprisal"].low > 1]
    worse = [row["policy"] for row in table.to_dict("records") if row["surprisal"].high < 1]
    best = table.iloc[int(np.argmax([row.estimate for row in table["sample"]]))]
    text = f"Most often fast per sample: {best['policy']} ({number(best['sample'], '.0%')})."
    if sure:
        text += f" Surprisal beats random choice for {listed(sure)}."
    if worse:
        text += f" It is worse than random for {listed(worse)}."
    if not sure:
        text += " For no policy is surprisal shown to beat random choice."
    return text
