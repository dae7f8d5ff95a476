"""The scale chapter: tables that follow from plans, parameter lines that are accepted, commands that are there."""

from __future__ import annotations

import importlib.util
import re
import shlex

import pytest
import yaml

from vegtts_core.book import scaling_out as out
from vegtts_core.book import scaling_out_words as words
from vegtts_core.book.scaling_out_words import COMMANDS, SITUATIONS, Mark
from vegtts_core.book.tables import Table
from vegtts_core.project import find_project_root
from vegtts_core.search import BestOfNParameters
from vegtts_core.training.parameters import AdaptationParameters

ROOT = find_project_root()


@pytest.fixture(scope="module")
def held():
    return out.memories()


def test_the_papers_runs_are_counted_as_their_parameters_say():
    cost = out.cost().set_index(["situation", "run"])
    ttt, search = cost.loc[("one GPU", "TTT")], cost.loc[("an API key", "Best-of-N")]
    assert ttt["rollouts"] == 9 * 5 * 32 and search["rollouts"] == 2 * 5 * 64
    assert ttt["prompt"] == pytest.approx(32 * ttt["prompt_once"])
    assert ttt["completion_most"] == pytest.approx(9 * 5 * 32 * 1.024)
    assert ttt["completion"] == pytest.approx(ttt["rollouts"] * out.completion_length() / 1e3)
    # Five tasks on eight devices: one has a fifth. Two units on sixteen: one has a half.
    assert cost.loc[("a node of 8", "TTT"), "share"] == 1 / 5
    assert cost.loc[("a cluster of 16", "Best-of-N"), "share"] == 1 / 2
    # The main process judges all of a node's candidates; a cluster shares them. Search times everything twice.
    assert cost.loc[("a node of 8", "TTT"), "judged"] == 1440 == 16 * cost.loc[("a cluster of 16", "TTT"), "judged"]
    assert search["judged"] == 640 + 640 + 5


def test_memory_by_hand(held):
    ttt, spread = held["ttt"], held["ttt_spread"]
    assert 4 * 116e9 < ttt.weights < 4 * 118e9 and held["search"].weights == pytest.approx(ttt.weights / 2)
    assert spread.weights == pytest.approx(ttt.weights / 8) and spread.activations == ttt.activations
    table = out.memory_table(held).set_index("term")
    assert (
        table.loc["at most at a time", "ttt"] == f"{out.gib(ttt.kept + ttt.activations + ttt.update_logits):,.1f} GiB"
    )
    assert out.whole_sampling(ttt) == ttt.kept + ttt.sampling > spread.kept + spread.sampling
    assert table.loc[out.WHOLE].notna().sum() == 1
    assert list(table.loc[out.FITS]) == ["no", "yes", "no", "no", "yes"]
    whole, short, few = out.smaller()
    assert whole > short > few > 0


def test_what_is_put_together_to_sample_has_to_fit_too(held):
    large = held["search_split"]
    assert out.gib(large.total) < out.DEVICE_GIB
    table = out.memory_table(held | {"ttt_spread": large}).set_index("term")
    assert table.loc[out.FITS, "ttt_spread"] == "no"


def test_times_where_one_evaluates_and_where_all_do():
    times = out.times((1, 2, 5, 8)).set_index("devices")
    one, two = times.loc[1], times.loc[2]
    assert one["total"] == one["total_spread"] == pytest.approx(one[["sampling", "update", "evaluation"]].sum())
    assert two["sampling"] == pytest.approx(one["sampling"] * 3 / 5) and two["evaluation"] == one["evaluation"]
    assert times.loc[8, "sampling"] == times.loc[5, "sampling"]
    assert two["total"] - two["total_spread"] == pytest.approx(one["evaluation"] / 2)
    assert two["faster_spread"] == pytest.approx(one["total"] / two["total_spread"])
    assert two["faster_spread"] > two["faster"] > 1


def test_nothing_of_this_machine_enters(monkeypatch, held):
    """Neither its own measurements nor its GPU: a plan made elsewhere is the same."""
    monkeypatch.setattr("vegtts_core.plan.library._gpu", lambda: "another GPU")
    monkeypatch.setattr("vegtts_core.runs.machine.cpu", lambda: {"cpu": "another", "cores": 96, "memory_gib": 9.0})
    out.work.cache_clear()
    assert out.memories() == held


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (words.ONE_GPU, AdaptationParameters),
        (words.NODE, BestOfNParameters),
        (words.CLUSTER, BestOfNParameters),
        (words.API_KEY, BestOfNParameters),
    ],
    ids=["one GPU", "a node", "a cluster", "an API key"],
)
def test_parameter_lines_are_accepted(text, kind):
    (section,) = yaml.safe_load(text).values()
    kind.checked(section)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_settings_are_parameters(situation):
    known = {*BestOfNParameters.model_fields, *AdaptationParameters.model_fields, "num_processes"}
    names = re.findall(r"`(\w+)(?::[^`]*)?`", situation.settings)
    assert names and set(names) <= known


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: f"{one.situation}: {one.line}")
def test_commands_are_there(command):
    """Each is in README, or a target of the Makefile, or runs a module with files that exist."""
    parts = shlex.split(command.line)
    readme = (ROOT / "README.md").read_text()
    if parts[0] == "ray":
        assert command.line in readme
    elif parts[0] == "make":
        assert re.search(rf"^{parts[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert f"make {parts[1]}" in readme
    else:
        assert parts[0] in ("python", "accelerate")
        module = parts[parts.index("-m") + 1]
        assert importlib.util.find_spec(f"{module}.__main__") or importlib.util.find_spec(module)
        assert f"-m {module}" in readme or module == "vegtts_core.search"
    for option in ("--config_file", "--params"):
        given = parts[parts.index(option) + 1] if option in parts else None
        if given and given != "FILE":
            assert (ROOT / given if "/" in given else ROOT / "params" / f"{given}.yaml").is_file()


def test_marks_agree_with_the_files_that_were_not_launched():
    """What a file under params/accelerate says of itself, the page says too."""
    for command in COMMANDS:
        for name in ("ddp", "fsdp"):
            if f"accelerate/{name}.yaml" in command.line:
                text = " ".join((ROOT / f"params/accelerate/{name}.yaml").read_text().replace("#", " ").split())
                assert ("Not run" in text or "was not launched" in text) is (command.mark is Mark.NOT_RUN)
    assert {mark for mark in Mark} == {command.mark for command in COMMANDS}


def test_every_number_of_the_prose_is_there(held):
    cost, times = out.cost(), out.times()
    facts = words.facts(cost, held, times)
    prose = (ROOT / "chapters" / "scale.ipynb").read_text()
    asked = set(re.findall(r"\{glue:text\}`scale-([\w-]+)`", prose))
    assert asked <= set(facts) and all(value not in ("", "–") for value in facts.values())
    assert facts["idle"] == "3" and facts["trained"] == "8" and facts["served-ratio"] == "16"
    assert facts["ttt"] in words.takeaway(facts)


def test_tables_can_be_shown(held):
    for name, frame, columns in (
        ("situations", words.situation_table(held), words.SITUATION_COLUMNS),
        ("cost", out.cost(), out.COST_COLUMNS),
        ("memory", out.memory_table(held), out.MEMORY_COLUMNS),
        ("commands", words.command_table(), words.COMMAND_COLUMNS),
    ):
        shown = Table(frame, f"tab-{name}", "A caption.", columns)
        assert len(shown.rows) == len(frame) and "nan" not in shown.markdown().lower() and "None" not in shown.text()
