"""Counting, against enumeration one rollout at a time with the real slots, prompts and schedules."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vegtts_core.errors import UserError
from vegtts_core.plan.counts import work_of
from vegtts_core.plan.families import Family, families
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.plan.waves import call_batches
from vegtts_core.policy.embedded import embedded_gguf
from vegtts_core.policy.engine import AttentionPath
from vegtts_core.policy.gguf import converted_folder
from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.policy.transformers_policy import TransformersPolicy
from vegtts_core.search.parameters import BestOfNParameters
from vegtts_core.tasks import load_tasks
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.slots import build_slots, schedule
from vegtts_core.training.warm_start_parameters import WarmStartParameters

TASKS = (4, 5, 12, 14, 15, 18, 28, 29)
COUNT = prompt_counter("embedded")
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def length():
    """Tokens of a slot's prompt, by the tokenizer itself."""
    tokenizer = AutoTokenizer.from_pretrained(converted_folder(embedded_gguf()))
    known: dict[str, int] = {}

    def of(slot):
        if slot.prompt.id not in known:
            known[slot.prompt.id] = len(prompt_token_ids(tokenizer, slot.prompt))
        return known[slot.prompt.id]

    return of


@SLOW
@given(
    tasks=st.lists(st.sampled_from(TASKS), min_size=1, max_size=6, unique=True),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
    k=st.integers(1, 40),
    scaffold=st.sampled_from(["forward", "template", "kernel"]),
    per_batch=st.integers(1, 6),
    examples=st.sampled_from([(), (16,), (25, 47)]),
)
def test_best_of_n_is_counted_as_it_samples(length, tasks, seeds, k, scaffold, per_batch, examples):
    given_parameters = BestOfNParameters(
        tasks=tuple(tasks), seeds=tuple(seeds), k=k, scaffold=scaffold, prompts_per_batch=per_batch, examples=examples
    )
    work = work_of(Family("best_of_n", "best_of_n", "best_of_n", given_parameters), COUNT)
    slots = {
        slot.task.key: slot for slot in build_slots(tuple(tasks), (scaffold,), given_parameters.size, examples, "cpu")
    }
    rollouts = prompt = 0
    units = []
    for _seed in seeds:
        ordered = load_tasks(tuple(tasks))
        for start in range(0, len(ordered), per_batch):
            batch = ordered[start : start + per_batch]
            units.append(sum(length(slots[task.key]) for task in batch))
            for task in batch:
                for _sample in range(k):
                    rollouts += 1
                    prompt += length(slots[task.key])
    assert (work.rollouts, work.prompt_tokens, len(work.calls)) == (rollouts, prompt, len(units))
    assert work.prompt_tokens_computed == sum(units)
    assert work.references == len(tasks)


@SLOW
@given(
    tasks=st.lists(st.sampled_from(TASKS), min_size=2, max_size=6, unique=True),
    scaffolds=st.sampled_from([("forward",), ("template",), ("forward", "template")]),
    per_step=st.one_of(st.none(), st.integers(1, 2)),
    steps=st.integers(0, 5),
    k=st.integers(2, 20),
    judge_last=st.booleans(),
    seed=st.integers(0, 5),
    algorithm=st.sampled_from(["grpo", "sdpo"]),
)
def test_an_adaptation_is_counted_as_it_steps(
    length, tasks, scaffolds, per_step, steps, k, judge_last, seed, algorithm
):
    parameters = AdaptationParameters(
        tasks=tuple(tasks),
        scaffolds=scaffolds,
        tasks_per_step=per_step,
        steps=steps,
        k=k,
        judge_last=judge_last,
        seed=seed,
        examples=(),
        algorithm=algorithm,
    )
    work = work_of(Family("adaptation", "one", "adaptation", parameters), COUNT)
    drawn = schedule(build_slots(tuple(tasks), scaffolds, parameters.size, (), "cpu"), per_step, seed)
    rollouts = prompt = 0
    for step in range(steps + (1 if judge_last else 0)):
        for slot in drawn(step):
            for _sample in range(k):
                rollouts += 1
                prompt += length(slot)
    assert (work.rollouts, work.prompt_tokens) == (rollouts, prompt)
    assert [[(g.ask.scaffold, g.ask.task) for g in update] for update in work.updates] == [
        [(slot.scaffold, slot.task.key) for slot in drawn(step)] for step in range(steps)
    ]
    assert work.taught == (work.updates if algorithm == "sdpo" else ())


def test_a_teacher_that_is_shown_nothing_has_the_prompt_itself():
    values = {"tasks": (4,), "algorithm": "sdpo", "steps": 1}
    bare = AdaptationParameters.checked(
        values | {"distillation": {"feedback": False, "solution": False, "closing": False}}
    )
    closing = AdaptationParameters.checked(values | {"distillation": {"feedback": False, "solution": False}})
    (ask,) = [group.ask for group in work_of(Family("s", "s", "adaptation", bare), COUNT).taught[0]]
    assert ask.taught == ask.tokens
    (ask,) = [group.ask for group in work_of(Family("s", "s", "adaptation", closing), COUNT).taught[0]]
    assert 4 <= ask.taught - ask.tokens <= 10  # "Correctly solve the original question."


def test_a_warm_start_samples_only_where_it_has_no_answers():
    parameters = WarmStartParameters(
        tasks=(19, 22, 31), scaffolds=("forward", "template"), demonstrations={"template": 3}, rounds=1, k=5
    )
    work = work_of(Family("warm_start", "warm_start", "warm_start", parameters), COUNT)
    templates = len(build_slots((19, 22, 31), ("template",), parameters.size, (), "cpu"))
    assert work.rollouts == 5 * 3 + 5 * (3 + templates)  # the second round samples in both scaffolds
    assert [len(group.given) for group in work.given] == [3] * templates
    assert all(tokens > 5 for group in work.given for tokens in group.given)


@pytest.mark.parametrize("path", list(AttentionPath))
@settings(max_examples=40, deadline=None)
@given(
    tasks=st.lists(st.sampled_from(TASKS), min_size=1, max_size=8, unique=True),
    k=st.integers(1, 200),
    new=st.sampled_from([16, 128, 4096]),
)
def test_batches_are_those_of_the_policy(path, tasks, k, new):
    parameters = BestOfNParameters(tasks=tuple(tasks), k=k, max_new_tokens=new, prompts_per_batch=8, seeds=(1,))
    work = work_of(Family("b", "b", "best_of_n", parameters), COUNT)
    policy = object.__new__(TransformersPolicy)
    policy._engine = SimpleNamespace(device=torch.device("cpu"), path=path)  # type: ignore[assignment]
    policy._bytes_per_token = 2 * 30 * 3 * 64 * 4
    lengths = [group.ask.tokens for group in work.calls[0]]
    expected = list(policy._batches(lengths, k, new))
    assert work.facts is not None and work.facts.shares_prompts
    facts = replace(work.facts, shares_prompts=path is AttentionPath.SHARED_PREFIX)
    assert call_batches(replace(work, facts=facts), work.calls[0]) == expected


def test_every_family_of_the_shipped_parameters_is_counted():
    for name in ("cpu", "recorded_cpu", "paper", "embedded_adapter"):
        found = families(name)
        assert len({run.section for run in found}) >= 2
        for run in found:
            given_parameters = run.after if run.after is not None else run.parameters
            work = work_of(run, prompt_counter(given_parameters.policy))
            assert work.rollouts > 0 or work.scored


def test_the_paper_is_counted_as_it_says():
    rollouts = {run.name: work_of(run, prompt_counter("openai/gpt-oss-120b")).rollouts for run in families("paper")}
    assert rollouts["best_of_n"] == 5 * 64 * 2  # table 4.1
    assert rollouts["task_4"] == 6 * 32
    sdpo = [work_of(run, COUNT).rollouts for run in families("paper", "sdpo_feedback")]
    assert sdpo == [320] * 3  # table C.1


def test_what_the_run_would_refuse_the_plan_refuses(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("best_of_n: {tasks: [4], examples: [4]}\n")
    with pytest.raises(UserError, match="stands as an example"):
        work_of(families(path)[0], COUNT)
    path.write_text("best_of_n: {tasks: [4, 50], scaffold: template, examples: []}\n")
    with pytest.raises(UserError, match="have no kernel template"):
        work_of(families(path)[0], COUNT)
    path.write_text("rlvr: {tasks: [4], training_only: true, examples: []}\n")
    with pytest.raises(UserError, match="evaluation task"):
        work_of(families(path)[0], COUNT)
    path.write_text("adaptation: {tasks: [4], examples: []}\ntransfer: {tasks: [4]}\n")
    with pytest.raises(UserError, match="name other tasks"):
        work_of(families(path, "transfer")[0], COUNT)
    path.write_text("transfer: {tasks: [4]}\n")
    with pytest.raises(UserError, match="follows an adaptation"):
        families(path)
    with pytest.raises(UserError, match="has no section nothing: choose from transfer"):
        families(path, "nothing")


def test_a_prompt_without_its_tokenizer_is_an_estimate():
    estimate = prompt_counter("openai/gpt-oss-120b")
    assert not estimate.exact and "estimate" in estimate.note
    assert COUNT.exact and not COUNT.note
