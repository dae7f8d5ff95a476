"""Worked answers of a warm start: distinct, of training tasks, and right."""

from __future__ import annotations

import pytest

from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.choice import evaluator_for, scaffold_for
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds import Candidate
from vegtts_core.tasks import Size, load_tasks
from vegtts_core.training.demonstrations import demonstrations
from vegtts_core.training.paraphrases import paraphrases

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
