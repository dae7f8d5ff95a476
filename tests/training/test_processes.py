"""Training by several processes: an update, and a whole run, are those of one process. Real processes, gloo, CPU."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from safetensors.torch import load_file
from together import CASES, SHARDED, fit

from vegtts_core.errors import UserError
from vegtts_core.project import find_project_root
from vegtts_core.runs.store import Run, load_run
from vegtts_core.training.adaptation import adapt
from vegtts_core.training.checkpoints import DONE, latest_step, step_folder
from vegtts_core.training.groups import shares
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.processes import Processes, join
from vegtts_core.training.sharding import Shards
from vegtts_core.training.warm_start import warm_start
from vegtts_core.training.warm_start_parameters import WarmStartParameters

COUNT = 2
NO_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install -e '.[deepspeed]'"
)
CONFIGURATIONS = find_project_root() / "params" / "accelerate"
HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each of several processes has: another number of threads adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- updates ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    return {name: fit(tiny_policy, folder / name, name) for name in CASES} | {
        "unbroken": fit(tiny_policy, folder / "unbroken", "float32", 4)
    }


@pytest.fixture(scope="module")
def folder(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes made every case."""
    return made(tiny_policy, tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def sharded_folder(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes made some, each with half of the frozen weights."""
    return made(tiny_policy, tmp_path_factory.mktemp("sharded"), ACCELERATE_USE_FSDP="true")


@pytest.fixture(scope="module")
def zero_alone(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process, in float32 throughout, as DeepSpeed keeps weights and moments."""
    folder = tmp_path_factory.mktemp("zero alone")
    return {name: fit(tiny_policy, folder / name, name, single=True) for name in CASES}


@pytest.fixture(scope="module", params=[1, 2], ids=["ZeRO-1", "ZeRO-2"])
def zero_folder(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Where two processes made every case, each with half of the optimiser."""
    more = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(request.param)}
    return made(tiny_policy, tmp_path_factory.mktemp("zero"), **more)


def made(tiny_policy: Path, target: Path, **more: str) -> Path:
    fit(tiny_policy, target / "made by one", "float32", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(COUNT), "LOCAL_WORLD_SIZE": str(COUNT), "OMP_NUM_THREADS": "1"} | more
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, str(HERE / "together.py"), str(tiny_policy), str(target)],
            env=os.environ | common | {"RANK": str(index), "LOCAL_RANK": str(index)},
        )
        for index in range(COUNT)
    ]
    try:
        assert [process.wait(timeout=900) for process in started] == [0] * COUNT
    finally:
        for process in started:
            process.kill()
    return target


@pytest.fixture(scope="module")
def together(folder: Path) -> list[dict[str, Any]]:
    return ended(folder)


@pytest.fixture(scope="module")
def sharded(sharded_folder: Path) -> list[dict[str, Any]]:
    return ended(sharded_folder)


def ended(folder: Path) -> list[dict[str, Any]]:
    """What each process wrote."""
    return [torch.load(folder / f"{index}.pt", weights_only=False) for index in range(COUNT)]


def distance(one: Any, other: Any) -> float:
    return max(float((mine - theirs).abs().max()) for mine, theirs in zip(one, other, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_two_updates_are_those_of_one_process(case: str, alone: dict[str, Any], together: list[dict[str, Any]]) -> None:
    expected, found = alone[case], together[0][case]
    assert distance(found["gradients"], expected["gradients"]) < 1e-12  # float32: the same bits, but for a rare one
    assert max(float(gradient.abs().max()) for gradient in expected["gradients"]) > 1e-4
    assert distance(found["weights"].values(), expected["weights"].values()) < 1e-8
    assert len(found["reports"]) == 2
    for mine, theirs in zip(found["reports"], expected["reports"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("case", [*SHARDED, "resumed"])
def test_spread_weights_change_no_bit(case: str, together: list[dict[str, Any]], sharded: list[dict[str, Any]]) -> None:
    for whole, spread in zip(together, sharded, strict=True):
        assert distance(spread[case]["gradients"], whole[case]["gradients"]) == 0
        assert distance(spread[case]["weights"].values(), whole[case]["weights"].values()) == 0


def test_every_process_ends_with_the_same_bits(together: list[dict[str, Any]]) -> None:
    for case in CASES:
        first, second = (part[case] for part in together)
        assert distance(first["weights"].values(), second["weights"].values()) == 0
        assert distance(first["gradients"], second["gradients"]) == 0


def test_only_the_main_process_reports(together: list[dict[str, Any]]) -> None:
    assert all(together[1][case]["reports"] == [] for case in CASES)
    assert [report["skipped"] for report in together[0]["silent first"]["reports"]] == [True, False]
    assert [report["silent_groups"] for report in together[0]["one heard"]["reports"]] == [2, 2]


def test_a_run_goes_on_under_another_number_of_processes(
    alone: dict[str, Any], together: list[dict[str, Any]], folder: Path, tiny_policy: Path
) -> None:
    expected = alone["unbroken"]["weights"]
    assert distance(together[0]["resumed"]["weights"].values(), expected.values()) == 0  # one, then two processes
    found = fit(tiny_policy, folder / "float32", "float32", 4)["weights"]  # two, then one
    assert distance(found.values(), expected.values()) == 0


def test_a_checkpoint_holds_each_processs_state_and_the_older_ones_none(folder: Path) -> None:
    target = folder / "made by one"
    names = {path.name for path in step_folder(target, 4).iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", DONE} <= names
    assert not list(step_folder(target, 2).glob("rng_state*")) + list(step_folder(target, 3).glob("rng_state*"))


def test_all_stop_where_the_loss_of_one_is_not_finite(together: list[dict[str, Any]], folder: Path) -> None:
    assert together[0]["infinite"].startswith("UserError: The loss of step 0 is")
    assert together[1]["infinite"].startswith("ToldByMain: The loss of step 0 is")
    assert latest_step(folder / "infinite") == 0


@pytest.mark.parametrize("where", ["folder", "sharded_folder"])
def test_all_stop_where_a_gradient_of_one_is_not_finite(where: str, request: pytest.FixtureRequest) -> None:
    assert_stopped(request.getfixturevalue(where))


def assert_stopped(target: Path) -> None:
    found = ended(target)
    assert found[0]["spoiled"].startswith("UserError: A gradient of step 0 is not finite")
    assert found[1]["spoiled"].startswith("ToldByMain: A gradient of step 0 is not finite")
    assert latest_step(target / "spoiled") == 0


# -- DeepSpeed --------------------------------------------------------------------------------------------------------


def relative(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Distance as a part of the length."""
    mine, theirs = (torch.cat([part.flatten() for part in parts]) for parts in (found, expected))
    return float((mine - theirs).norm() / theirs.norm())


@NO_DEEPSPEED
def test_updates_with_a_spread_optimiser_are_those_of_one_process(
    zero_alone: dict[str, Any], zero_folder: Path, request: pytest.FixtureRequest
) -> None:
    first, second = ended(zero_folder)
    for case in SHARDED if request.node.callspec.params["zero_folder"] == 1 else CASES:
        expected, found = zero_alone[case], first[case]
        assert len(found["gradients"]) == len(expected["gradients"])
        for mine, theirs in zip(found["gradients"], expected["gradients"], strict=True):
            assert relative([mine], [theirs]) < 1e-6, case
        weights = [list(part["weights"].values()) for part in (found, expected, second[case])]
        assert relative(weights[0], weights[1]) < 1e-5, case
        assert distance(weights[2], weights[0]) == 0
        for mine, theirs in zip(found["reports"], expected["reports"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-8, nan_ok=True)
        assert second[case]["reports"] == []


@NO_DEEPSPEED
def test_all_stop_with_a_spread_optimiser_too(zero_folder: Path) -> None:
    assert_stopped(zero_folder)
    assert ended(zero_folder)[0]["infinite"].startswith("UserError: The loss of step 0 is")


@NO_DEEPSPEED
def test_a_run_goes_on_with_a_spread_optimiser_and_without(
    alone: dict[str, Any], zero_folder: Path, tiny_policy: Path
) -> None:
    expected = list(alone["unbroken"]["weights"].values())
    resumed = ended(zero_folder)[0]["resumed"]["weights"]  # one process, then two with DeepSpeed
    assert relative(list(resumed.values()), expected) < 1e-5
    found = fit(tiny_policy, zero_folder / "float32", "float32", 4)["weights"]  # two with DeepSpeed, then one
    assert relative(list(found.values()), expected) < 1e-5


@NO_DEEPSPEED
def test_a_checkpoint_of_a_spread_optimiser_is_an_ordinary_one(zero_folder: Path, folder: Path) -> None:
    target, other = (step_folder(place / "made by one", 4) for place in (zero_folder, folder))
    assert {path.name for path in target.iterdir()} == {path.name for path in other.iterdir()}
    state, plain = (torch.load(place / "optimizer.pt", weights_only=True) for place in (target, other))
    assert state["param_groups"] == plain["param_groups"]
    assert {place: set(held) for place, held in state["state"].items()} == {
        place: set(held) for place, held in plain["state"].items()
    }
    for name in ("step", "exp_avg", "exp_avg_sq"):
        mine, theirs = ([held[name] for held in whole["state"].values()] for whole in (state, plain))
        assert relative(mine, theirs) < 1e-5


def test_shares_are_disjoint_whole_and_level() -> None:
    sizes = [400, 30, 500, 200, 210, 10, 350]
    found = shares(sizes, 3)
    assert sorted(place for share in found for place in share) == list(range(7))
    loads = [sum(sizes[place] for place in share) for share in found]
    assert max(loads) - min(loads) < 150
    assert shares([5], 3) == [[0], [], []]


# -- a whole run ------------------------------------------------------------------------------------------------------


def values(policy: Path) -> dict[str, Any]:
    return {
        "policy": str(policy),
        "lora": {"rank": 4, "alpha": 8},
        "tasks": [30, 12, 4],
        "examples": [],
        "k": 3,
        "steps": 3,
        "temperature": 1.0,
        "max_new_tokens": 8,
        "algorithm": "sdpo",  # a model that is never right has a gradient only there
        "update": {"learning_rate": 1.0e-3},
        "evaluator": {"protocols": ["sound"]},
    }


def launch(configuration: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    """``accelerate launch`` with a shipped configuration."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(CONFIGURATIONS / f"{configuration}.yaml"), "-m", "vegtts_core.training", "adapt"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True, **more)


@pytest.fixture(scope="module")
def one(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return adapt(AdaptationParameters.checked(values(tiny_policy)), tmp_path_factory.mktemp("one") / "run")


@pytest.fixture(scope="module")
def two(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return broken_and_resumed("ddp_cpu", tiny_policy, tmp_path_factory.mktemp("two"))


def broken_and_resumed(configuration: str, tiny_policy: Path, folder: Path) -> Run:
    """The same run by two processes, all killed after the first update and started again."""
    source = folder / "tiny.yaml"
    source.write_text(yaml.safe_dump({"adaptation": values(tiny_policy)}))
    arguments = ("--params", str(source), "--folder", str(folder))
    run = folder / "adaptation"
    broken = launch(configuration, *arguments)
    until = time.monotonic() + 600
    while not (step_folder(run / "checkpoints", 1) / DONE).is_file():
        assert broken.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    for process in [*psutil.Process(broken.pid).children(recursive=True), psutil.Process(broken.pid)]:
        process.kill()
    broken.communicate()
    whole = launch(configuration, *arguments, stdout=subprocess.PIPE)
    printed, said = whole.communicate(timeout=600)
    assert whole.returncode == 0, said
    assert printed.count("rollouts in") == said.count("step 2:") == 1  # one process speaks
    return load_run(run)


def test_a_whole_run_is_that_of_one_process(one: Run, two: Run) -> None:
    assert_same(one, two)


@NO_DEEPSPEED
def test_a_whole_run_with_deepspeed_is_that_of_one_process(one: Run, tiny_policy: Path, tmp_path: Path) -> None:
    assert_same(one, broken_and_resumed("deepspeed_cpu", tiny_policy, tmp_path))


def assert_same(one: Run, two: Run) -> None:
    assert one.manifest["processes"] == 1 and two.manifest["processes"] == COUNT
    timed = [name for name in one.samples if name.endswith("_seconds")]
    pd.testing.assert_frame_equal(two.samples.drop(columns=timed), one.samples.drop(columns=timed), rtol=1e-5)
    timed = [name for name in one.steps if name.endswith("_seconds")]
    # An adapter's digest changes with any last digit; so may the fourth, the last, of what is recorded of the teacher.
    # A loss is a sum of terms of both signs, some 1e-2 in size, that nearly cancel.
    rounded = ("adapter_sha256", "evaluated", "distillation")
    same = [name for name in one.steps if name not in timed and name not in rounded]
    pd.testing.assert_frame_equal(two.steps[same], one.steps[same], rtol=1e-4, atol=5e-7)
    counts = [name for name in one.compute if not name.endswith("_seconds")]
    assert {name: two.compute[name] for name in counts} == {name: one.compute[name] for name in counts}
    different = {"files", "adapters", "processes"}
    assert {k: v for k, v in two.manifest.items() if k not in different} == {
        k: v for k, v in one.manifest.items() if k not in different
    }


def test_its_adapters_are_those_of_one_process(one: Run, two: Run) -> None:
    # A process samples and scores its share of the tasks: a matrix of another height may round otherwise.
    first, mine, theirs = (
        list(load_file(step_folder(run.folder / "checkpoints", step) / "adapter_model.safetensors").values())
        for run, step in ((one, 1), (two, 3), (one, 3))
    )
    moved = relative(theirs, first)
    assert moved > 1e-3 and relative(mine, theirs) < 1e-3 * moved


def test_an_error_is_said_once_and_in_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "missing.yaml"
    source.write_text(yaml.safe_dump({"adaptation": {"policy": str(tmp_path / "nothing.gguf"), "tasks": [30]}}))
    failed = launch("ddp_cpu", "--params", str(source), "--folder", str(tmp_path / "run"))
    said = failed.communicate(timeout=600)[1]
    assert failed.returncode != 0
    assert said.count("error: There is no GGUF file") == 1


# -- what does not work -----------------------------------------------------------------------------------------------


def test_launches_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(torch.cuda.device_count() + 1))
    with pytest.raises(UserError, match="set num_processes to their number"):
        join("cuda")


@pytest.mark.parametrize(
    "entry", [("ZERO_STAGE", "3"), ("OFFLOAD_OPTIMIZER_DEVICE", "cpu"), ("CONFIG_FILE", "ds.json")], ids=lambda e: e[0]
)
def test_what_deepspeed_is_not_supported_for(entry: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("ACCELERATE_USE_DEEPSPEED", "true")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{entry[0]}", entry[1])
    with pytest.raises(UserError, match=r"DeepSpeed .*zero_stage 1 or 2.*deepspeed\.yaml, or fsdp\.yaml"):
        join("cpu")


def test_deepspeed_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("ACCELERATE_USE_DEEPSPEED", "true")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"DeepSpeed is not installed: pip install"):
        join("cpu")


def test_weights_are_not_spread_where_passes_would_differ() -> None:
    with pytest.raises(UserError, match=r"needs update\.shared_prompt"):
        Shards.of(None, Processes(2, 0, None, sharded=True), shared_prompt=False)


def test_a_warm_start_is_made_by_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vegtts_core.training.warm_start.join", lambda device: Processes(2, 1))
    with pytest.raises(UserError, match="runs in one process"):
        warm_start(WarmStartParameters(), tmp_path)


# -- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_configuration(path: Path) -> None:
    found = load_config_from_file(str(path))
    assert isinstance(found, ClusterConfig) and found.num_processes >= COUNT
    assert set(yaml.safe_load(path.read_text())) <= set(vars(found))
