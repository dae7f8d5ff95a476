"""How much faster a task's answer could be: the reference's time over the least time its device allows.

It reads measured times from a run's ``references`` and KernelBench's published times from the table of facts; it
measures nothing. Floors count a task's bytes, moved once, and the matrix work that the textbook algorithm cannot skip
(``vegtts_core.tasks.work``): a share of the reference's where a contract makes entries zero.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from vegtts_core.errors import UserError
from vegtts_core.evaluator.floors import least_bytes
from vegtts_core.tasks import Size, get_task
from vegtts_core.tasks.work import least_flop

#: What the floors of ``headroom_h100`` take: the fp32 peak without tensor cores and about the bandwidth that kernels
#: reach. The data sheet's bandwidth, which none reaches, stands beside it.
H100_BYTES_PER_SECOND = 3.0e12
H100_FLOP_PER_SECOND = 67e12
H100_DATA_SHEET_BYTES_PER_SECOND = 3.35e12


def headroom(references: pd.DataFrame) -> pd.DataFrame:
    """The tasks of a run: one row per row of ``references`` (``vegtts_core.runs.Run``), in its order.

    Columns: task_id, name, family, gflop, megabytes (10^6 bytes), reference_ms, floor_ms, headroom. Times are NaN where
    the reference was not measured.
    """
    reference = pd.to_numeric(references["reference_seconds"])
    floor = np.array([_floor(row) for row in references.to_dict("records")], dtype=float)
    return pd.DataFrame(
        {
            "task_id": references["task_id"].astype(int),
            "name": references["name"],
            "family": references["family"],
            "gflop": references["flop"] / 1e9,
            "megabytes": references["min_bytes"] / 1e6,
            "reference_ms": reference * 1e3,
            "floor_ms": floor * 1e3,
            "headroom": reference / floor,
        }
    )


def _floor(row: dict[Hashable, Any]) -> float:
    """The recorded floor of a row of ``references``; where the reference's operations decided it, of the least work."""
    recorded, peak = _number(row["floor_seconds"]), _number(row.get("ceiling_flop_per_second"))
    flop = float(row["flop"])
    if not flop or np.isnan(recorded + peak) or abs(recorded * peak / flop - 1) > 1e-9:
        return recorded
    try:
        task = get_task(row["task"], row["size"])
    except UserError:  # a task of the user's own
        return recorded
    if task.flop != flop:
        return recorded
    return max(least_flop(task) / peak, _number(row["min_bytes"]) / _number(row["ceiling_bytes_per_second"]))


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def headroom_h100(task_ids: Iterable[int], bytes_per_second: float = H100_BYTES_PER_SECOND) -> pd.DataFrame:
    """The same for the benchmark's own sizes on an H100, from KernelBench's published eager times.

    Columns as in ``headroom``, without family; ``gflop`` is the matrix work that cannot be skipped.
    """
    with (resources.files("vegtts_core.tasks") / "data" / "kernelbench_level1.csv").open(encoding="utf-8") as file:
        facts = pd.read_csv(file).set_index("id").loc[list(task_ids)]
    tasks = [get_task(int(task), Size.KERNELBENCH) for task in facts.index]
    flop = np.array([least_flop(task) for task in tasks])
    moved = np.array([least_bytes(task) for task in tasks])
    floor = np.maximum(flop / H100_FLOP_PER_SECOND, moved / bytes_per_second) * 1e3
    return pd.DataFrame(
        {
            "task_id": facts.index.astype(int),
            "name": facts["name"].str.replace("_", " "),
            "gflop": flop / 1e9,
            "megabytes": facts["min_gbytes"] * 1e3,
            "reference_ms": facts["h100_eager_ms"],
            "floor_ms": floor,
            "headroom": facts["h100_eager_ms"] / floor,
        }
    ).reset_index(drop=True)


def limits_and_claims(here: pd.DataFrame, h100: pd.DataFrame, claimed: pd.Series) -> pd.DataFrame:
    """Long table for a chart: columns task, kind, ratio, low, high (NaN: these are limits and claims, not estimates).

    ``claimed`` maps task ids to published speedups; ``here`` and ``h100`` come from the functions above.
    """
    parts = [
        pd.DataFrame(
            {"task_id": claimed.index.astype(int), "kind": "speedup in the paper", "ratio": claimed.to_numpy()}
        ),
        pd.DataFrame({"task_id": h100["task_id"], "kind": "headroom on an H100", "ratio": h100["headroom"]}),
        pd.DataFrame({"task_id": here["task_id"], "kind": "headroom here", "ratio": here["headroom"]}),
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame["task"] = "task " + frame["task_id"].astype(str)
    return frame.assign(low=np.nan, high=np.nan).sort_values("task_id", kind="stable", ignore_index=True)
