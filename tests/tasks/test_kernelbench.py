"""Problems from a user's own copy: a checkout, a ``datasets`` folder, parquet files; all made here."""

from __future__ import annotations

import datasets
import pytest
import torch

from vegtts_core.errors import UserError
from vegtts_core.tasks import Size, build_reference, draw_inputs, get_task, load_tasks

HUGE = """
import torch
import torch.nn as nn

class Model(nn.Module):
    \"\"\"Adds a number on whichever device it likes.\"\"\"
    def __init__(self, features):
        super().__init__()
        self.lin = nn.Linear(features, 2)
        self.rates = [r.item() for r in torch.linspace(0, 1, 3)]

    def forward(self, x: torch.Tensor, bias: float, unused=None) -> torch.Tensor:
        return self.lin(x) + bias

def get_inputs():
    return [torch.rand(1 << 24, 1 << 16, device="cuda"), 2.5]

def get_init_inputs():
    return [1 << 16]
"""
SMALL = HUGE.replace('1 << 24, 1 << 16, device="cuda"', "3, 4").replace("1 << 16", "4")
BROKEN = HUGE.replace("self.lin(x)", "self.missing(x)")


@pytest.fixture
def checkout(tmp_path):
    for level, name, text in (
        (1, "30_Softsign.py", get_task(30, Size.KERNELBENCH).source),
        (1, "4_Matrix_vector_multiplication_.py", get_task(4, Size.KERNELBENCH).source),
        (2, "7_Huge.py", HUGE),
        (2, "9_Small.py", SMALL),
        (3, "1_Broken.py", BROKEN),
        (3, "notes.py", "raise SystemExit"),
        (4, "1_Model_to_download.py", "raise SystemExit"),
    ):
        folder = tmp_path / "KernelBench" / f"level{level}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return tmp_path


def test_checkout(checkout):
    tasks = load_tasks(f"kernelbench:{checkout}#1", Size.KERNELBENCH)
    assert [(t.key, t.name) for t in tasks] == [
        ("level1/4", "Matrix_vector_multiplication_"),
        ("level1/30", "Softsign"),
    ]
    for task in tasks:
        own = get_task(task.id, Size.KERNELBENCH)
        assert task.source == own.source and task.forward_body == own.forward_body
        assert (task.flop, task.min_bytes) == (own.flop, own.min_bytes)
        assert [(s.name, s.shape, s.dtype) for s in task.inputs] == [(s.name, s.shape, s.dtype) for s in own.inputs]
        assert "get_inputs" in task.contract.statement


def test_shapes_are_read_without_drawing(checkout):
    (task,) = load_tasks(f"kernelbench:{checkout}#2/7", "kernelbench")
    assert task.key == "level2/7" and task.family is None
    assert task.forward_arguments == ("x", "bias", "unused") and [s.name for s in task.inputs] == ["x", "bias"]
    assert task.inputs[0].shape == (1 << 24, 1 << 16) and task.inputs[1].value == 2.5
    assert task.flop == 2 * (1 << 24) * (1 << 16) * 2
    assert task.min_bytes == 4 * ((1 << 40) + 2 * (1 << 16) + 2 + 2 * (1 << 24))


def test_draws_are_get_inputs_under_the_seed(checkout):
    (task,) = load_tasks(f"kernelbench:{checkout}#2/9", "kernelbench")
    torch.manual_seed(5)
    expected = torch.rand(3, 4)
    for wide in (False, True):
        x, bias = draw_inputs(task, 5, wide)
        assert isinstance(x, torch.Tensor) and torch.equal(x, expected) and bias == 2.5
    assert task.inputs[0].benchmark is not None
    assert torch.equal(task.inputs[0].benchmark.sample((3, 4), torch.Generator().manual_seed(5)), expected)
    assert build_reference(task, 1)(x, bias).shape == (3, 2)


def _rows():
    return {
        "code": [SMALL, get_task(19, Size.KERNELBENCH).source],
        "level": [2, 1],
        "name": ["9_Small", "19_ReLU"],
        "problem_id": [9, 19],
    }


@pytest.mark.parametrize("form", ["folder", "dictionary", "parquet"])
def test_datasets_copies(tmp_path, form):
    rows = datasets.Dataset.from_dict(_rows())
    if form == "folder":
        rows.save_to_disk(str(tmp_path))
    elif form == "dictionary":
        parts = datasets.DatasetDict()
        parts |= {"level_1": rows.select([1]), "level_2": rows.select([0])}
        parts.save_to_disk(str(tmp_path))
    else:
        (tmp_path / "data").mkdir()
        rows.to_parquet(str(tmp_path / "data" / "level_1-00000.parquet"))
    tasks = load_tasks(f"kernelbench:{tmp_path}", "kernelbench")
    assert [(t.key, t.name) for t in tasks] == [("level1/19", "ReLU"), ("level2/9", "Small")]
    assert [t.key for t in load_tasks(f"kernelbench:{tmp_path}#level_2", "kernelbench")] == ["level2/9"]


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("#4", "from 1 to 3"),
        ("#1/x", "from 1 to 3"),
        ("#1/30,31", "no problem 31 of level 1"),
        ("#3", "could not be read on the meta device"),
    ],
)
def test_mistakes_are_named(checkout, fragment, said):
    with pytest.raises(UserError, match=said):
        load_tasks(f"kernelbench:{checkout}{fragment}", "kernelbench")


def test_mistaken_paths_and_sizes_are_named(checkout, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_tasks("kernelbench:/no/such/folder", "kernelbench")
    with pytest.raises(UserError, match="size='kernelbench'"):
        load_tasks(f"kernelbench:{checkout}", "cpu")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="There is no problem in"):
        load_tasks(f"kernelbench:{empty}", "kernelbench")
    (empty / "x.parquet").write_text("not parquet")
    with pytest.raises(UserError, match="not a parquet file"):
        load_tasks(f"kernelbench:{empty}", "kernelbench")
