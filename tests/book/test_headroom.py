"""Headroom: a floor that nothing can beat by skipping what a task makes zero."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd
import pytest

from vegtts_core.book.headroom import H100_DATA_SHEET_BYTES_PER_SECOND, headroom, headroom_h100
from vegtts_core.tasks import Size, get_task
from vegtts_core.tasks.load import named_selections
from vegtts_core.tasks.work import least_flop

PEAK = 1e11
EVERY = named_selections()["level1"]


def row(key, seconds=1.0, size=Size.CPU, **more):
    """A row of ``references`` whose floor is decided by operations, as a search writes it."""
    task = get_task(key, size)
    known = {"task": task.key, "task_id": task.id, "name": task.name, "family": "x", "size": task.size.value}
    work = {"flop": task.flop, "min_bytes": task.min_bytes, "floor_seconds": task.flop / PEAK}
    limits = {"ceiling_flop_per_second": PEAK, "ceiling_bytes_per_second": 1e15}
    return known | work | limits | {"reference_seconds": seconds} | more


def floors(*rows):
    return list(headroom(pd.DataFrame(rows))["floor_ms"] / 1e3)


def test_zeros_that_a_contract_promises_are_not_counted() -> None:
    dense, triangular = floors(row(1), row(14))
    assert dense == get_task(1, Size.CPU).flop / PEAK
    assert triangular == least_flop(get_task(14, Size.CPU)) / PEAK < dense / 5.9


def test_a_floor_of_bytes_or_of_another_task_stays() -> None:
    assert floors(row(14, floor_seconds=0.5)) == [0.5]  # longer than the operations take: bytes decide
    least = least_flop(get_task(14, Size.CPU)) / PEAK
    assert floors(row(14, floor_seconds=least)) == [least]  # recorded with the least work in the first place
    slow = row(14, ceiling_bytes_per_second=row(14)["min_bytes"] / 7.0)
    assert floors(slow) == [7.0]  # with the least work, bytes decide
    assert floors(row(14, task="level2/14")) == [row(14)["floor_seconds"]]
    assert floors(row(14, flop=7.0, floor_seconds=7.0 / PEAK)) == [7.0 / PEAK]  # a reference of the user's own
    assert pd.isna(floors(row(14, ceiling_flop_per_second=None, floor_seconds=None))[0])


def test_the_table_of_facts_is_the_same_where_nothing_can_be_skipped() -> None:
    room = headroom_h100(EVERY).set_index("task_id")
    with (files("vegtts_core.tasks") / "data" / "kernelbench_level1.csv").open(encoding="utf-8") as file:
        facts = pd.read_csv(file).set_index("id")["h100_floor_ms_fp32"]
    share = room["floor_ms"] / facts
    assert set(share.index[share < 0.98]) == {14, 15}
    assert share.drop([14, 15, 81]).to_numpy() == pytest.approx(1.0, rel=2e-3)  # 81's strides jump over some input
    assert room.loc[[14, 15], "headroom"].to_numpy() == pytest.approx([7.9, 7.9], abs=0.05)


def test_nothing_in_fp32_is_faster_than_the_data_sheet_allows() -> None:
    # Eager convolutions and attention run in TF32 or half precision, or by an algorithm with less work.
    room = headroom_h100([task for task in EVERY if get_task(task).family not in ("convolution", "attention")])
    assert (room["headroom"] > 0.96).all()
    sheet = headroom_h100(room["task_id"], H100_DATA_SHEET_BYTES_PER_SECOND)
    assert (sheet["headroom"] > 1).all()
