"""Fits of rates: planted ones are found, what cannot be told apart still predicts its own kind, files are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.plan.library import Library
from vegtts_core.plan.rates import FORWARD_SHARE, CandidateRates, Judged, Observations, Rates, fit


@settings(max_examples=40, deadline=None)
@given(
    planted=st.tuples(*[st.floats(1e-3, 1.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_planted_rates_are_found(planted, seed):
    random = np.random.default_rng(seed)
    features = random.uniform(1, 100, (60, 3)) / np.array(planted)  # each kind takes part of the time
    seconds = features @ np.array(planted)
    found = fit(features.tolist(), seconds.tolist())
    assert found is not None
    # The light pull towards equal shares costs little where observations tell kinds apart.
    again = random.uniform(1, 100, (20, 3)) / np.array(planted)
    assert np.allclose(again @ np.array(found), again @ np.array(planted), rtol=0.15)


def test_alike_observations_predict_their_like():
    found = fit([(1000.0, 50.0, 800.0)] * 4, [20.0] * 4)
    assert found is not None and min(found) > 0
    assert np.dot(found, (1000.0, 50.0, 800.0)) == pytest.approx(20.0)


def test_nothing_observed_is_nothing_known():
    assert fit([], []) is None
    assert fit([(1.0,)], [0.0]) is None
    rates = Observations().rates(policy="embedded")
    assert rates.sampling is None and rates.update is None and rates.scoring is None and not rates.evaluation


def test_scoring_that_was_not_observed_is_a_share_of_the_update():
    found = Observations(update=[(1000.0, 500.0, 15.0)]).rates()
    assert found.update is not None and found.scoring == pytest.approx(FORWARD_SHARE * found.update.prompt_token)
    found = Observations(update=[(1000.0, 500.0, 15.0)], scoring=[(100.0, 2.0)]).rates()
    assert found.scoring == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sampling: {prompt_token: fast, step: 1, token: 1}", "sampling.prompt_token is 'fast'"),
        ("sampling: {prompt_token: 1, step: 1, token: -1}", "sampling.token is -1"),
        ("speed: 3", "Unknown parameter speed"),
        ("- 3", "holds no rates"),
        ("{", "neither JSON nor YAML"),
    ],
)
def test_a_file_of_rates_is_checked(tmp_path, text, said):
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        Library.opened([str(path)])
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_what_is_no_run_is_refused():
    with pytest.raises(UserError, match="There is no run in nothing_like_it"):
        Library.opened(["nothing_like_it"])
    with pytest.raises(UserError, match="cannot be read"):
        Library.opened(["nothing.json"])
    with pytest.raises(UserError, match="not made by one policy on one kind of machine"):
        Library.opened(["adaptation_cpu_42", "rlvr_embedded"])


def test_rates_are_written_and_read_alike():
    rates = Observations(sampling=[(1.0, 2.0, 3.0, 4.0)], candidates={"forward": [Judged(1.0, True, True)]}).rates()
    assert Rates.checked(rates.model_dump(mode="json")) == rates


def test_what_a_session_takes_is_told_from_its_candidates():
    """Planted: 5 s to begin with a task, 0.2 s for a wrong candidate, 3 s for a correct one."""
    kinds = [(True, False), (False, False), (True, True), (False, True), (False, True)]  # (first, correct)
    seen = [Judged(5 * first + (3 if correct else 0.2), correct, first) for first, correct in kinds]
    rates = Observations(candidates={"forward": seen}).rates().evaluation["forward"]
    assert (rates.session, rates.wrong, rates.correct) == pytest.approx((5, 0.2, 3))
    assert rates.seconds(2, 10, 4) == pytest.approx(24)


def test_a_candidate_of_a_kind_that_was_never_seen_has_no_time():
    rates = Observations(candidates={"forward": [Judged(0.2, False, False)]}).rates().evaluation["forward"]
    assert rates == CandidateRates(session=0, wrong=0.2, correct=None)
    assert rates.seconds(1, 3, 0) == pytest.approx(0.6) and rates.seconds(1, 3, 1) is None
