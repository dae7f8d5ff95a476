"""Chapter 10: scaling and selection by policy, one row for each search: what differs between models at a glance.

Every number has its home, with its analysis, elsewhere in this chapter or in chapters 5.1 and 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vegtts_core import metrics, ranking
from vegtts_core.book.beyond_ranking import PROTOCOL, ratio
from vegtts_core.book.prose import number
from vegtts_core.book.setting import fast_rates
from vegtts_core.book.tables import Column
from vegtts_core.metrics import GROUP
from vegtts_core.ranking import Order
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_effect

AT = 16
"""The K of the table beside the run's own: the paper's curve is said to be flat from there."""

_CHOICES = [(Order.RANDOM, 1), (Order.SURPRISAL, 1), (Order.RANDOM, None)]


def table(searches: Mapping[str, Run]) -> pd.DataFrame:
    """One row per search: columns of `COLUMNS`."""
    rows = []
    for label, run in searches.items():
        view = metrics.under(run.samples, PROTOCOL)
        sizes = view.groupby(GROUP).size()
        most = int(sizes.min())
        curve = metrics.scaling_curve(view, sorted({k for k in (AT, most) if k <= most})).set_index("k")
        found = ranking.after_filter(view, _CHOICES)
        found["rule"] = found["order"].where(found["m"].notna(), "oracle")
        wide = found.pivot(index=GROUP, columns="rule", values="log_speedup")
        tasks = wide.index.get_level_values("task")
        gain, room = (
            mean_effect((wide[name] - wide["random"]).to_numpy(dtype=float), tasks) for name in ("surprisal", "oracle")
        )
        distinct = ranking.items(view[view["correct"]]).groupby(GROUP).size().reindex(sizes.index, fill_value=0)
        rows.append(
            {
                "policy": label,
                "size": f"{view['task'].nunique()}\u00a0×\u00a0{view['seed'].nunique()}\u00a0×\u00a0{most}",
                "correct": metrics.correctness(view),
                "distinct": float(distinct.mean()),
                "sample": fast_rates(view)[0],
                "at": _share(curve, AT),
                "most": _share(curve, most),
                "surprisal": ratio(gain),
                "oracle": float(np.exp(room.interval.estimate)),
            }
        )
    return pd.DataFrame(rows)


def _share(curve: pd.DataFrame, k: int) -> Interval | None:
    if k not in curve.index:
        return None
    low, high = float(curve.at[k, "low"]), float(curve.at[k, "high"])  # type: ignore[arg-type]
    return Interval(float(curve.at[k, "pass_at_k"]), low, high, 0)  # type: ignore[arg-type]


def _percent(value: float) -> str:
    return number(100 * value, ".0f")


COLUMNS = {
    "policy": Column(""),
    "size": Column("size"),
    "correct": Column("correct", ".0%"),
    "distinct": Column("distinct", ".1f"),
    "sample": Column("sample", _percent, group="fast_1, %"),
    "at": Column(f"pass@{AT}", _percent, group="fast_1, %"),
    "most": Column("pass@K", _percent, group="fast_1, %"),
    "surprisal": Column("surprisal", ".2f", group="over random"),
    "oracle": Column("oracle", ".2f", group="over random"),
}


def summary(found: pd.DataFrame) -> str:
    """Range of the rows in a line: policies, per-sample shares, surprisal over random."""
    shares = [row.estimate for row in found["sample"]]
    gains = [row.estimate for row in found["surprisal"] if np.isfinite(row.estimate)]
    text = f"{len(found)} searches; fast per sample {number(min(shares), '.0%')} to {number(max(shares), '.0%')}"
    return (
        f"{text}, surprisal over random {number(min(gains), '.2f')} to {number(max(gains), '.2f')}" if gains else text
    )
