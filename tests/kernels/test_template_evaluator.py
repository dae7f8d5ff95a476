"""Templates through the whole evaluator: honest fillings pass, a wrong expression does not."""

import pytest
from making import QUICK

from vegtts_core.evaluator import ErrorKind, ForwardEvaluator, Stage
from vegtts_core.kernels.templates import TemplateScaffold, honest_filling
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import get_task

#: One of each kernel: map, rows (normalised, split, mean), columns, index, scan, matmul (triangular, split), window.
TASKS = {id: get_task(id) for id in (25, 23, 94, 99, 36, 51, 91, 14, 6, 84)}


@pytest.fixture(scope="module")
def evaluator():
    with ForwardEvaluator(TASKS.values(), QUICK) as running:
        yield running


def verdict(evaluator, task, filling):
    candidate = TemplateScaffold(Language.CPP).parse(task, filling)
    assert isinstance(candidate, Candidate), candidate
    (found,) = evaluator.evaluate([candidate])
    return found


@pytest.mark.parametrize("id", TASKS)
def test_honest_fillings_pass(evaluator, id):
    found = verdict(evaluator, TASKS[id], honest_filling(TASKS[id]))
    assert (found.stage, found.error, found.reason) == (Stage.REWARD, None, "")


@pytest.mark.parametrize(
    ("id", "right", "wrong"),
    [
        (25, "expf(-x)", "expf(x)"),
        (36, "total / n + eps", "total / n"),
        (51, "element > best", "element >= 0.f && element > best"),
        (14, "n_last + 1", "n_last"),
        (91, "backward", "forward"),
    ],
)
def test_wrong_expressions_do_not(evaluator, id, right, wrong):
    filling = honest_filling(TASKS[id])
    assert right in filling
    found = verdict(evaluator, TASKS[id], filling.replace(right, wrong))
    # Inputs are drawn anew: what is wrong for few of them may pass the first draws and fail beside the clock.
    assert found.stage in (Stage.CORRECTNESS, Stage.TIMING) and found.error is ErrorKind.WRONG_VALUES
