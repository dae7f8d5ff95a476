"""The module scaffold: what is read out of a completion, and which fallbacks to the reference are refused."""

from __future__ import annotations

import pytest

from vegtts_core.scaffolds import Candidate, ModuleScaffold, Refusal, RefusalKind
from vegtts_core.tasks import get_task

TASK = get_task("1")
HEAD = "import torch\nimport torch.nn as nn\n\n\n"
OWN = "class ModelNew(nn.Module):\n    def forward(self, A, B):\n        return A.mm(B)\n"


@pytest.mark.parametrize(
    "completion",
    [
        HEAD + OWN,
        f"Here it is:\n```python\n{HEAD}{OWN}```\nIt is fast.",
        f"```python\nclass Model: pass\n```\nand\n```\n{HEAD}{OWN}",
        TASK.source.replace("Model", "ModelNew"),
        HEAD
        + OWN.replace(
            "    def forward", "    def __init__(self):\n        super(ModelNew, self).__init__()\n    def forward"
        ),
        HEAD + "class ModelNew(nn.Module):\n    forward = lambda self, A, B: A @ B\n",
        HEAD + "ModelNew = type('ModelNew', (nn.Module,), {'forward': lambda self, A, B: A @ B})\n",
    ],
)
def test_modules_are_read(completion: str) -> None:
    found = ModuleScaffold().parse(TASK, completion)
    assert isinstance(found, Candidate), found
    assert found.scaffold == "module" and "ModelNew" in found.source and "```" not in found.source
    again = ModuleScaffold().parse(TASK, completion + "\n\n")
    assert isinstance(again, Candidate) and again.fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("completion", "kind", "words"),
    [
        ("", RefusalKind.EMPTY, "no ModelNew"),
        ("I would use a tiled ModelNew.", RefusalKind.SYNTAX, "line 1"),
        ("ModelNew = '\0'", RefusalKind.SYNTAX, ""),
        ("# ModelNew\n" + "x" * 300_000, RefusalKind.TOO_LONG, "200000"),
        (f"{HEAD}class ModelNew(Model):\n    pass\n", RefusalKind.FORBIDDEN, "no forward of its own"),
        (HEAD + OWN.replace("A.mm(B)", "super().forward(A, B)"), RefusalKind.FORBIDDEN, "base class"),
        (HEAD + OWN.replace("A.mm(B)", "Model()(A, B)"), RefusalKind.FORBIDDEN, "the reference, Model"),
        (
            HEAD
            + OWN.replace(
                "return A.mm(B)", "try:\n            return f(A)\n        except Exception:\n            return A @ B"
            ),
            RefusalKind.FORBIDDEN,
            "catches exceptions",
        ),
    ],
)
def test_refusals(completion: str, kind: RefusalKind, words: str) -> None:
    found = ModuleScaffold().parse(TASK, completion)
    assert isinstance(found, Refusal) and found.kind is kind and words in found.reason, found


def test_the_prompt_shows_the_task_and_its_examples() -> None:
    prompt = ModuleScaffold().prompt(TASK, [get_task("25")])
    text = prompt.messages[-1].content
    assert TASK.source.strip() in text and get_task("25").source.strip() in text and "class ModelNew" in text
