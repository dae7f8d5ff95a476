"""A claim's entry in sentences and boxes: chapters 6 to 8 take their verdicts from the table of claims, never anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vegtts_core.book.boxes import Comparison
from vegtts_core.book.prose import number
from vegtts_core.book.verdicts import Entries, Entry, Outcome, capital, letters


def measured(entry: Entry, names: Mapping[str, str] | None = None) -> str:
    """What the deciding policy's runs gave, with n and power: the text of a box's right side.

    ``names``: what to call policies (``verdicts.letters``), by default their labels.
    """
    label, found = entry.deciding
    facts = [(names or {}).get(label, label)] if label else []
    facts += [f"n = {found.n}"] if found.n else []
    facts += [f"power {number(found.power, '.0%')}"] if not math.isnan(found.power) else []
    return f"{capital(found.here)} ({'; '.join(facts)})." if facts else f"{capital(found.here)}."


def verdict(entry: Entry) -> str:
    """``**Undecided at this n.** The interval allows both.``"""
    return f"**{capital(entry.outcome.value)}.** {entry.finding.why}".strip()


def homes(*labels: str) -> str:
    """``In full: 5.3 (curse), 5.5 (own).`` with links; each label as ``5.3 sec-traj-curse``."""
    places = (label.split(maxsplit=1) for label in labels)
    links = (f"{{ref}}`{chapter} ({name.rsplit('-', 1)[-1]}) <{name}>`" for chapter, name in places)
    return f"In full: {', '.join(links)}."


def box(
    entries: Entries, title: str, names: Sequence[str], home: Sequence[str], published: str = "", here: str = ""
) -> Comparison:
    """Claims (by id) in one box, each under its title where there are several.

    ``published``: what the paper says (default: the claims' figures); ``here``: put in front of what the claims' runs
    gave; ``home``: where it is measured, as in `homes`. Policies go by their letter in the table of claims.
    """
    chosen, names_of = [entries[name] for name in names], letters(entries)
    heads = [f"*{capital(entry.claim.title)}*: " if len(chosen) > 1 else "" for entry in chosen]
    both = list(zip(heads, chosen, strict=True))
    told = [published] if published else [f"{head}{entry.claim.text}." for head, entry in both]
    return Comparison(
        claim=title,
        published="\n\n".join(told),
        here="\n\n".join([here] * bool(here) + [f"{head}{measured(entry, names_of)}" for head, entry in both]),
        verdict="\n\n".join([*(f"{head}{verdict(entry)}" for head, entry in both), homes(*home)]),
    )


def with_outcome(entries: Entries, outcome: Outcome, main: bool = True) -> list[Entry]:
    """The claims with an outcome, the main ones or all."""
    return [e for e in entries.values() if e.outcome is outcome and (e.claim.main or not main)]


def told(entries: Entries, outcome: Outcome) -> str:
    """Their sentences, without their full stops, as a list; ``none`` if there are none."""
    return "; ".join(entry.claim.sentence.rstrip(".") for entry in with_outcome(entries, outcome)) or "none"


def weakest(entries: Entries) -> str:
    """How many main claims are undecided, and with what power."""
    powers = [entry.finding.power for entry in with_outcome(entries, Outcome.UNDECIDED)]
    known = [power for power in powers if not math.isnan(power)]
    if not known:
        return "none of the main claims is undecided"
    low, high = (number(value, ".0%") for value in (min(known), max(known)))
    span = low if low == high else f"{low} to {high}"
    return f"{len(known)} of the main claims are undecided, by designs whose power is {span}"
