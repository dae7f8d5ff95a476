"""How much faster a task's answer could be: the reference's time over the least time its device allows.

It reads measured times from a run's ``references`` and KernelBench's published times from the table of facts; it
measures nothing. Floors count a task's matrix work and its bytes, moved once (``vegtts_core.kernels.ceilings``).
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import numpy as np
import pandas as pd


def headroom(references: pd.DataFrame) -> pd.DataFrame:
    """The tasks of a run: one row per row of ``references`` (``vegtts_core.runs.Run``), in its order.

    Columns: task_id, name, family, gflop, megabytes (10^6 bytes), reference_ms, floor_ms, headroom. Times are NaN where
    the reference was not measured.
    """
    reference = pd.to_numeric(references["reference_seconds"])
    return pd.DataFrame(
        {
            "task_id": references["task_id"].astype(int),
            "name": references["name"],
            "family": references["family"],
            "gflop": references["flop"] / 1e9,
            "megabytes": references["min_bytes"] / 1e6,
            "reference_ms": reference * 1e3,
            "floor_ms": references["floor_seconds"] * 1e3,
            "headroom": reference / references["floor_seconds"],
        }
    )


def headroom_h100(task_ids: Iterable[int]) -> pd.DataFrame:
    """The same for the benchmark's own sizes on an H100, from KernelBench's published eager times.

    Columns as in ``headroom``, without family. Its floors take 3.0 TB/s and 67 TFLOP/s (fp32 without tensor cores).
    """
    with (resources.files("vegtts_core.tasks") / "data" / "kernelbench_level1.csv").open(encoding="utf-8") as file:
        facts = pd.read_csv(file).set_index("id").loc[list(task_ids)]
    return pd.DataFrame(
        {
            "task_id": facts.index.astype(int),
            "name": facts["name"].str.replace("_", " "),
            "gflop": facts["gflop"],
            "megabytes": facts["min_gbytes"] * 1e3,
            "reference_ms": facts["h100_eager_ms"],
            "floor_ms": facts["h100_floor_ms_fp32"],
            "headroom": facts["h100_eager_ms"] / facts["h100_floor_ms_fp32"],
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
