"""What the study says of the paper's claims: the words for it, and the table of claims.

Four words are verdicts. A claim is *replicated* or *not replicated* only where an interval decides it, *an artefact*
where the published figure comes from how it was counted or timed, and everything else is *undecided at this n*, which
reads differently with a power of 20% and of 95%. *Not run* is no verdict: it says that there are no data. The rules are
in ``verdict_rules``, their gathering over runs in ``verdicts_study``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import pandas as pd

from vegtts_core import selection
from vegtts_core.book import published
from vegtts_core.book.prose import MISSING, number
from vegtts_core.book.scaling import with_width
from vegtts_core.book.tables import Column
from vegtts_core.evaluator.settings import SoundSettings
from vegtts_core.statistics import Effect, Interval, mean_interval

NAN = float("nan")

MARGIN = 0.1
"""What "no difference" may hide: 10 points of a share, or 0.1 of a rho. A third of the published gain of 30 points."""


class Outcome(StrEnum):
    """What the data say of a claim."""

    REPLICATED = "replicated"
    """The interval lies where the claim says, and excludes its opposite."""
    NOT_REPLICATED = "not replicated"
    """The interval excludes the claim."""
    UNDECIDED = "undecided at this n"
    """It excludes neither."""
    ARTEFACT = "artefact"
    """The published figure comes from how it was counted or timed."""
    NOT_RUN = "not run"
    """No verdict: no run at hand speaks to it."""

    @property
    def short(self) -> str:
        """For narrow cells."""
        return self.value.removesuffix(" at this n")


@dataclass(frozen=True)
class Finding:
    """What was measured (text with numbers), and what follows.

    ``why``: one sentence; ``n``: tasks x seeds x samples; ``power``: the probability that the design would have found
    an effect as large as the published one at the 5% level (NaN: not a question of power); ``effect``: the difference
    that decides, ``size``: the published one, both None or NaN where a claim is decided otherwise. ``empty``: these
    data hold nothing that could be tested (no power for want of tasks is something else). ``claimed``: the
    sign that the claim gives the effect, where the outcome is `by_sign` of it; else 0.
    """

    here: str
    outcome: Outcome
    why: str = ""
    n: str = ""
    power: float = NAN
    effect: Effect | None = None
    size: float = NAN
    empty: bool = False
    claimed: int = 0


def by_sign(effect: Effect, claimed: int, size: float = 0.0) -> Outcome:
    """The outcome for a claim that an effect has sign ``claimed``.

    ``size``: the published effect. It is also not replicated where the design would have found an effect of that size
    with 80% power and its interval excludes it, or where the size exceeds `MARGIN` and the interval lies within it.
    """
    if effect.sign == claimed:
        return Outcome.REPLICATED
    small = abs(size) > MARGIN and effect.within(MARGIN)
    if effect.sign == -claimed or small or (size and effect.misses(size)):
        return Outcome.NOT_REPLICATED
    return Outcome.UNDECIDED


def because(outcome: Outcome, yes: str, no: str, power: float = NAN) -> str:
    """One sentence: ``yes`` or ``no`` (clauses) where an interval decides, else whether the design could have."""
    if outcome in (Outcome.REPLICATED, Outcome.NOT_REPLICATED):
        text = yes if outcome is Outcome.REPLICATED else no
        return f"{capital(text)}."
    if math.isnan(power):
        return "The interval allows both."
    if power < 0.005:
        return "This design cannot show it."
    if power < 0.5:
        return "The interval allows both; power is low."
    return "The interval allows both, at fair power."


def capital(text: str) -> str:
    """With a capital, except a Greek letter: a capital rho reads as a P."""
    return f"{text[0].upper()}{text[1:]}" if text and text[0].isascii() else text


_DECIDED = (Outcome.REPLICATED, Outcome.NOT_REPLICATED)


def together(findings: Mapping[str, Finding]) -> dict[str, Finding]:
    """Findings of one claim by policy, undecided where a level that allows for all of them does not hold."""
    signed = {label: found.effect for label, found in findings.items() if found.claimed and found.effect is not None}
    tests = sum(effect.n > 1 for effect in signed.values())
    kept = dict(findings)
    for label, effect in signed.items():
        found = findings[label]
        size = 0.0 if math.isnan(found.size) else found.size
        if found.outcome is not by_sign(effect.among(tests), found.claimed, size) and found.outcome in _DECIDED:
            why = f"Alone it would be {found.outcome.short}, but not at a level that allows for {tests} policies."
            kept[label] = replace(found, outcome=Outcome.UNDECIDED, why=why)
    return kept


def overall(findings: Iterable[Finding]) -> Outcome:
    """Of several policies: replicated only if at least one replicates and none contradicts."""
    found = {finding.outcome for finding in findings}
    order = (Outcome.NOT_REPLICATED, Outcome.ARTEFACT, Outcome.REPLICATED, Outcome.UNDECIDED)
    return next((outcome for outcome in order if outcome in found), Outcome.NOT_RUN)


@dataclass(frozen=True)
class Entry:
    """One claim with what each policy's runs say of it, by the policy's label."""

    claim: published.Claim
    findings: Mapping[str, Finding]

    @property
    def outcome(self) -> Outcome:
        """`overall`."""
        return overall(self.findings.values())

    @property
    def deciding(self) -> tuple[str, Finding]:
        """(label, finding) shown for the claim: of those with its outcome, the one with the most power."""
        if not self.findings:
            need = _NEEDS.get(self.claim.id) or f"{self.claim.needs.value.replace('_', '-')} runs"
            return "", Finding(f"needs {need}", Outcome.NOT_RUN, why="No recorded run speaks to it.")
        same = [(label, found) for label, found in self.findings.items() if found.outcome is self.outcome]
        # Of equals the last: the study's runs come after a chapter's own.
        return max(reversed(same), key=lambda pair: -1.0 if math.isnan(pair[1].power) else pair[1].power)

    @property
    def finding(self) -> Finding:
        """The finding shown, with the outcome over all policies and, where they differ, who says what."""
        found = self.deciding[1]
        others = [f for f in self.findings.values() if f.outcome is not self.outcome]
        if not others:
            return found
        words = pd.Series([f.outcome.short for f in others]).value_counts(sort=False)
        told = ", ".join(f"{count} {word}" for word, count in words.items())
        return replace(found, why=f"{found.why} Other runs: {told}.".strip())


_NEEDS = {
    "reward-compression": "runs that differ in their reward alone",
    "hard-subset": "adaptation runs on subset 2",
    "base-policy": "the paper's 40 GRPO steps",
}

Entries = Mapping[str, Entry]
"""By claim id, in the order of ``published.claims``."""


def letters(entries: Entries) -> dict[str, str]:
    """A letter for each policy's label, those that searched first."""
    ordered = sorted(entries.values(), key=lambda entry: entry.claim.needs is not published.Needs.BEST_OF_N)
    labels = list(dict.fromkeys(label for entry in ordered for label in entry.findings if label))
    return {label: chr(ord("A") + place) for place, label in enumerate(labels)}


def legend(entries: Entries) -> str:
    """``A: SmolLM2-135M, forward, …; B: …``"""
    return "; ".join(f"{letter}: {label}" for label, letter in letters(entries).items())


def claims_table(entries: Entries, main: bool) -> pd.DataFrame:
    """Columns id, claim, published, here, n, power, outcome, why; the main claims, or the others."""
    rows, names = [], letters(entries)
    for entry in entries.values():
        if entry.claim.main is not main:
            continue
        label, found = entry.deciding[0], entry.finding
        here = f"{names[label]}: {found.here}" if label in names else found.here
        power = number(found.power, ".0%")
        outcome = entry.outcome.short
        row = (entry.claim.id, entry.claim.sentence, entry.claim.text, here, found.n or MISSING, power)
        rows.append((*row, outcome, found.why))
    return pd.DataFrame(rows, columns=["id", "claim", "published", "here", "n", "power", "outcome", "why"])


CLAIMS_COLUMNS = {
    "outcome": Column("verdict"),
    "claim": Column("claim"),
    "published": Column("published"),
    "here": Column("measured here [95%]"),
    "n": Column("n"),
    "power": Column("power"),
    "why": Column("why"),
}


def policies_table(entries: Entries) -> pd.DataFrame:
    """The main claims against verdicts: columns claim and one per outcome, cells say whose: ``A (20%), C``.

    Only outcomes that some policy has: the table grows with policies in its cells, not in its width.
    """
    names, rows = letters(entries), []
    for entry in entries.values():
        if not entry.claim.main or not any(entry.findings):
            continue
        said: dict[str, list[str]] = {}
        for label, letter in names.items():
            found = entry.findings.get(label)
            if found is not None and found.outcome is not Outcome.NOT_RUN:
                said.setdefault(found.outcome.short, []).append(_who(letter, found))
        rows.append({"claim": entry.claim.title} | {outcome: ", ".join(who) for outcome, who in said.items()})
    columns = [outcome.short for outcome in Outcome if any(outcome.short in row for row in rows)]
    return pd.DataFrame(rows, columns=["claim", *columns])


def _who(letter: str, found: Finding) -> str:
    return letter if math.isnan(found.power) else f"{letter}\u00a0({number(found.power, '.0%')})"


def policies_columns(entries: Entries) -> dict[str, Column]:
    """How `policies_table` is shown."""
    return {str(name): Column(str(name)) for name in policies_table(entries).columns}


def tally(entries: Entries) -> dict[str, int]:
    """How many claims have each outcome, all outcomes named."""
    found = [entry.outcome for entry in entries.values()]
    return {outcome.value: found.count(outcome) for outcome in Outcome}


def counts(entries: Entries) -> str:
    """``1 replicated, 6 not replicated, …``: every outcome that some claim has."""
    return ", ".join(f"{count} {name}" for name, count in tally(entries).items() if count)


def shown(value: float | str) -> str:
    """A published value as the tables write it."""
    return value if isinstance(value, str) else number(value, ".4g")


def sizes(samples: pd.DataFrame) -> str:
    """``5×3×64``: tasks, seeds, and samples of each pair (at a step), in one word."""
    if not len(samples):
        return ""
    groups = samples.groupby(["task", "seed", "step"]).size()
    return f"{samples['task'].nunique()}×{samples['seed'].nunique()}×{int(groups.max())}"


def speedup_needed(samples: pd.DataFrame) -> float:
    """The speedup at which half of a run's correct candidates would be called faster, by the widths of their intervals.

    NaN where none has an interval.
    """
    found = samples.drop_duplicates(["task", "fingerprint"])
    widths = (found["sound_speedup"].astype(float) / found["sound_speedup_low"].astype(float)).dropna()
    return (1 + SoundSettings().minimum_effect) * float(widths.median())


def sample_share(view: pd.DataFrame) -> Interval:
    """Per-sample fast_1 with its bootstrap interval over tasks (and seeds within them)."""
    groups = view.assign(fast=(view["fast_limit"] > 1).astype(float)).groupby(["task", "seed", "step"])["fast"].mean()
    return mean_interval(groups.to_numpy(), groups.index.get_level_values("task").to_numpy())


# -- figure 1 ----------------------------------------------------------------------------------------------------


def figure_one(views: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Long table for the intro's figure: columns strategy, source, value, low, high (NaN where nothing is known).

    ``views``: a search's samples under one protocol, by the source that they are shown as.
    """
    paper = published.table("5.3")["fast_1"]
    rows: list[tuple[str, str, float, float, float]] = [
        (str(name), "paper", float(value), math.nan, math.nan) for name, value in paper.items()
    ]
    extra = {
        "TTT, per sample": "headline/ttt-best-3-seeds/value",
        "Best-of-N, per sample": "headline/subset-1-best-of-n-per-sample/value",
    }
    rows += [(name, "paper", float(published.value(path)), math.nan, math.nan) for name, path in extra.items()]
    for source, view in views.items():
        table = selection.aggregate_strategies(selection.evaluate_strategies(view))
        shares = {
            row["strategy"]: Interval(row["success"], row["low"], row["high"], row["tasks"])
            for row in table.to_dict("records")
        }
        for name, share in (shares | {"Best-of-N, per sample": sample_share(view)}).items():
            shown, _ = with_width(share)
            rows.append((name, source, shown.estimate, shown.low, shown.high))
    return pd.DataFrame(rows, columns=["strategy", "source", "value", "low", "high"])
