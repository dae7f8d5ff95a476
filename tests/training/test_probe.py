"""A probe and a transfer of a tiny run's checkpoints: what is scored, what resumes, what is refused, what is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vegtts_core.errors import UserError
from vegtts_core.policy.load import load_policy
from vegtts_core.runs.store import Run, load_run
from vegtts_core.training import probe as probing
from vegtts_core.training.adaptation import adapt
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.probe import fixed_samples, load_probe, probe_run, prompts_of
from vegtts_core.training.transfer import steps_worth_judging, transfer


@pytest.fixture(scope="module")
def run(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    values = {
        "policy": str(tiny_policy),
        "lora": {"rank": 4, "alpha": 8},
        "tasks": [30, 12],
        "examples": [],
        "k": 3,
        "steps": 2,
        "temperature": 1.0,
        "max_new_tokens": 8,
        "algorithm": "sdpo",
        "update": {"learning_rate": 1.0e-2},
        "evaluator": {"protocols": ["sound"]},
    }
    return adapt(AdaptationParameters.checked(values), tmp_path_factory.mktemp("probed") / "run")


def test_every_checkpoint_scores_every_fixed_sample(run: Run, tmp_path: Path) -> None:
    found = probe_run(run, run, tmp_path / "probe")
    assert len(found.samples) == 6 and found.samples["step"].eq(0).all()
    assert list(found.nll.columns) == probing.NLL.names
    assert found.nll.groupby("step")["row"].apply(list).tolist() == [list(range(6))] * 3
    # Step 0 is the policy that wrote them: its scores are the recorded surprisals.
    first = found.nll[found.nll["step"] == 0].set_index("row")
    assert first["nll_mean"].to_numpy() == pytest.approx(-found.samples["mean_logprob"].to_numpy(), abs=1e-5)
    assert found.manifest["largest_difference_to_recorded"] < 1e-5
    assert (first["nll_sum"] / first["tokens"]).to_numpy() == pytest.approx(first["nll_mean"].to_numpy())
    # Later ones are other policies, each with the scores that it gives by itself.
    adapted = load_policy(run.manifest["parameters"]["policy"], str(run.folder / "checkpoints" / "checkpoint-2"))
    rows = fixed_samples(run)
    alone = probing.score(adapted, 2, rows, prompts_of(run))
    last = found.nll[found.nll["step"] == 2]
    assert last["nll_mean"].to_numpy() == pytest.approx([row["nll_mean"] for row in alone], abs=1e-6)
    assert abs(last["nll_mean"].to_numpy() - first["nll_mean"].to_numpy()).max() > 1e-4


def test_a_probe_goes_on_where_it_was_killed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = probe_run(run, run, tmp_path / "whole")
    scored: list[int] = []
    real = probing.score

    def dies(policy: object, step: int, *rest: object) -> object:
        if step == 2 and len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(step)
        return real(policy, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(probing, "score", dies)
    with pytest.raises(KeyboardInterrupt):
        probe_run(run, run, tmp_path / "cut")
    with pytest.raises(UserError, match="not finished"):
        load_probe(tmp_path / "cut")
    scored.append(-1)
    again = probe_run(run, run, tmp_path / "cut")
    assert scored == [0, 1, -1, 2]
    assert again.nll.equals(whole.nll) and again.manifest["files"] | {"probe_compute.json": 0} == whole.manifest[
        "files"
    ] | {"probe_compute.json": 0}


def test_a_manifest_names_no_place_of_this_machine(run: Run, tmp_path: Path) -> None:
    found = probe_run(run, run, tmp_path / "probe", first=1)
    assert len(found.samples) == 2
    parameters = found.manifest["parameters"] | {"policy": None}  # the test's policy is a folder
    assert str(tmp_path.parent) not in json.dumps(parameters) and str(run.folder.parent) not in json.dumps(parameters)
    assert parameters["origin"]["first_update_saw_them"] is True
    digests = {step: facts["sha256"] for step, facts in parameters["adapters"].items()}
    assert digests == {"0": None, **run.manifest["adapters"]}


def test_another_runs_adapter_is_refused(run: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "checkpoints"
    shutil.copytree(run.folder / "checkpoints", wrong)
    shutil.copytree(wrong / "checkpoint-1", wrong / "checkpoint-2", dirs_exist_ok=True)
    with pytest.raises(UserError, match="is not the one"):
        probe_run(run, run, tmp_path / "probe", checkpoints=wrong)
    with pytest.raises(UserError, match="There is no adapter"):
        probe_run(run, run, tmp_path / "probe", checkpoints=tmp_path / "nowhere")
    with pytest.raises(UserError, match="no samples of step 0"):
        fixed_samples(run, seed=1)
    with pytest.raises(UserError, match="kind adaptation"):
        load_probe(run.folder)


def test_a_transfer_says_which_checkpoint_wrote_what(run: Run, tmp_path: Path) -> None:
    assert steps_worth_judging(run) == [0, 2]  # nothing is ever right: the base is the best
    found = transfer(run, [28], tmp_path / "transfer", steps=[1, 2], k=2)
    sizes = found.samples.groupby(["step", "seed"]).size().to_dict()
    assert sizes == {(0, 42): 2, (0, 43): 4, (1, 42): 2, (2, 42): 2}
    assert set(found.samples["task_id"]) == {28} and found.samples["reward"].eq(0).all()
    parameters = found.manifest["parameters"]
    assert parameters["checkpoints"]["2"]["sha256"] == run.manifest["adapters"]["2"]
    assert parameters["run"] == "run" and str(tmp_path) not in json.dumps(parameters | {"policy": None})
    again = transfer(run, [28], tmp_path / "transfer", steps=[1, 2], k=2)
    assert again.samples.equals(found.samples) and load_run(found.folder).compute["rollouts"] == 10
    with pytest.raises(UserError, match="was adapted on level1/30"):
        transfer(run, [30, 28], tmp_path / "own")
