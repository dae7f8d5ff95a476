"""Ceilings are sane, and floors are arithmetic. No assertion depends on how busy the machine is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.kernels.ceilings import MIB, Ceilings, Rung, floor_seconds, last_level_cache, measure

MADE_UP = Ceilings(
    bytes_per_second=10e9,
    flop_per_second=100e9,
    threads=2,
    cpu_model="made up",
    rungs=(Rung(1 * MIB, 100e9), Rung(16 * MIB, 40e9), Rung(256 * MIB, 10e9)),
    last_level_cache=32 * MIB,
    beyond_cache=True,
)


def test_measured_ceilings_are_of_this_world():
    found = measure()
    assert 1 <= found.threads <= 2 and found.cpu_model
    # One slow core to a few hundred fast ones; bytes/s and flop/s, not their prefixes.
    assert 1e9 < found.flop_per_second < 1e14
    assert 1e8 < found.bytes_per_second < 1e13
    sizes = [rung.working_set for rung in found.rungs]
    assert sizes == sorted(set(sizes)) and len(sizes) >= 2
    assert all(1e8 < rung.bytes_per_second < 1e14 for rung in found.rungs)
    assert found.bytes_per_second == found.rungs[-1].bytes_per_second
    assert found.last_level_cache == last_level_cache() >= 0
    assert measure() is found


def test_floor_is_the_longer_of_arithmetic_and_traffic():
    assert floor_seconds(1e9, 0, MADE_UP) == pytest.approx(0.01)
    assert floor_seconds(0, 512 * MIB, MADE_UP) == pytest.approx(512 * MIB / 10e9)
    assert floor_seconds(1e9, 512 * MIB, MADE_UP) == pytest.approx(512 * MIB / 10e9)
    assert floor_seconds(0, 0, MADE_UP) == 0


def test_data_that_fits_a_cache_gets_the_caches_bandwidth():
    assert floor_seconds(0, 20 * MIB, MADE_UP) == pytest.approx(20 * MIB / 40e9)
    assert floor_seconds(0, MIB // 2, MADE_UP) == pytest.approx(MIB / 2 / 100e9)
    # Between two rungs the faster one holds: the floor must stay a floor.
    assert MADE_UP.bandwidth(255 * MIB) == 40e9


def test_a_disturbed_small_rung_does_not_raise_the_floor():
    disturbed = Ceilings(10e9, 100e9, 2, "x", (Rung(1 * MIB, 5e9), Rung(16 * MIB, 40e9)), 0, False)
    assert disturbed.bandwidth(2 * MIB) == 40e9


@settings(deadline=None)
@given(st.floats(0, 1e15), st.floats(0, 1e12), st.floats(0, 1e12))
def test_floor_grows_with_operations_and_the_bandwidth_never_grows_with_size(flop, small, large):
    small, large = sorted((small, large))
    assert MADE_UP.bandwidth(small) >= MADE_UP.bandwidth(large)
    assert floor_seconds(flop, small, MADE_UP) <= floor_seconds(2 * flop, small, MADE_UP)
    assert floor_seconds(flop, small, MADE_UP) <= floor_seconds(flop, large, MADE_UP)


def test_negative_work_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        floor_seconds(-1, 0, MADE_UP)
