"""A real, tiny Best-of-N run: the embedded policy, real candidates, real verdicts."""

from pathlib import Path

import pandas as pd
import pytest

from vegtts_core.errors import UserError
from vegtts_core.runs import Run
from vegtts_core.runs.schema import SAMPLES
from vegtts_core.search import BestOfNParameters, best_of_n


@pytest.fixture(scope="module")
def parameters(tiny_yaml: Path) -> BestOfNParameters:
    return BestOfNParameters.read("best_of_n", tiny_yaml)


@pytest.fixture(scope="module")
def run(parameters: BestOfNParameters, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return best_of_n(parameters, tmp_path_factory.mktemp("run"))


def test_one_row_per_rollout_with_every_column(run: Run) -> None:
    assert list(run.samples.columns) == SAMPLES.names
    assert len(run.samples) == run.compute["rollouts"] == 2 * 2 * 6
    counts = run.samples.groupby(["task", "seed"])["sample"].apply(sorted)
    assert all(samples == list(range(6)) for samples in counts)


def test_log_probabilities_have_one_entry_per_token(run: Run) -> None:
    for row in run.samples.itertuples():
        assert row.tokens == len(row.token_ids) == len(row.logprobs) == len(row.sampling_logprobs)
        assert row.mean_logprob == pytest.approx(sum(row.logprobs) / row.tokens)


def test_rewards_are_zero_unless_correct(run: Run) -> None:
    samples = run.samples
    wrong = samples[~samples["sound_correct"].fillna(False).astype(bool)]
    assert (wrong["reward"] == 0).all()
    assert (wrong["reason"] != "").all()
    right = samples[samples["sound_correct"].fillna(False).astype(bool)]
    assert (right["reward"] == right["sound_speedup"]).all()


def test_equal_candidates_share_one_verdict(run: Run) -> None:
    known = run.samples.dropna(subset=["fingerprint"])
    per_candidate = known.groupby(["task", "fingerprint"])["evaluation_seconds"].nunique()
    assert (per_candidate == 1).all()
    assert run.compute["distinct_candidates"] == len(per_candidate)


def test_every_correct_candidate_is_measured_twice(run: Run) -> None:
    known = run.samples.dropna(subset=["fingerprint"])
    right = known["error"].isna()
    assert right.any() and (known["retimed_correct"].notna() == right).all()
    again = known[right & known["retimed_correct"].eq(True)]
    assert (again["retimed_sound_speedup"] > 0).all() and (again["retimed_published_speedup"] > 0).all()
    assert (again["retimed_sound_speedup"] != again["sound_speedup"]).all()
    assert run.compute["retiming_seconds"] > 0


def test_references_say_what_a_speedup_can_mean(run: Run) -> None:
    references = run.references
    assert references["task_id"].tolist() == [4, 12]
    assert (references["reference_seconds"] > 0).all()
    assert (references["floor_seconds"] > 0).all()


def test_compute_adds_up(run: Run) -> None:
    compute = run.compute
    assert compute["completion_tokens"] == run.samples["tokens"].sum()
    assert compute["student_tokens"] == compute["prompt_tokens"] + compute["completion_tokens"]
    assert compute["teacher_tokens"] == 0


def test_the_manifest_names_weights_versions_and_machine(run: Run) -> None:
    manifest = run.manifest
    assert len(manifest["policy"]["weights_sha256"]) == 64
    assert {"python", "torch", "transformers"} <= set(manifest["versions"])
    assert manifest["machine"]["cores"] >= 1
    assert manifest["parameters"]["k"] == 6


def test_a_finished_run_is_returned_without_working_again(run: Run, parameters: BestOfNParameters) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    again = best_of_n(parameters, run.folder)
    pd.testing.assert_frame_equal(again.samples, run.samples)
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before


def test_an_evaluation_task_cannot_be_an_example(tmp_path: Path) -> None:
    parameters = BestOfNParameters(tasks=(16,), examples=(16,))
    with pytest.raises(UserError, match="take it out of examples"):
        best_of_n(parameters, tmp_path)
