"""The template prompt's formulas: each belongs to some task, and those of one argument compute what torch computes."""

import math
import re

import pytest
import torch
from torch.nn.functional import elu, gelu, hardsigmoid, hardtanh, leaky_relu, selu, softplus

from vegtts_core.kernels.templates import TemplateScaffold, covered
from vegtts_core.kernels.templates.glossary import _MEANINGS, meanings
from vegtts_core.tasks import get_task

TASKS = [get_task(entry.key) for entry in covered() if entry.family is not None]
MAPS = {
    "abs": torch.abs,
    "relu": torch.relu,
    "leaky_relu": lambda x: leaky_relu(x, 0.01),
    "sigmoid": torch.sigmoid,
    "gelu": gelu,
    "selu": selu,
    "elu": elu,
    "hardsigmoid": hardsigmoid,
    "softplus": softplus,
    "hardtanh": hardtanh,
}
NAMES = {name: getattr(math, name) for name in ("exp", "erf", "sqrt", "log")} | {
    "max": max, "min": min, "abs": abs, "negative_slope": 0.01, "alpha": 1.0, "min_val": -1.0, "max_val": 1.0
}  # fmt: skip


@pytest.mark.parametrize("pattern", _MEANINGS)
def test_every_formula_is_shown_with_some_task(pattern):
    assert any(re.search(pattern, task.source) for task in TASKS)


@pytest.mark.parametrize("name", MAPS)
def test_maps_compute_what_torch_computes(name):
    """The words of the formula, read as Python."""
    [formula] = [text for text in _MEANINGS.values() if text.startswith(f"{name}(x) = ")]
    formula = formula.removeprefix(f"{name}(x) = ").split(", which is")[0]
    formula = formula.replace(" times ", " * ").replace(", else", " else").replace("|x|", "abs(x)")
    points = torch.linspace(-6, 6, 97, dtype=torch.float64)
    found = [eval(formula, {"__builtins__": {}}, NAMES | {"x": x}) for x in points.tolist()]
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), MAPS[name](points), rtol=1e-6, atol=1e-7)


def test_the_prompt_explains_what_the_model_calls_and_nothing_else():
    task = get_task(29)  # softplus
    question = TemplateScaffold().prompt(task).messages[-2].content
    assert question.count("\nHere ") == len(meanings(task)) == 1
    assert "Here softplus(x) = log(1 + exp(x)), which is x itself where x > 20." in question
    assert "Here " not in TemplateScaffold().prompt(get_task(5)).messages[-2].content  # a product with a number


def test_a_task_that_calls_nothing_known_has_no_formula():
    assert meanings(get_task(5)) == []
