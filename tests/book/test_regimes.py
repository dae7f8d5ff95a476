"""Chapter 5.4's helpers: the 30% rule, its independent Best-of-N, and per-task winners."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tables import sample, table

from vegtts_core.book import published, regimes, study, winning
from vegtts_core.book import regimes_words as words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.regimes import Rule
from vegtts_core.book.tables import Table
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval

TASKS = (4, 5, 12, 14, 15)


def made(draws):
    """``draws``: (step, seed, k, fast of k per task)."""
    return table(
        [
            sample(
                task=f"level1/{task}", task_id=task, seed=seed, step=step, sample=i, speedup=2.0 if i < fast else 0.5
            )
            for step, seed, k, counts in draws
            for task, fast in zip(TASKS, counts, strict=True)
            for i in range(k)
        ]
    )


def run(samples, seed=42, gpu=None, **more):
    parameters = {"protocol": "sound", "seed": seed, "adapter": None, "temperature": 1.0, "scaffolds": ["template"]}
    policy = {"name": "embedded", "weights_sha256": "w", "adapter_sha256": None}
    machine = {"cores": 2, "cpu": "X"} | ({"gpu": gpu} if gpu else {})
    manifest = {"parameters": parameters | more, "policy": policy, "machine": machine}
    return Run(Path("a"), manifest, samples, {}, pd.DataFrame())


def adaptation(seed=42, k=4, best=1, **more):
    counts = [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    counts[best] = [2, 2, 2, 1, 1]
    return run(made([(step, seed, k, row) for step, row in enumerate(counts)]), seed, **more)


def test_the_papers_rule_gets_two_of_five_right():
    rule = regimes.paper_rule()
    assert (rule.right, len(rule.tasks)) == (2, 5)
    right = rule.tasks.loc[rule.tasks["above"] == rule.tasks["benefits"], "task"]
    assert list(right) == ["18", "30"]
    winners = published.table("5.4-tasks")["winner"]
    assert list(rule.tasks["benefits"]) == list(winners == "BoA")


def test_best_of_n_is_the_other_seeds_base():
    runs = {f"a{seed}": adaptation(seed) for seed in (42, 43, 44)}
    control = regimes.control("a42", runs)
    assert len(control) == 2 * 5 * 4 and control.groupby("task")["sample"].apply(sorted).map(len).eq(8).all()
    assert control["seed"].nunique() == 1  # one budget
    rules = regimes.measured_rules(runs)
    assert [rule.step for rule in rules] == [1, 1, 1]
    assert rules[0].tasks["coverage"].eq(0.25).all() and rules[0].right == 2  # below 30%: those that do not gain
    assert regimes.measured_rules({"a42": runs["a42"]}) == []
    other = adaptation(45)
    other.manifest["policy"]["adapter_sha256"] = "another"
    assert len(regimes.control("a42", {"a42": runs["a42"], "b": other})) == 0


def test_a_best_of_n_run_adds_what_the_run_did_not_draw_itself():
    runs = {"a42": adaptation(42)}
    search = run(made([(0, 42, 8, (4,) * 5), (0, 43, 8, (4,) * 5)]))
    found = regimes.control("a42", runs, [search])
    assert found.groupby("task").size().eq(4 + 8).all()  # samples 4 to 7 of its own seed, all of the other
    assert len(regimes.control("a42", runs, [run(search.samples, temperature=0.25)])) == 0
    assert len(regimes.control("a42", runs, [run(search.samples, gpu="NVIDIA H100 80GB")])) == 0
    assert len(regimes.measured_rules(runs, [search])) == 1
    both = {"a42": adaptation(42), "a43": adaptation(43)}
    # Seed 43 of the search is what the other run drew: it counts once.
    assert regimes.control("a42", both, [search]).groupby("task").size().eq(4 + 4).all()


def test_a_best_of_n_of_another_card_is_not_compared_and_that_is_said():
    h100, h200 = {"gpu": "NVIDIA H100 80GB HBM3"}, {"gpu": "NVIDIA H200"}
    runs = {
        "cpu": adaptation(42, device="cpu"),
        "a": adaptation(43, **h100),
        "b": adaptation(44, temperature=0.25, **h100),
    }
    searches = [
        run(made([(0, 50, 8, (4,) * 5)]), **h200),
        run(made([(0, 50, 7, (4,) * 5)]), temperature=0.25, **h200),
    ]
    found = regimes.left_out(runs, searches).set_index("run")
    assert list(found["card"]) == ["CPU", "H100", "H100"] and list(found["others"]) == [[], ["H200"], ["H200"]]
    assert list(found["enough"]) == [False, True, False]
    text = words.left_out(found, 3)
    assert text.startswith("3 of 3 runs have none") and "2 of them were measured on H100, while" in text
    assert "All were measured on H100" in words.left_out(found.loc[["a", "b"]], 3)
    assert "was measured on H200" in text and "for 1 of 2 they would not suffice" in text
    same = run(searches[0].samples, **h100)
    assert "a" not in set(regimes.left_out(runs, [same])["run"])
    alone = regimes.left_out({"a": runs["a"]}, [])
    assert words.left_out(alone, 1) == "1 of 1 runs has none with rollouts for one update, and is left out."
    assert words.left_out(regimes.left_out({}, []), 0) == ""


def test_runs_that_are_left_out_are_those_without_a_rule():
    runs = study.adaptations("recorded", "cpu")
    searches = list(study.studied("best_of_n_study").values())
    found = regimes.left_out(runs, searches)
    assert len(found) + len(regimes.measured_rules(runs, searches)) == len(runs)
    text = words.left_out(found, len(runs))
    apart = found[found["others"].map(len) > 0]  # a Best-of-N of the same policy exists, on another card
    cards = {study.card(runs[name]) for name in apart["run"]} | {card for row in apart["others"] for card in row}
    assert all(card in text for card in cards) and text.startswith(f"{len(found)} of {len(runs)} runs")


def rule(benefits, half=0.1):
    tasks = pd.DataFrame({"task": [str(t) for t in TASKS], "coverage": 0.4, "benefit": benefits})
    tasks = tasks.assign(low=tasks["benefit"] - half, high=tasks["benefit"] + half)
    tasks = tasks.assign(above=True, benefits=tasks["benefit"] > 0)
    return Rule("made", tasks, 1, Interval(0, -1, 1, 5), float("nan"))


def test_a_winner_within_noise_is_said_to_be_one():
    found = winning.winners([rule([0.3, -0.3, 0.05, -0.05, 0.0])])
    assert list(found["winner"]) == ["adaptation", "search", "adaptation", "search", "neither"]
    assert list(found["sure"]) == [True, True, False, False, False]
    assert found["again"].iloc[0] > 0.99 and 0.5 < found["again"].iloc[2] < 0.9 and np.isnan(found["again"].iloc[4])
    assert "depends on the task" in words.winners_verdict(found)
    assert "no task has a winner" in words.winners_verdict(winning.winners([rule([0.05] * 5)]))
    assert words.winners_verdict(winning.winners([rule([-0.5] * 5)])).endswith("it is search.")


@given(st.floats(-0.9, 0.9), st.floats(0.01, 0.5))
def test_winning_again_is_at_least_a_coin(gain, half):
    again = winning.winners([rule([gain] * 5, half)])["again"].iloc[0]
    assert np.isnan(again) if gain == 0 else 0.5 <= again <= 1


def test_the_papers_winners_are_its_own():
    found = winning.winners([regimes.paper_rule()])
    assert list(found["winner"] == "adaptation") == list(published.table("5.4-tasks")["winner"] == "BoA")
    sure = found.set_index("task")["sure"]
    assert not sure["18"] and sure["28"]


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_table_figure_and_sentence_stands_any_data(seeds):
    rules = regimes.measured_rules({f"a{seed}": adaptation(seed) for seed in (42, 43, 44)[:seeds]})
    both = [regimes.paper_rule(), *rules]
    found = winning.winners(both)
    for frame, columns in ((regimes.table(both), regimes.COLUMNS), (found, winning.COLUMNS)):
        text = Table(frame, "tab-any", "Any.", columns).text()
        assert "nan" not in text and "inf" not in text
    for chart in (regimes.figure(both), winning.figure(found)):
        assert "<svg" in draw(specification(chart), "fig-any")
    sentences = [words.regimes_text(rules), words.regimes_verdict(rules), words.winners_text(found)]
    for sentence in [*sentences, words.winners_verdict(found), *words.facts().values()]:
        assert sentence and "nan" not in sentence and "inf" not in sentence
