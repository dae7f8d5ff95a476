"""The candidates behind chapter 5.1's rates: most often sampled, fastest, and what each protocol decided.

It arranges a run's samples and a protocol's view; rates and curves are in ``scaling``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.prose import number
from vegtts_core.book.scaling import HEADINGS, PROTOCOLS, Views
from vegtts_core.book.tables import PUBLISHED, Column
from vegtts_core.selection import BEST_CORRECT, evaluate_strategies

DECISIONS = ("faster", "same", "undecided", "slower")


def selected(views: Views, headroom: pd.DataFrame) -> pd.DataFrame:
    """The fastest correct sample of each group: table D.2 beside the geometric mean over seeds, per task and protocol.

    ``headroom`` comes from ``book.headroom``. Columns: task_id, paper, published, sound (ratios), published_groups and
    sound_groups (how many groups had a correct sample, as text), headroom.
    """
    claimed = published.table("D.2")["speedup"]
    caps = headroom.set_index("task_id")["headroom"]
    ids = views["sound"].drop_duplicates("task").set_index("task")["task_id"].astype(int).sort_values()
    table = pd.DataFrame({"task_id": ids, "paper": [claimed.get(str(i)) for i in ids]}, index=ids.index)
    for protocol in PROTOCOLS:
        outcomes = evaluate_strategies(views[protocol], strategies=(BEST_CORRECT,))
        grouped = outcomes.groupby("task")["log_speedup"]
        table[protocol] = np.exp(grouped.mean()).reindex(ids.index)
        counts = pd.DataFrame({"timed": grouped.count(), "groups": grouped.size()}).loc[ids.index]
        table[f"{protocol}_groups"] = [f"{timed} of {size}" for timed, size in counts.to_numpy()]
    table["headroom"] = [caps.get(i) for i in ids]
    return table.reset_index(drop=True)


def selected_columns() -> dict[str, Column]:
    """How ``selected`` is shown."""
    columns = {"task_id": Column("task", "d"), "paper": Column("selected", "{:.1f}×", group=PUBLISHED)}
    for protocol in PROTOCOLS:
        columns[protocol] = Column("selected", "{:.2f}×", group=HEADINGS[protocol])
        columns[f"{protocol}_groups"] = Column("seeds with one", group=HEADINGS[protocol])
    return columns | {"headroom": Column("headroom", "{:.1f}×", group="here")}


def candidates(samples: pd.DataFrame, rows: int = 12) -> pd.DataFrame:
    """The distinct correct candidates that were sampled most often, by task: what the success rates rest on.

    ``samples`` is a run's table. A candidate is timed once in a run; its copies, of any seed, share the verdict.
    Columns: task_id, body (first line, as code), samples, published (speedup), sound (speedup with its bounds, text),
    decision.
    """
    correct = samples[samples["published_correct"].eq(True) | samples["sound_correct"].eq(True)]
    grouped = correct.groupby(["task_id", "fingerprint"], as_index=False)
    found = grouped.agg(
        body=("body", "first"),
        samples=("seed", "size"),
        published=("published_speedup", "first"),
        speedup=("sound_speedup", "first"),
        low=("sound_speedup_low", "first"),
        high=("sound_speedup_high", "first"),
        decision=("sound_decision", "first"),
    )
    found = found.sort_values("samples", ascending=False, kind="stable").head(rows)
    found = found.sort_values(["task_id", "samples"], ascending=[True, False], kind="stable", ignore_index=True)
    found["body"] = [_code(text) for text in found["body"]]
    triples = found[["speedup", "low", "high"]].astype(float).to_numpy()
    found["sound"] = [number(v, ".2f") + (f" [{a:.2f}, {b:.2f}]" if a == a and b == b else "") for v, a, b in triples]
    found["published"] = found["published"].astype(float)
    return found[["task_id", "body", "samples", "published", "sound", "decision"]]


def candidate_columns() -> dict[str, Column]:
    """How ``candidates`` is shown."""
    return {
        "task_id": Column("task", "d"),
        "body": Column("body of the candidate"),
        "samples": Column("samples", "d"),
        "published": Column("published speedup", "{:.2f}×"),
        "sound": Column("sound speedup [95%]"),
        "decision": Column("decision"),
    }


def _code(text: object, width: int = 44) -> str:
    """The first line of ``text`` as MyST code; an ellipsis where something is left out."""
    lines = str(text).strip().splitlines() or [""]
    shown = lines[0].replace("`", "'")
    cut = len(shown) > width or len(lines) > 1
    return f"`{shown[:width].rstrip()}{' …' if cut else ''}`"


def decisions(views: Views) -> pd.DataFrame:
    """Samples by what each protocol says of them: one row per outcome under ``published``, a column per decision.

    Columns: outcome (fast, not fast, not correct), the sound protocol's decisions, ``not correct`` and ``all``.
    """
    paper, sound = views["published"], views["sound"]
    rows = np.where(~paper["correct"], "not correct", np.where(paper["fast_limit"] > 1, "fast", "not fast"))
    decided = sound["decision"].astype(object)
    columns = np.where(~sound["correct"], "not correct", decided.where(decided.notna(), "undecided"))
    order = [*DECISIONS, "not correct"]
    counts = pd.crosstab(pd.Series(rows, name="outcome"), pd.Series(columns))
    counts = counts.reindex(index=["fast", "not fast", "not correct"], columns=order, fill_value=0)
    return counts.assign(all=counts.sum(axis=1)).reset_index()


def decision_columns() -> dict[str, Column]:
    """How ``decisions`` is shown."""
    columns = {"outcome": Column("published protocol")}
    columns |= {name: Column(name, "d", group="sound protocol") for name in (*DECISIONS, "not correct")}
    return columns | {"all": Column("all", "d")}
