"""Densities by hand, and runs side by side."""

import numpy as np
import pytest
from adaptation_tables import adapted
from made_tables import table
from scipy import stats

from vegtts_core import metrics


def test_densities_by_hand():
    samples = adapted([[1, 4], [4, 4]], k=4, wrong=1)  # rewards at step 0: 2, .5, .5, 0 and 2, 2, 2, 2
    row = metrics.reward_densities(samples).iloc[0]
    assert (row["nonzero"], row["levels"], row["informative"]) == (7 / 8, 2, 0.5)
    assert row["entropy"] == pytest.approx(stats.entropy([1, 2, 1]) / 2)
    assert row[["rollouts", "groups"]].tolist() == [8, 2]
    assert metrics.reward_densities(samples, step=1).iloc[0]["nonzero"] == 1
    samples["reward"] = [None, 0.501, 0.499, -0.0] + [1.0] * 12
    row = metrics.reward_densities(samples).iloc[0]
    assert (row["nonzero"], row["levels"]) == (6 / 8, 1.5), "missing is 0, and so is -0"
    assert metrics.reward_densities(samples, digits=3).iloc[0]["levels"] == 2


def test_runs_stand_side_by_side():
    early, late = adapted([[1, 1], [4, 4], [0, 0]]), adapted([[1, 1], [1, 1], [4, 4]])
    late["reward"] = (late["reward"] > 1).astype(float) * (late["task_id"] == 0)
    found = metrics.density_and_optimum({"dense": early, "sparse": late}, "published", resamples=100).set_index("run")
    assert found["step"].tolist() == [1, 2] and found["gain"].tolist() == [0.75, 0.75]
    assert found["expected_step"].to_numpy() == pytest.approx([1, 2], abs=0.05)
    assert found.loc["dense", "nonzero"] > found.loc["sparse", "nonzero"] == 1 / 8
    assert found["last_step"].tolist() == [2, 2]
    rho = metrics.density_correlation(found.reset_index(), "nonzero", resamples=10)
    assert np.isnan(rho.rho), "two rows allow no test"
    with pytest.raises(ValueError, match="'loudness'"):
        metrics.density_correlation(found.reset_index(), "loudness")


def test_the_principles_sign_is_negative():
    runs = {f"{n}": adapted([[1, 1], *[[1, 1]] * (3 - n), [4, 4], [0, 0]]) for n in range(4)}
    for n, name in enumerate(runs):
        runs[name]["reward"] = np.where(np.arange(len(runs[name])) % 4 < n, 1.5, 0.0)
    found = metrics.density_and_optimum(runs, "published", resamples=20)
    assert found["step"].tolist() == [4, 3, 2, 1]
    assert metrics.density_correlation(found, "nonzero", resamples=10).rho == pytest.approx(-1)


def test_nothing_is_empty():
    assert metrics.reward_densities(table([])).empty
    assert metrics.density_and_optimum({}, "published").empty
    assert list(metrics.density_and_optimum({}, "published").columns)[:2] == ["run", "seed"]
