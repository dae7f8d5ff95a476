"""Every level-1 task, at the benchmark's size, against the table of facts; shapes only, on the meta device."""

from __future__ import annotations

import csv
import inspect
import json
import math
import re
from functools import cache
from importlib.resources import files

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vegtts_core.tasks import Size, Task, exec_module, get_task

_TABLE = (files("vegtts_core.tasks") / "data" / "kernelbench_level1.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(_TABLE.splitlines()))


class _OperationLog(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


class _DrawLog(TorchFunctionMode):
    """The functions that draw numbers or cut triangles: what the table calls the input distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in ("rand", "randint", "randn", "triu", "tril") and name not in self.names:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _signature(function) -> str:
    return str(inspect.signature(function)).replace("torch.Tensor", "Tensor")


@cache
def _observed(task: Task) -> dict[str, str]:
    """The columns of the table, as this task's module shows them."""
    module = exec_module(task.source)
    draws = _DrawLog()
    with torch.device("meta"):
        with draws:
            inputs = module["get_inputs"]()
        init = module["get_init_inputs"]()
        model = module["Model"](*init)
    log = _OperationLog()
    with torch.no_grad(), log:
        output = model(*inputs)
    plain = {k: v for k, v in vars(model).items() if not k.startswith("_") and k != "training"}
    attributes = [f"{k}={v}" for k, v in plain.items()] + [f"{k}: {v}" for k, v in model.named_children()]
    return {
        "init_signature": _signature(module["Model"].__init__),
        "init": json.dumps(init).replace("false", "False"),
        "attributes": "; ".join(attributes),
        "signature": _signature(module["Model"].forward),
        "inputs": "; ".join(_shape(x) if isinstance(x, torch.Tensor) else str(x) for x in inputs),
        "input_distribution": "+".join(draws.names),
        "output": _shape(output),
        "parameters": "; ".join(f"{name}{list(p.shape)}" for name, p in model.named_parameters()),
        "aten_ops": ">".join(log.names),
    }


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['id']}-{row['name']}"[:40] for row in ROWS])
def test_task_is_the_tables(row):
    task = get_task(int(row["id"]), Size.KERNELBENCH)
    assert task.name == row["name"]
    observed = _observed(task)
    assert observed == {column: row[column] for column in observed}
    assert task.flop / 1e9 == pytest.approx(float(row["gflop"]), abs=6e-4)
    assert task.min_bytes / 1e9 == pytest.approx(float(row["min_gbytes"]), abs=6e-5)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_task_says_what_its_module_does(row):
    for size in Size:
        task = get_task(int(row["id"]), size)
        observed = _observed(task)
        specs = [
            f"{str(s.dtype).removeprefix('torch.')}{list(s.shape)}" if s.shape else str(s.value) for s in task.inputs
        ]
        assert "; ".join(specs) == observed["inputs"]
        assert tuple(s.name for s in task.inputs) == task.forward_arguments
        assert task.forward_signature in task.source
        assert all(line.strip() in task.source for line in task.forward_body.splitlines())
        assert ("weights" in task.contract.sensitive_to) == bool(observed["parameters"])


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_cpu_size_keeps_the_form_and_is_small(row):
    large, small = (get_task(int(row["id"]), size) for size in Size)
    assert _rank(_observed(small)) == _rank(_observed(large))
    for column in ("init_signature", "signature", "aten_ops", "input_distribution"):
        assert _observed(small)[column] == row[column]
    for text in re.findall(r"\[[\d, ]+\]", "".join(_observed(small)[c] for c in ("inputs", "output", "parameters"))):
        assert math.prod(json.loads(text)) * 4 <= 64 * 2**20
    assert small.min_bytes < large.min_bytes


def _rank(observed: dict[str, str]) -> list[int]:
    columns = ("inputs", "output", "parameters")
    return [text.count(",") for column in columns for text in re.findall(r"\[[\d, ]*\]", observed[column])]


def test_the_older_diagonal_reference():
    old, new = get_task("12-diag", Size.KERNELBENCH), get_task(12, Size.KERNELBENCH)
    assert old.key == "level1/12-diag" and old.forward_body == "return torch.diag(A) @ B"
    assert [s.shape for s in old.inputs] == [s.shape for s in new.inputs]
    assert old.flop == 2 * 4096**3 and new.flop == 0
    assert old.min_bytes == new.min_bytes


def _dims(id: int) -> list[tuple[int, ...]]:
    return [spec.shape for spec in get_task(id).inputs if spec.shape is not None]


def test_irregular_sizes_stay_irregular():
    assert all(n % 2 for shape in _dims(8) for n in shape)
    assert all(_dims(id)[0][-1] % 2 for id in (38, 39, 47, 48, 49, 51, 52, 53))
