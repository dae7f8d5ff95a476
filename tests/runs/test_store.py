import json
from pathlib import Path
from typing import Any

import pytest

from vegtts_core.errors import UserError
from vegtts_core.runs import RunStore, load_run
from vegtts_core.runs.schema import SAMPLES

PARAMETERS = {"k": 2, "protocols": frozenset({"sound", "published"})}


def row(sample: int, **more: Any) -> dict[str, Any]:
    empty = {field.name: None for field in SAMPLES}
    return empty | {"task": "level1/4", "task_id": 4, "seed": 42, "step": 0, "sample": sample, "tokens": 3} | more


def finished(folder: Path) -> Path:
    with RunStore.opened(folder, "best_of_n", PARAMETERS) as store:
        store.write_unit("0", [row(1), row(0)], {"seconds": 1.5})
        rows, facts = store.units()
        assert facts == [{"seconds": 1.5}]
        store.finish(rows, [{"task": "level1/4"}], {"rollouts": 2}, {"machine": {}})
    return folder


def test_a_finished_run_is_sorted_explained_and_free_of_parts(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    run = load_run(folder)
    assert run.samples["sample"].tolist() == [0, 1]
    assert run.compute == {"rollouts": 2}
    assert run.manifest["parameters"] == {"k": 2, "protocols": ["published", "sound"]}
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["best_of_n_compute.json", "manifest.json", "references.json", "samples.parquet"]
    assert run.manifest["files"]["samples.parquet"]["rows"] == 2


def test_units_and_verdicts_outlive_the_writer(tmp_path: Path) -> None:
    with RunStore.opened(tmp_path, "best_of_n", PARAMETERS) as store:
        store.write_unit("0", [row(0)], {})
        store.append_verdict({"kind": "verdict", "error": float("nan")})
    with RunStore.opened(tmp_path, "best_of_n", PARAMETERS) as store:
        assert store.has_unit("0")
        assert not store.has_unit("1")
        assert len(store.verdicts()) == 1
        assert not store.complete


def test_a_rollout_is_never_counted_twice(tmp_path: Path) -> None:
    with RunStore.opened(tmp_path, "best_of_n", PARAMETERS) as store, pytest.raises(AssertionError, match="twice"):
        store.finish([row(0), row(0)], [], {}, {})


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    with pytest.raises(UserError, match="other parameters"), RunStore.opened(tmp_path, "best_of_n", {"k": 3}):
        pass


def test_missing_unfinished_and_altered_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        load_run(tmp_path)
    with RunStore.opened(tmp_path / "a", "best_of_n", PARAMETERS), pytest.raises(UserError, match="not finished"):
        load_run(tmp_path / "a")
    folder = finished(tmp_path / "b")
    (folder / "references.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match=r"references\.json"):
        load_run(folder)
