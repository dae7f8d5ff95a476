"""Selectors, splits, keys, the text of modules, and the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.tasks import Family, Size, exec_module, get_task, load_tasks, named_selections
from vegtts_core.tasks.__main__ import main
from vegtts_core.tasks.source import forward_text


def test_splits_are_disjoint_and_complete():
    names = named_selections()
    for seed in (42, 43, 44):
        train, evaluation = names[f"l1_seed{seed}_train"], names[f"l1_seed{seed}_eval"]
        assert (len(train), len(evaluation)) == (80, 20)
        assert sorted(train + evaluation) == list(range(1, 101))
    assert set(names["subset_1"]) == {4, 5, 12, 14, 15} and set(names["subset_2"]) == {18, 28, 29, 30, 32}
    assert set(names["subset_1"]) | set(names["subset_2"]) <= set(names["l1_seed42_eval"])
    assert len(set(names)) == 9


def test_selectors():
    assert [t.id for t in load_tasks("subset_1")] == [4, 5, 12, 14, 15]
    assert [t.key for t in load_tasks([30, "12-diag", "level1/4"])] == ["level1/30", "level1/12-diag", "level1/4"]
    assert [t.key for t in load_tasks("level1/12-diag")] == ["level1/12-diag"]
    assert get_task(30, "kernelbench").size is Size.KERNELBENCH and get_task("30").size is Size.CPU
    assert get_task(30) is load_tasks("subset_2")[3]
    everything = load_tasks("level1")
    assert [t.id for t in everything] == list(range(1, 101))
    assert {t.family for t in everything} == set(Family)


@pytest.mark.parametrize("selector", ["subset_3", "level1/101", 0, "13-diag", "level2/1", "", "l1_seed45_eval"])
def test_unknown_selectors_are_named(selector):
    with pytest.raises(UserError, match="names no task"):
        load_tasks([selector])


def test_an_unknown_size_is_named():
    with pytest.raises(UserError, match="'huge' is not a size"):
        load_tasks("subset_1", "huge")


@given(st.text(max_size=20))
def test_any_other_text_is_a_user_error(text):
    try:
        assert get_task(text).level == 1
    except UserError as error:
        assert str(error).endswith(".")


def test_forward_text_of_awkward_modules():
    text = forward_text(
        "class Model:\n"
        "    def forward(\n        self,\n        x,\n        scale: float = 2.0,  # a comment\n    ) -> int:\n"
        '        """Says\n        something."""\n'
        "        # kept out\n"
        "        y = x  # kept\n\n"
        "        if y:\n            y = 2\n"
        "        return y\n"
    )
    assert text.arguments == ("x", "scale")
    assert text.signature == "def forward(self, x, scale: float=2.0) -> int:"
    assert text.body == "y = x\n\nif y:\n    y = 2\nreturn y"
    assert forward_text("class Model:\n    def forward(self, x): return x * 2\n").body == "return x * 2"


@pytest.mark.parametrize("source", ["x = 1\n", "class Model:\n    pass\n", "class Model(\n"])
def test_modules_without_a_model_are_named(source):
    with pytest.raises(UserError, match="give a KernelBench-format module"):
        forward_text(source)


def test_modules_do_not_inherit_our_future_imports():
    module = exec_module("def f(x: int): pass\n")
    assert module["f"].__annotations__ == {"x": int}


def test_command_line(capsys):
    assert main(["--task", "30"]) == 0
    shown = capsys.readouterr().out
    assert get_task(30).source in shown and get_task(30).contract.statement in shown
    assert main(["--select", "subset_1", "--size", "kernelbench"]) == 0
    assert "2048x1048576" in capsys.readouterr().out
    assert main(["--task", "nothing"]) == 2
    assert "names no task" in capsys.readouterr().err
