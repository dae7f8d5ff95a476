"""A run that was cut keeps the tasks that are whole, and says which are missing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from vegtts_core.errors import UserError
from vegtts_core.runs.store import RunStore
from vegtts_core.search.best_of_n import best_of_n
from vegtts_core.search.closing import close_run, main
from vegtts_core.search.parameters import BestOfNParameters

WHY = "The lent GPU's time was over."


@pytest.fixture(scope="module")
def ended(tiny_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended when a candidate of task 12 had been evaluated."""
    folder = tmp_path_factory.mktemp("closing") / "run"
    parameters = BestOfNParameters(**(yaml.safe_load(tiny_yaml.read_text())["best_of_n"] | {"seeds": [1]}))
    appended = RunStore.append_verdict

    def until_task_12(store: RunStore, record: dict[str, Any]) -> None:
        if record["kind"] == "verdict" and record["verdict"]["task_key"] == "level1/12":
            raise KeyboardInterrupt
        appended(store, record)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunStore, "append_verdict", until_task_12)
        best_of_n(parameters, folder)
    return folder


@pytest.fixture
def unfinished(ended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended, tmp_path / "run"))


def test_whole_tasks_stay(unfinished: Path) -> None:
    run = close_run(unfinished, WHY)
    assert set(run.samples["task"]) == {"level1/4"} and len(run.samples) == 6
    assert run.manifest["cut"]["why"] == WHY
    assert run.manifest["cut"]["tasks_left_out"] == ["level1/12"]
    correct = run.samples.loc[run.samples["sound_correct"].eq(True), "fingerprint"].nunique()
    assert run.manifest["cut"]["not_retimed"] == correct
    assert list(run.references["task"]) == ["level1/4"]
    assert run.compute["rollouts"] == 6 and run.manifest["task_names"].keys() == {"level1/4"}
    with pytest.raises(UserError, match="no unfinished Best-of-N run"):
        close_run(unfinished, WHY)


def test_a_task_that_was_not_sampled_under_every_seed_is_not_whole(
    unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = unfinished / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"seeds": [\n      1\n    ]', '"seeds": [\n      1,\n      2\n    ]')
    )
    assert "2\n    ]" in manifest.read_text()
    assert main([str(unfinished), "--why", WHY]) == 1
    assert "no task that is sampled and judged to its end" in capsys.readouterr().err
    assert main([str(unfinished.parent / "elsewhere"), "--why", WHY]) == 1
    assert "holds no run" in capsys.readouterr().err
