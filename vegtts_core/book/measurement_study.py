"""Both protocols on every recorded Best-of-N run: how many samples each calls fast, and how many wins survive."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vegtts_core.book.measurement import of
from vegtts_core.book.measurement_run import PROTOCOLS, fast_1, survivors
from vegtts_core.book.prose import number
from vegtts_core.book.study import short
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

COLUMNS = {
    "run": Column("policy"),
    "tasks": Column("tasks", "d"),
    "correct": Column("correct", ".0%"),
    "published": Column("published [95%]", ".0%", group="fast samples"),
    "sound": Column("sound [95%]", ".0%", group="fast samples"),
    "wins": Column("published", "d", group="winning candidates"),
    "kept": Column("and sound", "d", group="winning candidates"),
}


def table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """One row per run, by label: share of samples that are correct (sound), and fast under each protocol.

    Shares are means over tasks, with the bootstrap's interval over tasks and seeds. ``wins`` are distinct candidates
    that the published protocol calls faster, ``kept`` those of them that the sound one calls faster too.
    """
    rows = []
    for name, run in runs.items():
        total = survivors(run.samples).iloc[-1]
        row = {"run": short(name), "tasks": run.samples["task"].nunique()}
        row["correct"] = float(run.samples["sound_correct"].eq(True).groupby(run.samples["task"]).mean().mean())
        row |= {protocol: fast_1(run.samples, protocol) for protocol in PROTOCOLS}
        rows.append(row | {"wins": int(total["wins"]), "kept": int(total["faster"])})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def here(found: pd.DataFrame) -> str:
    """Each run's two shares, in words."""
    texts = [
        f"{row['run']}: {_share(row['published'])} as published, {_share(row['sound'])} soundly"
        for _, row in found.iterrows()
    ]
    return "; ".join(texts) + "."


def verdict(found: pd.DataFrame) -> str:
    """How many published wins are left over all runs, and which policies have none."""
    wins, kept = int(found["wins"].sum()), int(found["kept"].sum())
    if not wins:
        return "No candidate of these runs wins under the published protocol."
    text = f"Of {of(wins, 'candidate')} that win as published, {kept} win soundly ({kept / wins:.0%})."
    none = [row["run"] for _, row in found.iterrows() if row["wins"] and not row["kept"]]
    return f"{text} None of their wins is left for {'; '.join(none)}." if none else text


def largest_gap(found: pd.DataFrame) -> str:
    """The run whose share of fast samples changes most from one protocol to the other, in words."""
    gaps = pd.Series([row["published"].estimate - row["sound"].estimate for _, row in found.iterrows()])
    row = found.iloc[int(gaps.abs().to_numpy().argmax())]
    return f"{row['run']}: {_share(row['published'])} of samples under one, {_share(row['sound'])} under the other"


def long(found: pd.DataFrame) -> pd.DataFrame:
    """``table`` for a figure: one row per policy and protocol, with the share of fast samples and its bounds."""
    rows = [
        {"run": row["run"], "protocol": protocol, "share": share.estimate, "low": share.low, "high": share.high}
        for _, row in found.iterrows()
        for protocol in PROTOCOLS
        for share in (row[protocol],)
    ]
    return pd.DataFrame(rows, columns=["run", "protocol", "share", "low", "high"])


def _share(share: Interval) -> str:
    return number(share.estimate, ".0%")
