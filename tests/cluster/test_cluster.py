"""Everything that needs a Ray cluster, in one file: one cluster of three nodes serves all of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from making import QUICK, reference, with_forward
from ray_nodes import Nodes, kill, wait_until

from vegtts_core.cluster import RayParameters
from vegtts_core.cluster.connection import DEVICE, connect, ray_module, require_devices
from vegtts_core.cluster.evaluation import RayEvaluators
from vegtts_core.cluster.place import check_same, versions
from vegtts_core.cluster.workers import Lost, Workers
from vegtts_core.errors import UserError
from vegtts_core.evaluator.types import ErrorKind
from vegtts_core.runs.files import read_lines
from vegtts_core.runs.schema import MEASURED
from vegtts_core.runs.store import RunStore
from vegtts_core.search import BestOfNParameters, best_of_n
from vegtts_core.tasks import get_task

RUN = {
    "tasks": [4, 19],
    "seeds": [1, 2],
    "k": 5,
    "temperature": 0.7,
    "max_new_tokens": 24,
    "prompts_per_batch": 1,
    "examples": [16],
    "evaluator": {
        "threads": 1,
        "sound": {"min_pairs": 6, "max_pairs": 6, "warmup": 0},
        "published": {"timing_trials": 2},
    },
}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    ray_module().shutdown()
    made.stop()


@pytest.fixture
def ray(nodes: Nodes) -> Any:
    nodes.replace()
    return connect(RayParameters(address=nodes.address), 1)


def made_workers(ray: Any, record: Path, deadly: int = -1) -> Workers:
    """Workers that write what they begin into ``record``; item ``deadly`` kills them, item 13 is the user's mistake."""

    class Squarer:  # a local class travels by value: nodes need not have this file
        def start(self) -> dict[str, Any]:
            return {"node": ray.get_runtime_context().get_node_id(), "versions": versions()}  # without torch

        def square(self, items: Sequence[int]) -> Iterator[int]:
            for item in items:
                with record.open("a") as file:
                    file.write(f"{item} {os.getpid()}\n")
                if item == deadly:
                    time.sleep(0.5)  # what was yielded is on its way: on a busy machine it would die with the worker
                    os.kill(os.getpid(), signal.SIGKILL)
                if item == 13:
                    raise UserError("There is no square of 13: take 12.")
                yield item * item

    remote = ray.remote(num_cpus=0, resources={DEVICE: 1})(Squarer)
    return Workers(ray, DEVICE, 3, 3, remote.remote)


def square(actor: Any, items: Sequence[int]) -> Any:
    return actor.square.options(num_returns="streaming").remote(items)


def test_what_kills_its_worker_is_given_up_and_nothing_else_is_done_twice(ray: Any, tmp_path: Path) -> None:
    record = tmp_path / "record"
    with made_workers(ray, record, deadly=5) as workers:
        results = list(workers.run([[0, 1, 2], [4, 5, 6], [7, 8], [], [9]], square))
    assert sorted(item for item, _ in results) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert all(result == (Lost(3) if item == 5 else item * item) for item, result in results)
    begun = Counter(int(line.split()[0]) for line in record.read_text().splitlines())
    assert begun == {item: 3 if item == 5 else 1 for item in (0, 1, 2, 4, 5, 6, 7, 8, 9)}


def test_a_users_mistake_on_a_node_arrives_as_one_sentence(ray: Any, tmp_path: Path) -> None:
    with (
        made_workers(ray, tmp_path / "record") as workers,
        pytest.raises(UserError, match=r"^There is no square of 13"),
    ):
        list(workers.run([[12, 13]], square))


def test_a_candidate_that_loses_its_evaluator_is_a_crash(ray: Any, nodes: Nodes) -> None:
    task = get_task(19)
    slow, good = with_forward(task, "while True: pass"), reference(task)
    parameters = RayParameters(address=nodes.address, devices=1, deaths=1)
    with RayEvaluators("module", "cpu", [task], QUICK, parameters) as evaluator:
        killer = threading.Thread(target=kill, args=("EvaluationWorker.evaluate",))
        killer.start()
        crashed, fine = evaluator.evaluate([slow, good])
        killer.join()
    assert crashed.error is ErrorKind.CRASH and "killed 1 times" in crashed.reason
    assert crashed.sound is not None and not crashed.sound.correct
    assert fine.sound is not None and fine.sound.correct


def test_a_worker_and_a_node_die_in_mid_run(
    ray: Any, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = best_of_n(BestOfNParameters.checked(RUN), tmp_path / "whole")
    kept: list[tuple[str, ...]] = []
    append = RunStore.append_verdict

    def watched(store: RunStore, value: Any) -> None:
        verdict = value.get("verdict", {})
        kept.append((value["kind"], value.get("task", ""), verdict.get("task_key", ""), verdict.get("fingerprint", "")))
        append(store, value)

    monkeypatch.setattr(RunStore, "append_verdict", watched)
    folder = tmp_path / "broken"

    def disturb() -> None:
        wait_until(lambda: any((folder / "parts").glob("rollouts-*.parquet")))
        kill("SamplingWorker.sample")
        verdicts = folder / "parts" / "verdicts.jsonl"
        wait_until(lambda: any(line["kind"] == "verdict" for line in read_lines(verdicts)))
        nodes.kill_one()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    broken = best_of_n(BestOfNParameters.checked(RUN | {"pool": "ray", "ray": {"address": nodes.address}}), folder)
    disturber.join()
    assert len(nodes.others) == 1
    columns = [name for name in whole.samples.columns if name not in MEASURED]
    pd.testing.assert_frame_equal(broken.samples[columns], whole.samples[columns])
    for name in ("rollouts", "prompt_tokens", "completion_tokens", "student_tokens", "distinct_candidates"):
        assert broken.compute[name] == whole.compute[name]
    judged = [one for one in kept if one[0] != "worker"]
    assert len(judged) == len(set(judged)) > 0
    assert broken.manifest["parameters"] == whole.manifest["parameters"]
    assert broken.manifest["machines"]


def test_a_cluster_without_devices_is_refused(ray: Any, nodes: Nodes) -> None:
    with pytest.raises(UserError, match=r"ray start --num-gpus"):
        require_devices(ray, "GPU", nodes.address)
    with pytest.raises(UserError, match=r"ray start --resources"):
        require_devices(ray, "no_such_device", nodes.address)
    wait_until(lambda: require_devices(ray, DEVICE, nodes.address) == 3, 60)  # a dead node is noticed after a while


def test_an_address_where_nobody_answers_is_refused() -> None:
    ray_module().shutdown()
    with pytest.raises(UserError, match=r"No Ray cluster answers at 127\.0\.0\.1:9"):
        connect(RayParameters(address="127.0.0.1:9"), 1)


@pytest.mark.parametrize(("name", "words"), [("ray", "another version of ray"), ("vegtts_core", "another source code")])
def test_other_versions_on_a_node_are_refused(name: str, words: str) -> None:
    check_same(versions(), versions())
    with pytest.raises(UserError, match=words):
        check_same(versions(), versions() | {name: "other"})
