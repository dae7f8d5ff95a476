from pathlib import Path

import pytest

from vegtts_core.errors import UserError
from vegtts_core.project import find_project_root
from vegtts_core.search import BestOfNParameters
from vegtts_core.training.parameters import AdaptationParameters


@pytest.mark.parametrize("name", sorted(path.stem for path in (find_project_root() / "params").glob("*.yaml")))
def test_every_parameter_file_is_valid(name: str) -> None:
    chosen = BestOfNParameters.read("best_of_n", name)
    # The paper's temperature; the adapter, which is sure of itself, is asked at 1.
    assert chosen.temperature == (1.0 if chosen.adapter == "embedded" else 0.25)


def test_paper_yaml_is_appendix_a() -> None:
    paper = BestOfNParameters.read("best_of_n", "paper")
    assert (paper.k, paper.max_new_tokens, paper.policy) == (64, 1024, "openai/gpt-oss-120b")


def test_overrides_replace_and_none_leaves_alone() -> None:
    chosen = BestOfNParameters.read("best_of_n", "cpu", {"seeds": [45], "k": None})
    assert chosen.seeds == (45,)
    assert chosen.k == BestOfNParameters.read("best_of_n", "cpu").k


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"temprature": 0.3}, "Unknown parameter temprature"),
        ({"k": "many"}, "Parameter k is 'many'"),
        ({"k": 0}, "Parameter k is 0"),
        ({"seeds": [1, 1]}, "seed is named twice"),
        ({"evaluator": {"sound": {"max_pear": 3}}}, r"Unknown parameter evaluator\.sound\.max_pear"),
    ],
)
def test_wrong_parameters_are_refused_by_name(overrides: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        BestOfNParameters.read("best_of_n", "cpu", overrides)


def test_a_family_is_its_section_and_what_varies(tmp_path: Path) -> None:
    yaml = tmp_path / "some.yaml"
    yaml.write_text(
        "runs:\n  k: 2\n  evaluator: {sound: {max_seconds: 0.2}}\n  vary:\n    one: {seeds: [1]}\n"
        "    two: {seeds: [2], evaluator: {sound: {min_pairs: 7}}}\nalone: {k: 3}\n"
    )
    found = BestOfNParameters.family("runs", yaml, {"temperature": 0.5, "k": None})
    assert {name: (one.k, one.seeds, one.temperature) for name, one in found.items()} == {
        "one": (2, (1,), 0.5),
        "two": (2, (2,), 0.5),
    }
    sound = found["two"].evaluator.sound
    assert (sound.max_seconds, sound.min_pairs) == (0.2, 7)
    assert list(BestOfNParameters.family("runs", yaml, only=["two"])) == ["two"]
    assert BestOfNParameters.family("alone", yaml)["alone"].k == 3
    with pytest.raises(UserError, match="Section runs has no run three: choose from one, two"):
        BestOfNParameters.family("runs", yaml, only=["three"])
    with pytest.raises(UserError, match=r"some\.yaml has no section others"):
        BestOfNParameters.family("others", yaml)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose from"):
        BestOfNParameters.read("best_of_n", "nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        BestOfNParameters.read("best_of_n", tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\n")
    with pytest.raises(UserError, match="not valid YAML"):
        BestOfNParameters.read("best_of_n", broken)


@pytest.mark.parametrize("kind", [BestOfNParameters, AdaptationParameters])
def test_a_run_without_vllm_is_the_run_it_was_before_there_was_a_choice(kind) -> None:
    assert not {"sampler", "vllm"} & kind().model_dump().keys()
    given = kind.checked({"sampler": "vllm", "vllm": {"max_num_seqs": 8}})
    assert given.vllm.max_num_seqs == 8
    assert given.model_dump()["sampler"] == given.model_dump(mode="json")["sampler"] == "vllm"
    with pytest.raises(UserError, match=r"Parameter vllm\.max_num_seqs"):
        kind.checked({"vllm": {"max_num_seqs": 0}})
