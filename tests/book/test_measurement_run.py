"""What chapter 9 says of a run: wins that survive and repeat, rankings, floors; on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_tables import grid, random_table, sample, table
from measurement_shown import drawn, shown

from vegtts_core.book import measurement_run as wins
from vegtts_core.book import winners
from vegtts_core.runs.schema import SAMPLES


def twice(first, second, task=0, **changes):
    """A candidate with speedups of two evaluations, the same under both protocols; ``second`` None: not made."""
    name = changes.pop("fingerprint", f"f{first}-{second}")
    row = sample(task=f"level1/{task}", task_id=task, speedup=first, fingerprint=name)
    if second is not None:
        row |= {"retimed_correct": True, "retimed_published_speedup": second, "retimed_sound_speedup": second}
        row |= {"retimed_sound_speedup_low": second * 0.99, "retimed_sound_decision": "same"}
    return row | changes


def test_wins_are_counted_once_per_candidate():
    rows = [twice(1.5, 1.0, sample=i, fingerprint="a") for i in range(5)]
    rows.append(twice(1.2, 1.2, fingerprint="b", sound_speedup_low=0.9, sound_decision="undecided", sample=5))
    rows.append(twice(1.2, 1.2, fingerprint="c", sound_correct=False, published_correct=True, sample=6))
    rows[-1] |= {"published_speedup": 1.3}
    rows.append(twice(0.8, 1.2, fingerprint="d", sample=7))
    found = wins.survivors(table(rows))
    assert list(found["task"]) == ["task 0", "all"]
    total = found.iloc[-1]
    assert (total["wins"], total["faster"], total["undecided"], total["wrong"]) == (3, 1, 1, 1)
    assert total["published"] == 7 / 8 and total["sound"] == 5 / 8
    assert wins.survivor_verdict(found).startswith(
        "Of 3 candidates that the published protocol calls faster, the sound one confirms 1 (33%"
    )
    assert "1 undecided, 1 wrong" in wins.survivor_verdict(found)


def test_a_first_win_is_held_against_those_who_did_not_win():
    rows = [twice(1.5, 1.5 if i < 18 else 0.9, fingerprint=f"w{i}", sample=i) for i in range(20)]
    rows += [twice(0.9, 0.9 if i < 18 else 1.5, fingerprint=f"l{i}", sample=20 + i) for i in range(20)]
    rows.append(twice(1.5, None, fingerprint="never timed again", sample=40))
    rows.append(twice(1.5, 1.5, fingerprint="wrong the second time", sample=41, retimed_correct=False))
    found = wins.confirmations(table(rows))
    published = found.iloc[0]
    assert (published["candidates"], published["faster"], published["confirmed"]) == (41, 21, 18)
    assert (published["others"], published["turned"]) == (20, 2)
    assert "a first win foretells a second one" in wins.confirmation_verdict(found)
    rng = np.random.default_rng(0)
    noise = [twice(*np.exp(rng.normal(0, 0.1, 2)), fingerprint=f"n{i}", sample=i) for i in range(60)]
    assert "cannot be told from none" in wins.confirmation_verdict(wins.confirmations(table(noise)).head(1))
    opposite = [twice(1.5 if i % 2 else 0.9, 0.9 if i % 2 else 1.5, fingerprint=f"o{i}", sample=i) for i in range(40)]
    assert "less likely" in wins.confirmation_verdict(wins.confirmations(table(opposite)))


def test_rankings_that_repeat_are_told_from_those_of_noise():
    steady = [twice(s, s * 1.01, task=t, fingerprint=f"{s}") for t in range(6) for s in (0.5, 0.8, 1.1, 1.6, 2.0)]
    assert wins.repeatability_verdict(wins.repeatability(table(steady), "sound")) == "The ranking repeats."
    rng = np.random.default_rng(1)
    noise = [twice(*np.exp(rng.normal(0, 0.1, 2)), task=t, fingerprint=f"{i}") for t in range(8) for i in range(6)]
    assert "includes 0" in wins.repeatability_verdict(wins.repeatability(table(noise), "published"))


def test_the_best_candidate_is_read_on_fresh_data():
    references = pd.DataFrame(
        [
            {"task_id": t, "name": "n", "family": "map", "flop": 1e9, "min_bytes": 1e6, "floor_seconds": 0.5}
            | {"reference_seconds": 1.0 if t else None}
            for t in (0, 1, 2)
        ]
    )
    samples = table([twice(3.0, 1.5, task=1, fingerprint="lucky"), twice(1.8, 1.8, task=1, fingerprint="steady")])
    found = wins.floors(references, samples)
    assert list(found["task"]) == ["task 1", "task 1", "task 2"]  # no reference; no candidate
    assert list(found["share"]) == [0.5, 0.75, 0.5]
    assert "comes nearest on task 1, with 75%" in wins.floor_verdict(found)
    assert "faster than its floor" in wins.floor_verdict(found.assign(share=found["share"] * 2))
    assert "no candidate was correct" in wins.floor_verdict(found[found["code"] == "reference"])
    claimed = wins.claimed_shares()
    assert claimed[4] > 100 and claimed[12] < 1 and wins.claim_verdict(claimed).startswith("4 of 5 selected")


DEGENERATE = {
    "nothing correct": table([sample(sample=i, correct=False, fingerprint=None) for i in range(4)]),
    "one sample": table([sample()]),
    "nothing fast": grid([0, 0, 0], k=4),
    "everything fast": grid([4, 4], k=4),
    "not timed again": random_table(tasks=4, k=6),
    "timed again": table([twice(s, 2 / s, task=t, fingerprint=f"{s}") for t in range(3) for s in (0.5, 1.5)]),
    "a run of before": random_table(tasks=3, k=4).drop(columns=[n for n in SAMPLES.names if n.startswith("retimed")]),
}


@pytest.mark.parametrize("samples", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.filterwarnings("error")
def test_any_run_has_tables_and_sentences(samples):
    survivors, confirmed = wins.survivors(samples), wins.confirmations(samples)
    shown(survivors, wins.SURVIVOR_COLUMNS)
    shown(confirmed, wins.CONFIRMATION_COLUMNS)
    if "retimed_correct" in samples:
        drawn(wins.figure_winners(winners.winner_points(samples)))
    rho = wins.repeatability(samples, "sound")
    for text in (
        wins.survivor_verdict(survivors),
        wins.confirmation_verdict(confirmed),
        wins.repeatability_text(rho),
        wins.repeatability_verdict(rho),
        *(wins.confirmed_text(row) for _, row in confirmed.iterrows()),
    ):
        assert text and "nan" not in text


def test_points_are_what_the_table_of_winners_averages():
    rng = np.random.default_rng(2)
    rows = [twice(*np.exp(rng.normal(0, 0.1, 2)), task=t, fingerprint=f"{i}") for t in range(5) for i in range(4)]
    points, found = winners.winner_points(table(rows)), winners.winners(table(rows))
    own = points[points["protocol"] == "published"]
    assert np.exp(np.log(own["chosen"]).mean()) == pytest.approx(found["chosen"][3])
    assert np.exp(np.log(own["again"]).mean()) == pytest.approx(found["again"][3])


def test_one_task_allows_no_interval():
    rho = wins.repeatability(table([twice(1, 1, sample=0), twice(2, 2, sample=1)]), "sound")
    assert "no interval" in wins.repeatability_text(rho)
    assert "cannot tell" in wins.repeatability_verdict(rho)
