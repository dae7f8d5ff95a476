"""A step of self-distillation: its advantages, when they are exactly zero, and what is recorded of them."""

import json
from typing import Any

import numpy as np
import pytest
from byte_policy import ByteTokenizer, byte_model, rollout, slot

from vegtts_core.training.batches import BatchMaker
from vegtts_core.training.distillation_record import ROLLOUT_BYTES
from vegtts_core.training.logprobs import completion_logprobs
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.teacher import teacher_prompt_for

SLOTS = [slot("level1/1", "Write it fast."), slot("level1/2", "Write the other one fast.")]
ROWS = [
    rollout("level1/1", 0, "return x.oops()", None, "forward raised AttributeError: no attribute 'oops'."),
    rollout("level1/1", 1, "return x.abs()", 1.5),
    rollout("level1/1", 2, "return abs(x)", 2.5),
    rollout("level1/2", 0, "return x + 1", 1.25),
    rollout("level1/2", 1, "return y", None, "forward raised NameError: name 'y' is not defined."),
    rollout("level1/2", 2, "return z", None, "forward raised NameError: name 'z' is not defined."),
]
PROMPT_ONLY = {"feedback": False, "solution": False}


def maker(rows=ROWS, slots=SLOTS, **distillation: Any):
    parameters = AdaptationParameters.checked(
        {"algorithm": "sdpo", "k": 3, "temperature": 0.5, "distillation": distillation}
    )
    return BatchMaker(parameters, byte_model(), ByteTokenizer())


def batch(rows=ROWS, slots=SLOTS, **distillation: Any):
    return maker(**distillation).batch(0, slots, rows)


def flat(groups):
    return np.concatenate([np.asarray(value) for group in groups for value in group.advantages])


def test_advantages_are_the_teachers_scores_less_the_students():
    made = maker()
    found = made.batch(0, SLOTS, ROWS).groups
    for group, asked, own in zip(found, SLOTS, (ROWS[:3], ROWS[3:]), strict=True):
        for place, (value, row) in enumerate(zip(group.advantages, own, strict=True)):
            context = teacher_prompt_for(asked.prompt, own, place, made.parameters.distillation)
            scores = [
                completion_logprobs(
                    made.model, list("\n".join(m.content for m in p.messages).encode()), [row["token_ids"]], 0.5
                )[0][0].tolist()
                for p in (context, asked.prompt)
            ]
            assert np.allclose(value, np.subtract(scores[0], scores[1]), atol=1e-10)
    assert np.abs(flat(found)).max() > 0.1


def test_prompt_only_with_its_closing_instruction_has_advantages():
    assert np.abs(flat(batch(**PROMPT_ONLY).groups)).max() > 0.01


def test_prompt_only_without_the_closing_instruction_has_exactly_none():
    found = batch(**PROMPT_ONLY, closing=False)
    assert (flat(found.groups) == 0).all()
    assert "this update is skipped" in found.sentence
    assert not any(group.heard for group in found.groups)


def test_a_rollout_that_is_shown_nothing_more_has_exactly_none():
    # Of the second task only the one correct rollout has no other solution to see.
    found = batch(feedback=False, closing=False)
    silent = [bool((np.asarray(value) == 0).all()) for group in found.groups for value in group.advantages]
    assert silent == [False, False, False, True, False, False]


def test_the_record_says_what_the_advantages_were():
    found = batch()
    record = found.facts["distillation"]
    values = flat(found.groups)
    assert record["all"]["tokens"] == len(values) and record["all"]["rollouts"] == 6
    assert record["all"]["mean"] == pytest.approx(values.mean(), rel=1e-3)
    assert record["all"]["std"] == pytest.approx(values.std(), rel=1e-3)
    assert record["all"]["positive"] == pytest.approx((values > 0).mean(), rel=1e-3)
    sums = [np.sum(value) for group in found.groups for value in group.advantages]
    assert record["all"]["sum"] == pytest.approx(np.mean(sums), rel=1e-3)
    assert record["all"]["sum_std"] == pytest.approx(np.std(sums), rel=1e-3)
    assert record["correct"]["rollouts"] == 3 and record["wrong"]["rollouts"] == 3
    assert {key: part["rollouts"] for key, part in record["tasks"].items()} == {
        "forward:level1/1": 3,
        "forward:level1/2": 3,
    }
    assert record["all"]["solutions"] == 5
    assert record["all"]["context_tokens"] + len(values) == found.facts["teacher_tokens"]
    assert record["all"]["context_tokens"] > record["all"]["prompt_tokens"]
    assert record["all"]["distinct_context_tokens"] == record["all"]["context_tokens"]
    assert batch(**PROMPT_ONLY).facts["distillation"]["all"]["distinct_context_tokens"] == sum(
        part["context_tokens"] / 3 for part in batch(**PROMPT_ONLY).facts["distillation"]["tasks"].values()
    )
    kinds = [(item["task"], item["sample"], item["correct"], item["solution"]) for item in record["rollouts"]]
    assert kinds == [("level1/1", 0, False, True), ("level1/1", 1, True, True), ("level1/2", 0, True, False)]
    first = record["rollouts"][0]
    assert "".join(first["tokens"]) == "return x.oops()"
    assert np.allclose(first["advantages"], found.groups[0].advantages[0], rtol=1e-3)
    assert first["added"].startswith("\n\nA correct solution:\n\n```\nreturn abs(x)\n```")
    assert "AttributeError" in first["added"] and "oops()" not in first["added"]


def test_the_record_stays_small():
    long = rollout("level1/1", 0, "x" * 3000, None)
    rows = [long, *[rollout("level1/1", k, "y" * (900 + k), 1.0 + k) for k in range(1, 20)]]
    record = batch(rows, SLOTS[:1]).facts["distillation"]
    assert [item["sample"] for item in record["rollouts"]] == [1]
    assert len(json.dumps(record["rollouts"])) <= ROLLOUT_BYTES + 2
    assert len(json.dumps(record)) < 20_000


def test_an_empty_completion_is_no_example():
    rows = [rollout("level1/1", 0, "", None), *ROWS[1:3]]
    record = batch(rows, SLOTS[:1]).facts["distillation"]
    assert record["wrong"] == record["wrong"] | {"rollouts": 1, "tokens": 0, "mean": None, "positive": None}
    assert all(item["correct"] for item in record["rollouts"])


def test_other_algorithms_record_nothing():
    parameters = AdaptationParameters.checked({"k": 3})
    facts = BatchMaker(parameters, None, ByteTokenizer()).batch(0, SLOTS, ROWS).facts
    assert "distillation" not in facts
