"""Worked answers of a warm start: distinct, of training tasks, and right."""

from __future__ import annotations

import textwrap

import pytest

from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds import Candidate
from vegtts_core.tasks import Size, load_tasks
from vegtts_core.training.demonstrations import demonstrations
from vegtts_core.training.paraphrases import paraphrases
from vegtts_core.training.rewrites import rewrites

TASKS = load_tasks("l1_seed42_train", Size.CPU)
PARAPHRASED = [task for task in TASKS if paraphrases(task)]
QUICK = {"protocols": ["sound"], "sound": {"max_seconds": 0.05, "confirmations": 0, "benchmark_draws": 1}}


def test_only_training_tasks_are_paraphrased():
    every = {task.key for task in load_tasks(list(range(1, 101)), Size.CPU) if paraphrases(task)}
    assert every == {task.key for task in PARAPHRASED} and len(every) >= 18


@pytest.mark.parametrize("task", PARAPHRASED, ids=lambda task: task.key)
def test_paraphrases_are_candidates_and_lead_the_demonstrations(task):
    scaffold = scaffold_for("template", "cpu")
    parsed = [scaffold.parse(task, lines) for lines in paraphrases(task)]
    assert all(isinstance(each, Candidate) for each in parsed), parsed
    texts = demonstrations(task, "template", Language.CPP, 12, seed=0)
    assert len(set(texts)) == len(texts) <= 12
    assert [text.strip("`\n") for text in texts[1 : 1 + len(parsed)]] == list(paraphrases(task))


@pytest.mark.slow
def test_every_paraphrase_is_correct():
    scaffold = scaffold_for("template", "cpu")
    wrong = {}
    with evaluator_for("template", "cpu", PARAPHRASED, EvaluatorSettings.model_validate(QUICK)) as evaluator:
        for task in PARAPHRASED:
            candidates = [scaffold.parse(task, lines) for lines in paraphrases(task)]
            verdicts = evaluator.evaluate([each for each in candidates if isinstance(each, Candidate)])
            wrong |= {(task.key, n): verdict.reason for n, verdict in enumerate(verdicts) if verdict.error}
    assert not wrong


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_forward_demonstrations_are_candidates_and_begin_with_the_reference(task):
    scaffold = scaffold_for("forward", "cpu")
    texts = demonstrations(task, "forward", Language.CPP, 12, seed=0)
    parsed = [scaffold.parse(task, text.removesuffix("```")) for text in texts]
    assert all(isinstance(each, Candidate) for each in parsed), parsed
    assert len({each.fingerprint for each in parsed if isinstance(each, Candidate)}) == len(texts) <= 12
    assert textwrap.dedent(texts[0].removesuffix("```")).strip() == task.forward_body.strip()


def test_most_tasks_have_several_forward_demonstrations():
    counts = [len(demonstrations(task, "forward", Language.CPP, 12, seed=0)) for task in TASKS]
    assert sorted(counts)[len(counts) // 4] >= 6


def test_functional_convolutions_have_the_dimensions_of_their_layer():
    by_id = {task.id: task for task in TASKS}
    bodies = rewrites(by_id[80], by_id[80].forward_body.strip())
    assert any("F.conv2d(" in body for body in bodies)
    assert not any("conv1d(" in body or "conv3d(" in body or "transpose" in body for body in bodies)
