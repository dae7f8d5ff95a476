"""Policies side by side: what a cell holds, what the table says of it, and that a killed comparison goes on."""

from __future__ import annotations

import pytest

from vegtts_core.errors import UserError
from vegtts_core.metrics.shares import under
from vegtts_core.training import comparison
from vegtts_core.training.comparison import ComparisonParameters, Contender, cells, compare, report

QUICK = {"protocols": ["sound"], "sound": {"max_seconds": 0.05, "confirmations": 0}}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The shipped adapter twice, shown nothing and shown an example; one task, one scaffold, two temperatures."""
    parameters = ComparisonParameters.checked(
        {
            "policies": {
                "alone": {"adapter": "embedded", "examples": []},
                "shown": {"adapter": "embedded", "examples": [16]},
            },
            "scaffolds": ["template"],
            "tasks": [5],
            "temperatures": [0.25, 1.0],
            "k": 3,
            "evaluator": QUICK,
        }
    )
    folder = tmp_path_factory.mktemp("compared") / "run"
    return parameters, compare(parameters, folder)


def test_every_cell_has_its_rollouts_and_its_row(compared):
    parameters, run = compared
    assert [(c.policy, c.temperature) for c in cells(parameters)] == [
        ("alone", 0.25),
        ("alone", 1.0),
        ("shown", 0.25),
        ("shown", 1.0),
    ]
    assert run.samples.groupby("step").size().to_dict() == {0: 3, 1: 3, 2: 3, 3: 3}
    prompts = run.samples.groupby("step")["prompt_id"].first()
    assert prompts[0] == prompts[1] != prompts[2] == prompts[3]
    rows = report(run)
    view = under(run.samples, "sound")
    for row, cell in zip(rows, cells(parameters), strict=True):
        part = view[view["step"] == cell.number]
        assert (row["policy"], row["temperature"], row["samples"]) == (cell.policy, cell.temperature, 3)
        assert row["correct"] == pytest.approx(part["correct"].mean())
        assert row["median_distinct_correct"] == part[part["correct"]]["fingerprint"].nunique()
        assert row["tasks_solved"] == int(part["correct"].any())
        if part["correct"].any():
            assert row["speedup_p10"] <= row["speedup_median"] <= row["speedup_p90"]
        else:
            assert row["speedup_median"] is None
    assert any(row["correct"] for row in rows)


def test_a_finished_comparison_is_read_and_a_killed_one_goes_on(compared, monkeypatch, tmp_path):
    parameters, run = compared
    monkeypatch.setattr(comparison, "load_policy", lambda *_, **__: pytest.fail("sampled again"))
    assert compare(parameters, run.folder).samples.equals(run.samples)

    monkeypatch.undo()
    asked: list[str | None] = []
    real = comparison.load_policy

    def dies_at_the_second(name, adapter, **rest):
        asked.append(adapter)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(name, adapter, **rest)

    monkeypatch.setattr(comparison, "load_policy", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        compare(parameters, tmp_path / "killed")
    again = compare(parameters, tmp_path / "killed")
    assert len(asked) == 3, "the first policy was loaded again"
    assert list(again.samples["completion"]) == list(run.samples["completion"])


def test_an_example_that_is_asked_for_is_refused(tmp_path):
    parameters = ComparisonParameters(policies={"base": Contender(examples=(5,))}, tasks=(5,), scaffolds=("forward",))
    with pytest.raises(UserError, match="stands as an example"):
        compare(parameters, tmp_path / "run")
