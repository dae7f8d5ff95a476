"""A claim's entry in sentences and boxes: chapters 6 to 8 take their verdicts from the table of claims, never anew."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vegtts_core.book.boxes import Comparison
from vegtts_core.book.prose import number
from vegtts_core.book.verdicts import Entries, Entry, Outcome, capital


def measured(entry: Entry) -> str:
    """What the deciding policy's runs gave, with n and power: the text of a box's right side."""
    label, found = entry.deciding
    text = capital(found.here)
    facts = [label] if label else []
    facts += [f"n = {found.n}"] if found.n else []
    facts += [f"power {number(found.power, '.0%')}"] if not math.isnan(found.power) else []
    return f"{text} ({'; '.join(facts)})." if facts else f"{text}."


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
    """Claims (by id) in one box, one after the other.

    ``published``: what the paper says (default: the claims' figures); ``here``: put in front of what the claims' runs
    gave; ``home``: where it is measured, as in `homes`.
    """
    chosen = [entries[name] for name in names]
    texts = [f"{entry.claim.sentence} {measured(entry)}" if len(chosen) > 1 else measured(entry) for entry in chosen]
    verdicts = [f"{entry.claim.sentence} {verdict(entry)}" if len(chosen) > 1 else verdict(entry) for entry in chosen]
    told = published or "; ".join(entry.claim.text for entry in chosen) + "."
    return Comparison(
        claim=title,
        published=told,
        here="\n\n".join([here] * bool(here) + texts),
        verdict="\n\n".join([*verdicts, homes(*home)]),
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
