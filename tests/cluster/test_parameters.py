"""Where the work is done: what can be asked for, and that it does not change what a run is. Needs no Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vegtts_core.cluster.connection import ray_module
from vegtts_core.errors import UserError
from vegtts_core.search import BestOfNParameters


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "head.cluster:6379", "[::1]:6379"])
def test_addresses(address: str) -> None:
    parameters = BestOfNParameters.checked({"pool": "ray", "ray": {"address": address}})
    assert parameters.cluster is not None and parameters.cluster.address == address


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ray": {"address": "ray://head:10001"}}, r"ray\.address .*use auto, local or host:port"),
        ({"ray": {"address": "head"}}, r"ray\.address .*use auto, local or host:port"),
        ({"pool": "cluster"}, r"Parameter pool is 'cluster'"),
        ({"ray": {"deaths": 0}}, r"Parameter ray\.deaths is 0"),
    ],
)
def test_wrong_ones_are_refused_by_name(given: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        BestOfNParameters.checked(given)


def test_a_run_is_the_same_wherever_it_is_made() -> None:
    here, there = BestOfNParameters(), BestOfNParameters.checked({"pool": "ray", "ray": {"address": "local"}})
    assert here.cluster is None
    assert here.identity == there.identity and not {"pool", "ray"} & here.identity.keys()


def test_ray_is_imported_only_when_asked_for() -> None:
    program = "import sys, vegtts_core.search, vegtts_core.cluster.sampling; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=300).returncode == 0


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'vegtts_core\[ray\]'"):
        ray_module()
