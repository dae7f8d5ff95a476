"""Chapter 3.4's recorded advantages: tables, figures, sentences, and the table beside TRL."""

import math

import pytest
from test_distilling import ROWS, distilled

from vegtts_core.book import distilling_peer, distilling_words
from vegtts_core.book import distilling_tokens as tokens
from vegtts_core.book.figures import draw, specification


def part(rollouts=4, total=1.0, spread=0.5, count=20):
    """A summary of a step's rollouts."""
    some = rollouts > 0
    names = {"mean": -0.1, "std": 1.0, "mean_size": 0.5, "sum": total, "sum_std": spread, "positive": 0.4, "zero": 0.0}
    return {"rollouts": rollouts, "tokens": count if some else 0, "solutions": 0, "distinct_context_tokens": 60} | {
        name: value if some else None for name, value in names.items()
    }


EXAMPLE = {
    "task": "level1/4",
    "sample": 1,
    "correct": True,
    "solution": True,
    "added": "",
    "tokens": ["\n", "return", " x", "\n", "", " + 1"],
    "advantages": [0.0, 0.5, -2.0, 0.1, 0.2, 9.0],
}


def recorded(tmp_path, correct, wrong, **distillation):
    """A run of one update whose record says so."""
    record = {"all": part(8), "correct": correct, "wrong": wrong, "tasks": {}, "rollouts": [EXAMPLE]}
    steps = [
        {"step": 0, "rollouts": 8, "student_tokens": 800, "teacher_tokens": 856, "distillation": record},
        {"step": 1, "rollouts": 8, "student_tokens": 800, "teacher_tokens": 0, "distillation": float("nan")},
    ]
    return distilled(tmp_path, ROWS, steps, **distillation)


def families(tmp_path, correct, wrong):
    return {
        tokens.FEEDBACK: {"a": recorded(tmp_path / "a", correct, wrong)},
        tokens.PROMPT_ONLY: {"b": recorded(tmp_path / "b", correct, wrong, feedback=False, solution=False)},
    }


def test_places_of_tokens():
    found = tokens.token_places(["ab", " c", "\n", "\n  d", "x" * 8], [0.1, 0.2, 0.3, 0.4, 0.5], width=6)
    assert list(zip(found["line"], found["start"], found["end"], found["at"], found["text"], strict=True)) == [
        (0, 0, 2, 0, "ab"),
        (0, 2, 4, 3, "c"),
        (2, 0, 3, 2, "d"),
        (3, 4, 12, 4, "x" * 8),
    ]


def test_pooled_is_the_mean_over_rollouts():
    # Rollouts 1, 3 and 5: in two parts, and in one with an empty one beside it.
    values = [part(1, 1.0, 0.0), part(2, 4.0, 1.0)]
    found = tokens.pooled(values)
    assert found.estimate == pytest.approx(3.0) and found.n == 3
    assert found.high - found.estimate == pytest.approx(2 * math.sqrt((4 + 0 + 4) / 3 / 2))
    assert tokens.pooled([*values, part(0)]) == found
    assert math.isnan(tokens.pooled([part(0)]).estimate) and math.isnan(tokens.pooled([part(1)]).low)


@pytest.mark.parametrize(
    ("correct", "wrong", "expected"),
    [
        (part(50, 5.0), part(50, 1.0), "pushes correct completions up"),
        (part(50, 1.0), part(50, 5.0), "pushes correct completions down"),
        (part(50, 1.0, 9.0), part(50, 1.1, 9.0), "does not tell"),
        (part(50, 1.0), part(0), "Nothing can be said"),
    ],
)
def test_separation_decides_the_sentence(tmp_path, correct, wrong, expected):
    found = families(tmp_path, correct, wrong)
    assert expected in distilling_words.separation_verdict(found)
    assert ("n = 100 rollouts" in distilling_words.separation_text(found)) == (wrong["rollouts"] > 0)


def test_runs_with_and_without_a_record(tmp_path):
    found = families(tmp_path, part(), part())
    table = tokens.step_table(found)
    assert list(table["teacher"]) == ["feedback", "prompt-only"] and list(table["step"]) == [0, 0]
    example = tokens.example_of(found["feedback"]["a"])
    assert "“+ 1” (+9.0)" in tokens.strongest(example) and "“x” (−2.0)" in tokens.strongest(example)
    assert "correct, its teacher with a solution" in distilling_words.example_text(example)
    for chart in (tokens.figure_tokens(example), tokens.figure_sums(found)):
        assert "<svg" in draw(specification(chart), "p")
    bare = {"feedback": {"a": distilled(tmp_path / "c", ROWS)}, "prompt-only": {}}
    assert tokens.step_table(bare).empty and tokens.example_of(bare["feedback"]["a"]) is None
    for chart in (tokens.figure_tokens(None), tokens.figure_sums(bare)):
        assert "without token advantages" in draw(specification(chart), "p")
    assert "before token advantages were" in distilling_words.example_text(None)


def test_added_tokens_come_from_steps_with_an_update(tmp_path):
    found = families(tmp_path, part(), part())
    assert distilling_words.mean_added(found["prompt-only"]) == 7
    assert "Its length here agrees" in distilling_words.prompt_only_verdict(found["prompt-only"])
    assert "7.0 tokens per rollout" in distilling_words.prompt_only_text(found["prompt-only"])
    without = {"c": recorded(tmp_path / "c", part(), part(), closing=False)}
    assert "exactly 0" in distilling_words.prompt_only_verdict(without)


def test_table_c1_leaves_room_for_the_closing_instruction():
    found = distilling_words.published_added("sdpo-prompt-only")
    assert (found.estimate, found.low, found.high) == (6.25, 3.125, 9.375)
    assert distilling_words.published_added("sdpo-feedback").estimate == 75


def test_the_table_beside_trl_follows_parameters_and_its_defaults(tmp_path):
    run = recorded(tmp_path, part(), part())
    run.manifest["parameters"] |= {"loss_temperature": None, "update": {"loss": "grpo", "clip": None}}
    found = distilling_peer.peer_table(run).set_index("aspect")
    assert found.loc["advantage of a token", "same"] == "yes" and found.loc["loss averaged", "same"] == "yes"
    assert "moving average" in found.loc["teacher's weights", "trl"]
    run.manifest["parameters"] |= {"loss_temperature": 0.5, "update": {"loss": "dapo", "clip": 0.2}}
    found = distilling_peer.peer_table(run).set_index("aspect")
    assert found.loc["log-probabilities at", "same"] == "" and found.loc["loss averaged", "same"] == ""
