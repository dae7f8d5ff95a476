"""Chapter 3.4's helpers: contexts rebuilt from a run's files, and what is counted in them."""

import json

import pandas as pd
import pytest
from made_tables import sample, table

from vegtts_core.book import distilling
from vegtts_core.runs import Run
from vegtts_core.training.teacher import CLOSING, SelfDistillationParameters

QUOTING = "the line 'y = x * 41 + 1' is not of the form"


def distilled(tmp_path, rows, steps=None, seed=42, **distillation):
    """A run of self-distillation with these rows, its prompts written to ``tmp_path``."""
    tmp_path.mkdir(exist_ok=True)
    prompts = {
        "p": {
            "task": "level1/4",
            "scaffold": "forward",
            "messages": [{"role": "user", "content": "Write it."}, {"role": "assistant", "content": "def f(x):"}],
        }
    }
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    steps = steps or [{"step": 0, "teacher_tokens": 10}, {"step": 1, "teacher_tokens": 0}]
    parameters = {
        "distillation": SelfDistillationParameters.checked(distillation).model_dump(),
        "protocol": "sound",
        "seed": seed,
        "k": len(rows),
        "temperature": 1.0,
        "algorithm": "sdpo",
    }
    manifest = {"parameters": parameters, "machine": {"cores": 2, "cpu": "a CPU"}, "policy": {"name": "embedded"}}
    return Run(tmp_path, manifest, table(rows), {}, pd.DataFrame(), pd.DataFrame(steps))


def row(number=0, correct=True, body="return x", reason="", **changes):
    """A rollout of the prompt above."""
    values = {"scaffold": "forward", "prompt_id": "p", "completion": body, "body": body, "fingerprint": body}
    values |= {"stage": "reward" if correct else "scaffold", "reason": reason, "sample": number, "correct": correct}
    return sample(**values, error=None if correct else "refused_syntax", **changes)


ROWS = [
    row(0, False, "y = x * 41 + 1", QUOTING),
    row(1, body="return x + 1", speedup=1.5),
    row(2, body="return 1 + x", speedup=2.5),
]


def test_a_context_is_what_the_trainer_made(tmp_path):
    found = distilling.contexts(distilled(tmp_path, ROWS))
    assert [context.correct for context in found] == [False, True, True]
    assert [context.solution for context in found] == ["return 1 + x", "return 1 + x", "return x + 1"]
    assert all(context.added.endswith(CLOSING) for context in found)
    assert "41" not in found[0].added and "is not of the form" in found[0].added
    assert found[0].cut and not found[1].cut
    assert found[0].before == 7 and found[0].after <= 2


def test_prompt_only_is_the_closing_instruction(tmp_path):
    found = distilling.contexts(distilled(tmp_path, ROWS, feedback=False, solution=False))
    assert {context.added for context in found} == {f"\n\n{CLOSING}"}


def test_only_rollouts_that_made_an_update_count(tmp_path):
    rows = [*ROWS, row(0, step=1)]
    assert {context.row["step"] for context in distilling.contexts(distilled(tmp_path, rows))} == {0}


def test_the_table_counts_by_outcome(tmp_path):
    found = distilling.context_table(distilling.contexts(distilled(tmp_path, ROWS)))
    assert list(found["outcome"]) == ["correct", "refused syntax"]
    assert list(found["rollouts"]) == [2, 1] and list(found["solutions"]) == [2, 1]
    assert list(found["cut"])[1] == 1 and list(found["before"])[1] == 7 and max(found["after"]) <= 2


@pytest.mark.parametrize(
    ("text", "code", "public", "longest"),
    [
        ("error: 'a = b' is wrong", "a = b", [], 3),
        ("error: 'a = b' is wrong", "a = b", ["write a = b here"], 0),
        ("nothing in common", "a = b", [], 0),
        ("a=b", "a  =\nb", [], 3),
        ("aa = b", "a = b", [], 2),
    ],
)
def test_longest_quotation(text, code, public, longest):
    assert distilling.longest_quotation(text, code, public) == longest


def test_words_follow_the_data(tmp_path):
    found = distilling.contexts(distilled(tmp_path, ROWS))
    assert "1 of these messages repeated more than 2 words" in distilling.quotation_text(found)
    assert "hand the attempt's code" in distilling.quotation_verdict(found)
    quiet = distilling.contexts(distilled(tmp_path, [row(0), row(1, False, "z", "no.")]))
    assert "had nothing to do" in distilling.quotation_verdict(quiet)
    assert distilling.cut_example(quiet) is None and "nothing" not in distilling.before_and_after(found[0])
    assert QUOTING in distilling.before_and_after(distilling.cut_example(found))
    assert "none of them with an error" in distilling.quotation_text(distilling.contexts(distilled(tmp_path, ROWS[1:])))


def test_the_example_is_a_wrong_rollout_that_saw_a_solution(tmp_path):
    found = distilling.contexts(distilled(tmp_path, [*ROWS[1:], ROWS[0]]))
    assert distilling.example(found).row["sample"] == 0
    assert distilling.example(found, "level1/4", 2).row["sample"] == 2
