"""The sentences of chapter 5.3b that depend on the data: what a rho, a change of it, or a collapse allows to say.

Pure functions of numbers, so that a chapter run on other data says what those data say. "Cannot tell" is an answer.
"""

from __future__ import annotations

from math import factorial, isnan

import numpy as np
import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.adapting import machine_text, policy_text, smaller
from vegtts_core.book.probing import ANALYSES, PAPER_SAMPLES, READINGS, Material, paper_rhos, scientific, trained_on
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_tests import rounded
from vegtts_core.book.selecting_words import Finding, finding
from vegtts_core.metrics import Quarter
from vegtts_core.statistics import Interval

FIRST, SECOND = tuple(READINGS)
ALPHA = 0.05


def facts(found: Material, seen: pd.Series) -> dict[str, str]:
    """What the probe is, and the paper's numbers that the chapter mentions, by name."""
    samples, origin = found.probe.samples, found.probe.manifest["parameters"]["origin"]
    nll, table = published.table("5.3b-nll")["nll"], paper_rhos()
    last = {row["quantity"]: row for row in table.to_dict("records")}
    first = table.drop_duplicates("quantity").set_index("quantity")["rho"]
    correct = samples[f"{found.protocol}_correct"].eq(True).fillna(False)
    return {
        "policy": policy_text(found.run),
        "machine": machine_text(found.run),
        "protocol": found.protocol,
        "samples": str(len(samples)),
        "correct": str(int(correct.sum())),
        "tasks": str(samples["task"].nunique()),
        "per-task": str(int(samples.groupby("task").size().max())),
        "checkpoints": str(found.probe.nll["step"].nunique()),
        "last": str(found.last),
        "seed": str(found.run.manifest["parameters"]["seed"]),
        "smaller": smaller(found.run),
        "origin": "the base policy's rollouts of the same run"
        if origin["samples"] == origin["run"]
        else f"the base policy's rollouts of another run, with seed {samples['seed'].iloc[0]}",
        "caution": saw(trained_on(found), seen),
        "agreement": scientific(float(found.probe.manifest["largest_difference_to_recorded"])),
        "paper-samples": str(PAPER_SAMPLES),
        "paper-nll": ", ".join(number(float(value), ".2f") for value in nll),
        "paper-nll-range": number(float(nll.max() - nll.min()), ".2f"),
        "paper-first": number(float(first["all samples"]), ".3f"),
        "paper-last": number(float(last["all samples"]["rho"]), ".3f"),
        "paper-last-step": str(last["all samples"]["step"]),
        "paper-quarter-first": number(float(first["bottom quartile"]), ".3f"),
        "paper-quarter-last": number(float(last["bottom quartile"]["rho"]), ".3f"),
        "paper-quarter-step": str(last["bottom quartile"]["step"]),
        "paper-quarter-printed": scientific(last["bottom quartile"]["printed"]),
        "paper-quarter-p": scientific(last["bottom quartile"]["quarter"]),
        "paper-tokens": _papers_tokens(),
        "paper-per-token": _papers_per_token(),
    }


def _papers_tokens() -> str:
    tokens = published.table("5.2-quartiles")["mean_tokens"]
    return f"{tokens.min():.0f} to {tokens.max():.0f}"


def _papers_per_token() -> str:
    """What its NLL would be per token if it is a sum over as many tokens as table 5.2 has on average."""
    mean = float(published.table("5.2-quartiles")["mean_tokens"].mean())
    return number(float(published.table("5.3b-nll")["nll"].mean()) / mean, ".2f")


def saw(first_update: pd.Series, seen: pd.Series) -> str:
    """Whether the fixed samples are test data for the checkpoints. ``first_update``: `probing.trained_on`."""
    share = number(float(seen.iloc[-1]), ".0%")
    if first_update.any():
        who = "They" if first_update.all() else f"{int(first_update.sum())} of them"
        return (
            f"{who} are also the data of the first update, which moved each of them by its own reward: a change of ρ "
            f"over them is in part training fit (by the last step {share} of all had been in an update)."
        )
    return f"By the last step {share} of them had, as the same completion of the same task, been in an update."


def _row(table: pd.DataFrame, reading: str, which: Quarter, analysis: str) -> pd.Series:
    mask = (table["reading"] == reading) & (table["set"] == which.value) & (table["analysis"] == analysis)
    return table[mask].iloc[0]


def ends(row: pd.Series) -> str:
    """``−0.20 at step 0, −0.28 at the last``; why not, where rho is undefined."""
    if isnan(row["before"]) or isnan(row["after"]):
        return "undefined"
    return f"{number(row['before'], '.2f')} at step 0, {number(row['after'], '.2f')} at the last"


def rho_text(table: pd.DataFrame, which: Quarter) -> str:
    """Rows of ``probing.changes`` for one set: pooled and within tasks, under both readings of failures."""
    parts = []
    for reading in READINGS:
        texts = [f"{analysis} {ends(_row(table, reading, which, analysis))}" for analysis in ANALYSES]
        if all("undefined" in text for text in texts):
            texts = ["undefined, too few or constant"]
        n = int(_row(table, reading, which, ANALYSES[0])["n"])
        parts.append(f"{reading[0].upper()}{reading[1:]} (n = {n}): {'; '.join(texts)}.")
    return " ".join(parts)


def moved(row: pd.Series) -> Finding:
    """What test and interval say of a change of rho: a direction only where neither allows 0."""
    interval: Interval = row["change"]
    if isnan(interval.estimate):
        return Finding.UNKNOWN
    if abs(interval.estimate) < 1e-12:
        return Finding.EQUAL
    said = finding(interval) if not isnan(interval.low) else Finding.UNKNOWN
    if row["samples"] < ALPHA and said in (Finding.MORE, Finding.LESS):
        return said
    return Finding.OPEN


_MOVES = {
    Finding.LESS: "ρ fell",
    Finding.MORE: "ρ rose",
    Finding.EQUAL: "ρ did not move",
    Finding.OPEN: "a change of ρ cannot be told from none",
    Finding.UNKNOWN: "ρ is undefined",
}


def change_text(row: pd.Series) -> str:
    """One row of ``probing.changes`` in a phrase with its interval and p-values."""
    state = moved(row)
    if state is Finding.UNKNOWN:
        return _MOVES[state]
    value = number(row["change"], "+.3f")
    over = f"{_p(row['samples'])} over samples, {_p(row['tasks'])} over tasks"
    return f"{_MOVES[state]} (change {value}, {over})"


def _p(value: float) -> str:
    """``p = 0.06``, or ``p < 0.002`` where the permutations cannot tell less."""
    return "p < 0.002" if value < 0.002 else f"p = {number(value, '.2g')}"


def deepening_verdict(table: pd.DataFrame, which: Quarter = Quarter.ALL) -> str:
    """Whether rho deepened, within tasks and pooled, and what a deeper rho would mean."""
    rows = {a: _row(table, FIRST, which, a) for a in ANALYSES}
    texts = "; ".join(f"{name}, {change_text(row)}" for name, row in rows.items())
    text = f"With failures as 0, {texts}."
    least = float(rows[ANALYSES[0]]["least"])
    if set(map(moved, rows.values())) == {Finding.UNKNOWN}:
        return "With failures as 0, ρ is undefined here."
    if not isnan(least) and least > ALPHA:
        text += f" Exchanging whole tasks, so few of them cannot give less than {_p(least)}."
    states = {moved(row) for row in rows.values()}
    if states == {Finding.LESS}:
        text += " More negative means that confidence ranks these samples better than before, not worse."
    elif states == {Finding.MORE}:
        text += " A rising ρ means that confidence ranks these samples worse than before: what the paper's word means."
    return text


def sign_verdict(table: pd.DataFrame) -> str:
    """What the sign at the last step says, within tasks; ``table`` is ``probing.correlations``."""
    last = table[(table["step"] == table["step"].max()) & (table["set"] == Quarter.ALL.value)]
    parts = []
    for reading in READINGS:
        rows = last[(last["reading"] == reading) & (last["analysis"] == ANALYSES[1]) & last["rho"].notna()]
        if not len(rows):
            parts.append(f"{reading}: ρ is undefined")
            continue
        row = rows.iloc[0]
        value = rounded(Interval(float(row["rho"]), float(row["low"]), float(row["high"]), int(row["tasks"])))
        said = {
            Finding.LESS: "surprising samples are slower, confidence ranks rightly",
            Finding.MORE: "surprising samples are faster, confidence ranks wrongly",
        }.get(finding(value), "no ranking beyond the interval")
        parts.append(f"{reading}: {said} (ρ = {number(value, '.2f')}, {value.n} tasks)")
    return f"At the last checkpoint, within tasks. {parts[0][0].upper()}{'; '.join(parts)[1:]}."


def quarters_verdict(table: pd.DataFrame) -> str:
    """Whether the two readings of "bottom quartile" say the same, pooled, failures as 0 if those have a rho."""
    for reading in READINGS:
        found = {
            which: _row(table, reading, which, ANALYSES[0]) for which in (Quarter.SLOWEST, Quarter.MOST_SURPRISING)
        }
        states = {which: moved(row) for which, row in found.items()}
        if any(state is not Finding.UNKNOWN for state in states.values()):
            break
    else:
        return "Neither reading has a ρ here: what a quarter would hold is constant, or fewer than 5 samples."
    texts = [f"{which.value}: {change_text(row)}" for which, row in found.items()]
    text = f"{reading}, pooled. {'; '.join(texts)}."
    if set(states.values()) <= {Finding.OPEN, Finding.EQUAL}:
        end = "Neither reading shows a change."
    else:
        end = f"The two readings {'agree' if len(set(states.values())) == 1 else 'do not agree'}."
    return f"{text[0].upper()}{text[1:]} {end}"


def turns(values: pd.Series) -> int:
    """How often a sequence changes direction."""
    steps = np.sign(np.diff(values.to_numpy(dtype=float)))
    steps = steps[steps != 0]
    return int(np.sum(steps[1:] != steps[:-1]))


def nll_text(table: pd.DataFrame) -> str:
    """``probing.nlls`` in a line: first and last, per token and per completion."""
    a, b = table.iloc[0], table.iloc[-1]
    return (
        f"Per token {number(a['nll_mean'], '.3f')} at step 0 and {number(b['nll_mean'], '.3f')} at the last; per "
        f"completion {number(a['nll_sum'], '.2f')} and {number(b['nll_sum'], '.2f')} nats ({int(a['n'])} samples, "
        f"{int(a['tasks'])} tasks)."
    )


def nll_verdict(table: pd.DataFrame) -> str:
    """Where the mean NLL went, paired by sample, and whether it turned on the way."""
    if len(table) < 2:
        return "One checkpoint has no trajectory."
    last = table.iloc[-1]
    change = Interval(float(last["change"]), float(last["change_low"]), float(last["change_high"]), int(last["tasks"]))
    said = finding(change)
    word = {Finding.MORE: "rose", Finding.LESS: "fell"}.get(said, "neither rose nor fell beyond its interval")
    count = turns(table["nll_mean"])
    path = "without a turn" if not count else f"turning {'once' if count == 1 else f'{count} times'} on the way"
    text = f"The mean NLL of the fixed samples {word} ({number(change, '+.3f')} nats per token), {path}."
    if count:
        chance = number(1 - 2 / factorial(len(table)), ".0%")
        text += f" Of {len(table)} numbers in random order {chance} turn: a turn alone shows no instability."
    return text


def collapse(changes: pd.DataFrame) -> Finding:
    """What the measures of diversity say together: LESS or MORE where all that decide agree, OPEN where none does."""
    said = set()
    for row in changes[changes["measure"] != "surprisal"].to_dict("records"):
        state = finding(row["change"])
        if state in (Finding.MORE, Finding.LESS):
            less = (state is Finding.LESS) == (row["sign"] > 0)
            said.add(Finding.LESS if less else Finding.MORE)
    if len(said) == 1:
        return said.pop()
    return Finding.OPEN if not said else Finding.UNKNOWN


_DIVERSITY = {
    Finding.LESS: "Diversity fell: every measure whose interval excludes 0 says less.",
    Finding.MORE: "Diversity rose: every measure whose interval excludes 0 says more.",
    Finding.OPEN: "No measure of diversity moved beyond its interval.",
    Finding.UNKNOWN: "The measures of diversity contradict each other.",
}


def diversity_text(changes: pd.DataFrame) -> str:
    """First and last step of two measures, in a line."""
    rows = changes.set_index("measure")
    parts = []
    for name in ("distinct_share", "entropy"):
        row = rows.loc[name]
        parts.append(f"{row['label']} {number(row['first'], '.2f')} → {number(row['last'], '.2f')}")
    return f"{'; '.join(parts)} (change {number(rows.loc['entropy', 'change'], '+.2f')} nats of entropy)."


def two_claims(changes: pd.DataFrame, rho: pd.DataFrame) -> str:
    """Collapse and anti-calibration beside each other: which of them these data show."""
    parts = []
    for reading in READINGS:
        said = _RANKED.get(moved(_row(rho, reading, Quarter.ALL, ANALYSES[1])), "no worse or better beyond chance")
        parts.append(f"{said} ({reading})")
    return f"{_DIVERSITY[collapse(changes)]} Within tasks, confidence ranks the fixed samples {'; '.join(parts)}."


_RANKED = {
    Finding.LESS: "better than before, no anti-calibration",
    Finding.MORE: "worse than before, anti-calibration",
    Finding.EQUAL: "as before",
    Finding.UNKNOWN: "in no defined way",
}
