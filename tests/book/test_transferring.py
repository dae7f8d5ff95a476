"""Chapter 5.5's helpers: directions, controls, and sentences for any data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_tables import sample, table

from vegtts_core.book import transferring
from vegtts_core.book import transferring_words as words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.book.transferring import Direction
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

S1, S2 = (4, 5, 12, 14, 15), (18, 28, 29, 30, 32)


def made(tasks, draws, correct=True):
    """``draws``: (step, seed, k, fast of k per task); a completion says whether it is fast."""
    rows = [
        sample(
            task=f"level1/{task}",
            task_id=task,
            seed=seed,
            step=step,
            sample=i,
            correct=correct,
            speedup=2.0 if i < fast else 0.5,
            completion=f"{i < fast}",
            fingerprint=f"f{i < fast}",
        )
        for step, seed, k, counts in draws
        for task, fast in zip(tasks, counts, strict=True)
        for i in range(k)
    ]
    return table(rows)


def run(samples, seed=42, **more):
    parameters = {"protocol": "sound", "seed": seed, "adapter": None} | more
    policy = {"name": "embedded", "weights_sha256": "w", "adapter_sha256": None}
    manifest = {"parameters": parameters, "policy": policy, "machine": {"cores": 2, "cpu": "X"}}
    return Run(Path("a"), manifest, samples, {}, pd.DataFrame())


def adaptation(seed=42, k=4, best=1):
    counts = [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    counts[best] = [2, 2, 2, 1, 1]
    return run(made(S1, [(step, seed, k, row) for step, row in enumerate(counts)]), seed)


def direction(adapted=(0, 1, 1, 1, 1), base=(2, 2, 2, 2, 2), control=(4, 4, 4, 4, 4), best=1, correct=True):
    draws = [(0, 42, 4, base), (2, 42, 4, adapted)]
    draws += [(best, 42, 4, adapted)] if best not in (0, 2) else []
    draws += [(0, 43, 8, control)] if control else []
    steps = {str(step): {} for step in sorted({0, best, 2})}
    return Direction("s1-s2", adaptation(best=best), run(made(S2, draws, correct), checkpoints=steps))


def test_a_sample_is_of_the_condition_that_wrote_it():
    found = direction()
    assert found.steps == {"best": 1, "last": 2}
    sizes = {name: len(found.samples(name)) for name in transferring.CONDITIONS}
    assert sizes == {"base": 20, "best_of_n": 40, "best": 20, "last": 20}
    shares = transferring.shares(found).set_index("condition")["share"]
    assert shares["base"].estimate == shares["best_of_n"].estimate == 0.5 and shares["best"].estimate == 0.2
    assert direction(best=0).steps == {"last": 2} and direction(best=2).steps == {"best": 2}


def test_directions_are_named_after_the_subsets():
    some = run(made(S2[:2], [(0, 42, 1, (0, 0))]))
    other = run(made((99,), [(0, 42, 1, (0,))]))
    assert transferring.direction_name(adaptation(), some) == "s1-s2"
    assert transferring.direction_name(some, adaptation()) == "s2-s1"
    assert transferring.shown_name(transferring.direction_name(adaptation(), other)) == "subset 1 → other tasks"


def test_differences_are_paired_by_task_and_say_how_much_moved():
    found = transferring.differences([direction()]).set_index("pair")
    row = found.loc["adapted, best step (1) minus base"]
    assert row["difference"].estimate == pytest.approx(-0.3) and row["tasks"] == "0 up, 5 down of 5"
    # 2 of 4 rollouts are fast under the base: of those, two become slow in the first task and one in the others.
    assert row["moved"] == pytest.approx(6 / 20) and row["p"] == row["least"] == pytest.approx(0.0625)
    control = found.loc["Best-of-N minus base"]
    assert control["condition"] == "control" and control["difference"].estimate == 0 and np.isnan(control["moved"])


@pytest.mark.parametrize(
    ("adapted", "base", "expected"),
    [
        ((0, 1, 1, 1, 1), (2, 2, 2, 2, 2), "degradation, as published"),
        ((4, 3, 3, 3, 3), (2, 2, 2, 2, 2), "transfers"),
        ((0, 4, 1, 3, 2), (2, 2, 2, 2, 2), "Not decided"),
        ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2), "no difference to explain"),
        ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), "nothing could be lost"),
    ],
)
def test_the_verdict_follows_the_intervals(adapted, base, expected):
    found = [direction(adapted, base, (0, 0, 0, 0, 0) if not any(base) else (4, 4, 4, 4, 4))]
    assert expected in words.transfer_verdict(found, transferring.differences(found))


def test_a_policy_that_differs_from_itself_is_said_to():
    differences = transferring.differences([direction(control=(7, 7, 7, 7, 8))])
    assert "differs from itself" in words.control_verdict(differences)
    assert "agrees with itself" in words.control_verdict(transferring.differences([direction()]))


def test_the_papers_two_numbers_of_one_policy_are_not_chance():
    base, search, p = transferring.one_policy()
    assert base.high < search.low and p < 1e-4
    assert words.printed(0.3125) == "31.25%" and words.printed(0.075) == "7.5%"


DEGENERATE = {
    "ordinary": direction(),
    "no control": direction(control=()),
    "the base is the best": direction(best=0),
    "the best is the last": direction(best=2),
    "nothing correct": direction(correct=False),
    "everything fast": direction((4,) * 5, (4,) * 5, (8,) * 5),
}


@pytest.mark.parametrize("found", DEGENERATE.values(), ids=DEGENERATE)
def test_every_table_figure_and_sentence_stands_any_data(found):
    both = [found]
    differences = transferring.differences(both)
    for frame, columns in (
        (transferring.side_by_side(both), transferring.SIDE_COLUMNS),
        (differences, transferring.DIFFERENCE_COLUMNS),
    ):
        text = Table(frame, "tab-any", "Any.", columns).text()
        assert "nan" not in text and "inf" not in text
    assert "<svg" in draw(specification(transferring.figure_tasks(found)), "fig-any")
    sentences = [
        words.share_text(found),
        words.here_text(differences),
        words.transfer_verdict(both, differences),
        words.moved_text(differences),
        words.control_text(differences),
        words.control_verdict(differences),
        words.own_text(both),
        words.own_verdict(both, differences),
        words.judged_steps(found),
    ]
    for sentence in sentences:
        assert sentence and "nan" not in sentence and "inf" not in sentence


def test_a_share_of_few_tasks_keeps_its_bounds():
    found = transferring.paper_share("s1-s2", "fast_1")
    assert isinstance(found, Interval) and found.low < 0.075 < found.high
    assert np.isnan(transferring.paper_share("s2-s1", "best_of_n").estimate)
