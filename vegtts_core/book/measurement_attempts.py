"""The attempts to earn a reward by cheating, and how each ended: the table of ``tests/exploits/report.py``.

Several candidates may try one row, in several scaffolds, on the CPU and on a GPU. It arranges what the report says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from vegtts_core.book.measurement import Recording, of, or_nothing
from vegtts_core.book.prose import listed, number
from vegtts_core.book.tables import Column

REWARD = "REWARD"
"""How the outcome of an attempt begins that earned something."""

ELSEWHERE = "elsewhere"
"""The outcome of a row that no candidate tries on that device; its reason says what covers it."""

_OTHER = "see the other device"
"""The reason of a row whose candidates run on the device that was not reported."""

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}

COLUMNS = {
    "row": Column("row"),
    "attempt": Column("attempt"),
    "defence": Column("defence"),
    "tried": Column("candidates"),
    "reward": Column("reward"),
    "ended": Column("ended with"),
}


def entries(found: Sequence[Recording]) -> pd.DataFrame:
    """All lines of the reports, the same attempt on the same device once; columns as in the reports, and name."""
    lines = [dict(line) for recording in found for line in recording.data["table"]]
    for line in lines:
        line.setdefault("name", str(line["reason"]).partition(":")[0])
    names = ["row", "attempt", "defence", "scaffold", "device", "outcome", "reason", "name"]
    frame = pd.DataFrame(lines, columns=names)
    place = {row: index for index, row in enumerate(dict.fromkeys(frame["row"]))}
    tried = frame["outcome"] != ELSEWHERE
    # An attempt that earned something in one of two recordings has earned something.
    earned = frame["outcome"].astype(str).str.startswith(REWARD)
    frame = frame.assign(_order=~earned).sort_values("_order", kind="stable").drop(columns="_order")
    same = frame.duplicated(["row", "scaffold", "device", "name"]) & tried.reindex(frame.index)
    frame = frame[~same].sort_index()
    return frame.sort_values("row", key=lambda rows: rows.map(place), kind="stable").reset_index(drop=True)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per row of the catalogue, in its order: columns as ``COLUMNS``. ``frame``: ``entries``."""
    rows = [_row(str(row), part) for row, part in frame.groupby("row", sort=False)]
    return or_nothing(pd.DataFrame(rows, columns=list(COLUMNS)), "row")


def _row(number_of_row: str, part: pd.DataFrame) -> dict[str, str | None]:
    tried = part[part["outcome"] != ELSEWHERE]
    about = part.iloc[0]
    row = {"row": number_of_row, "attempt": str(about["attempt"]), "defence": str(about["defence"] or "")}
    if tried.empty:
        covered = _elsewhere(part)
        defence = "; ".join(text for text in (row["defence"], covered) if text)
        return row | {"defence": defence, "tried": None if covered else "not on this device"}
    earned = int(tried["outcome"].str.startswith(REWARD).sum())
    return row | {"tried": _tried(tried), "reward": f"earned by {earned}" if earned else "0", "ended": _ended(tried)}


def _tried(part: pd.DataFrame) -> str:
    texts = []
    for device, own in part.groupby("device", sort=True):
        counts = ", ".join(
            f"{count} {scaffold}" for scaffold, count in own["scaffold"].value_counts(sort=False).items()
        )
        texts.append(f"{_DEVICES.get(str(device), str(device))}: {counts}")
    return "; ".join(texts)


def _ended(part: pd.DataFrame) -> str:
    counts = Counter(str(outcome).split()[0] for outcome in part["outcome"])
    words = ((name.replace("_", " ") if name != REWARD else "a reward", count) for name, count in counts.most_common())
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in words)


def _elsewhere(part: pd.DataFrame) -> str:
    """What covers a row that no candidate tries, by the first report that says so; empty if none does."""
    said = (str(line["reason"]).removeprefix(f"{line['attempt']}: ") for line in part.to_dict("records"))
    return next((text for text in said if text != _OTHER), "")


def counts(found: Sequence[Recording]) -> dict[str, str]:
    """Totals for sentences: attempts, earned, honest, failed, rows, kinds; dashes if nothing is recorded."""
    if not found:
        return dict.fromkeys(("attempts", "earned", "honest", "failed", "rows", "kinds"), number(None))
    frame = entries(found)
    tried = frame[frame["outcome"] != ELSEWHERE]
    refused = tried[~tried["outcome"].str.startswith(REWARD)]
    return {
        "attempts": str(len(tried)),
        "earned": str(len(tried) - len(refused)),
        "rows": str(tried["row"].nunique()),
        "kinds": str(refused["outcome"].nunique()),
        "honest": listed(f"{each.data['honest']} ({each.label})" for each in found),
        "failed": listed(f"{each.data['honest_failed']} ({each.label})" for each in found),
    }


def here(found: Sequence[Recording]) -> str:
    """How much was tried, in a sentence."""
    if not found:
        return "Not recorded for this edition."
    told = counts(found)
    tried = f"{told['attempts']} attempts on {told['rows']} rows, of which {told['earned']} earned a reward."
    return f"{tried} Honest candidates: {told['honest']}; did not pass: {told['failed']}."


def verdict(found: Sequence[Recording]) -> str:
    """Whether any attempt earned a reward, and whether honest candidates pass."""
    if not found:
        return "No attempts are recorded for this edition, so nothing can be said."
    frame = entries(found)
    tried = frame[frame["outcome"] != ELSEWHERE]
    earned = int(tried["outcome"].str.startswith(REWARD).sum())
    failed, honest = (sum(int(each.data[key]) for each in found) for key in ("honest_failed", "honest"))
    first = (
        f"{of(earned, 'attempt')} of {len(tried)} earned a reward: the evaluator can be fooled."
        if earned
        else f"None of {of(len(tried), 'attempt')} earned a reward; an attempt that is not among them may."
    )
    second = (
        f"{failed} of {of(honest, 'honest candidate')} did not pass: some of the defence costs honest work."
        if failed
        else f"All {of(honest, 'honest candidate')} passed."
    )
    return f"{first} {second}"
