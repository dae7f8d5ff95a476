"""Chapter 3.1 on the recorded walk, on a made GPU walk beside it, and on walks that went another way."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vegtts_core.book import walking, walking_words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.walking import Walk
from vegtts_core.book.walking_chart import timing_chart
from vegtts_core.errors import UserError
from vegtts_core.evaluator.sandbox import Layer
from vegtts_core.evaluator.types import Stage
from vegtts_core.evaluator.walk import TASK, completions, line_of
from vegtts_core.kernels.types import Language
from vegtts_core.project import VARIABLE, find_project_root
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import get_task

PARTS = (walking.REFERENCE, walking.HONEST, walking.TEMPLATE, walking.TYPO, walking.HOST, walking.NARROW)


def changed(walk: Walk, name: str, **fields: Any) -> Walk:
    """The walk with other values under the sound protocol of one candidate."""
    entries = copy.deepcopy(walk.candidates)
    next(entry for entry in entries if entry["name"] == name)["sound"] |= fields
    return replace(walk, candidates=entries)


@pytest.fixture
def walk() -> Walk:
    (first, *_) = walking.walks("recorded", "cpu")
    return first


@pytest.fixture
def gpu(walk: Walk) -> Walk:
    """The recorded walk as if it had been made on a GPU, at the benchmark's size, with CUDA completions."""
    task = get_task(TASK, "kernelbench")
    entries = copy.deepcopy(walk.candidates)
    for entry in entries:
        _, entry["text"] = completions(task, "cuda")[entry["name"]]
    return Walk(task, "cuda", {**walk.machine, "gpu": "NVIDIA H100"}, entries)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that holds the recorded walk alone."""
    source = find_project_root() / "data" / "walk" / "cpu" / "walk.json"
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text("")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "cpu.yaml").write_text("best_of_n: {device: cpu, size: cpu}\n")
    (tmp_path / "params" / "h100.yaml").write_text("best_of_n: {device: 'cuda:0', size: kernelbench}\n")
    for device in ("cpu", "cuda"):
        folder = tmp_path / "data" / "walk" / device
        folder.mkdir(parents=True)
        found = json.loads(source.read_text()) | {"device": device}
        (folder / "walk.json").write_text(json.dumps(found))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_the_device_of_the_parameters_comes_first(project: Path) -> None:
    assert [w.device for w in walking.walks("recorded", str(project / "params" / "cpu.yaml"))] == ["cpu", "cuda"]
    assert [w.device for w in walking.walks("recorded", str(project / "params" / "h100.yaml"))] == ["cuda", "cpu"]


def test_a_live_walk_takes_the_recorded_one_s_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recorded, _) = walking.walks("recorded", str(project / "params" / "cpu.yaml"))
    asked: list[tuple[str, str]] = []

    def made(task: Any, device: str, on_entry: Any) -> list[dict[str, Any]]:
        asked.append((str(task.size), device))
        for entry in recorded.candidates:
            on_entry(entry)
        return list(recorded.candidates)

    monkeypatch.setattr(walking, "evaluate_walk", made)
    live, other = walking.walks("live", str(project / "params" / "cpu.yaml"))
    assert asked == [("cpu", "cpu")] and (live.device, other.device) == ("cpu", "cuda")
    assert walking.ends(live).equals(walking.ends(recorded))
    assert live.machine["cores"] >= 1


def test_mistakes_are_a_sentence(project: Path) -> None:
    params = str(project / "params" / "cpu.yaml")
    with pytest.raises(UserError, match="must be recorded or live"):
        walking.walks("lives", params)
    (walk, _) = walking.walks("recorded", params)
    with pytest.raises(UserError, match="no candidate 'nobody'"):
        walk.entry("nobody")
    for path in (project / "data" / "walk").glob("*/walk.json"):
        path.unlink()
    with pytest.raises(UserError, match="No walk is recorded"):
        walking.walks("recorded", params)


def test_the_chapter_s_candidates_are_in_the_walk(walk: Walk) -> None:
    assert set(PARTS) <= set(walk.names)
    for name in walking.BY_SCAFFOLD.values():
        assert isinstance(walk.parsed(name), Candidate)


@pytest.mark.parametrize("scaffold", walking.BY_SCAFFOLD)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_dialogue_ends_with_what_the_policy_wrote(walk: Walk, gpu: Walk, scaffold: str, device: str) -> None:
    which = walk if device == "cpu" else gpu
    text, lines = walking.dialogue(which, scaffold)
    shown = text.splitlines()
    written = [shown[place - 1].strip() for place in lines]
    text = which.entry(walking.BY_SCAFFOLD[scaffold])["text"]
    assert written == [line.strip() for line in text.strip("\n").splitlines()]
    assert lines[-1] == len(shown)
    assert ("def forward" in "\n".join(shown)) == (scaffold == "forward")
    assert all(len(line) <= walking.LINE for line in shown[: lines[0] - 1])


def test_the_signature_is_that_of_the_language(walk: Walk, gpu: Walk) -> None:
    assert walk.language is Language.CPP and gpu.language is Language.CUDA
    assert "__global__" not in walking.signature_lines(walk)
    assert walking.signature_lines(gpu).splitlines()[-1].startswith('extern "C" __global__ void kernel(')
    assert walking.elements(gpu) > walking.elements(walk) > 1000


def test_a_compiler_s_line_is_found_in_both_texts(walk: Walk) -> None:
    entry, line = walk.entry(walking.TYPO), walking.error_line(walk, walking.TYPO)
    source = entry["source"].splitlines()
    assert source[walking.unit_line(walk, walking.TYPO, line) - 1] == entry["text"].splitlines()[line - 1]
    assert "exp_f" in entry["text"].splitlines()[line - 1]


def test_tables(walk: Walk, gpu: Walk) -> None:
    ends = walking.ends(walk).set_index("candidate")
    assert ends["said"].str.len().gt(0).all()
    assert ((ends["sound"] > 0) == (ends["stage"] == Stage.REWARD)).all()
    assert list(walking.stages(walk, walking.HONEST)["stage"]) == [f"{n} {stage}" for n, stage in enumerate(Stage, 1)]
    rewards = walking.rewards([walk, gpu])
    paid = {*walking.only_published(walk), *(entry["name"] for entry in walking.rewarded(walk))}
    assert list(rewards["device"].unique()) == [walk.processor, "NVIDIA H100"]
    assert set(rewards["candidate"]) == paid
    assert all(f"// {name}\n" in walking.attempts(walk) for name in (walking.TYPO, walking.HOST, walking.NARROW))
    assert walking.HONEST not in walking.attempts(walk)


def test_only_the_wide_draws_have_numbers_below_zero(walk: Walk) -> None:
    draws = walking.draws(walk)
    wide = draws["draw"].str.contains("whole domain")
    assert wide.sum() == 1
    assert draws.loc[wide, "below"].between(0.2, 0.8).all() and (draws.loc[~wide, "below"] == 0).all()


def test_every_layer_has_its_sentence() -> None:
    layers = walking.sandbox_layers()
    assert list(layers["layer"]) == [f"`{layer}`" for layer in Layer]
    assert layers["sentence"].str.match(r"[A-Z].*[^.]\.$").all()


def test_the_chart_holds_every_pair(walk: Walk, gpu: Walk) -> None:
    ratios = walking.call_ratios(walk)
    assert len(ratios) == sum(len(entry["sound"]["pairs"]) for entry in walking.rewarded(walk))
    for shown in ([walk], [walk, gpu]):
        first, second = (draw(specification(timing_chart(shown)), "fig-x") for _ in range(2))
        assert first == second and "NaN" not in first


def everything_said(walks: list[Walk]) -> str:
    words, walk = walking_words, walks[0]
    told = [words.hacking_here, words.hacking_verdict, words.clock_here, words.clock_verdict, words.dense_here]
    return "\n".join([*words.facts(walks).values(), *(tell(walk) for tell in told), words.takeaway(walk)])


def test_sentences(walk: Walk, gpu: Walk) -> None:
    alone, both = everything_said([walk]), everything_said([walk, gpu])
    assert "None" not in alone and "nan" not in alone
    assert "No other device" in alone and "one NVIDIA H100" in both
    assert walking_words.hacking_published()


def test_sentences_follow_the_verdicts(walk: Walk) -> None:
    about = walking.REFERENCE
    even = changed(walk, about, speedup=1.0, speedup_low=0.99, speedup_high=1.01, decision="same")
    assert "holds 1" in walking_words.clock_verdict(even)
    off = changed(walk, about, speedup=0.9, speedup_low=0.88, speedup_high=0.92, decision="slower")
    assert "misses 1 and the decision is slower" in walking_words.clock_verdict(off)
    lost = changed(walk, about, correct=False, reward=0.0, stage="correctness", reason="It was lost.")
    assert "came no further than correctness: It was lost." in walking_words.reference(lost)


def test_a_walk_without_surprises_says_so(walk: Walk) -> None:
    entries = tuple(entry for entry in walk.candidates if entry["name"] not in walking.only_published(walk))
    tame = replace(walk, candidates=entries)
    assert "rewards nothing that" in walking_words.difference(tame)
    assert "Nothing was paid for wrongly" in walking_words.hacking_verdict(tame)
    assert "pays" in walking_words.takeaway(tame) and "more" not in walking_words.takeaway(tame).split("pays")[1][:5]


def test_a_walk_in_which_nothing_was_timed_can_be_shown(walk: Walk) -> None:
    entries = copy.deepcopy(walk.candidates)
    for entry in entries:
        for protocol in ("sound", "published"):
            nothing = {"correct": False, "reward": 0.0, "decision": None, "speedup": None, "max_error": None}
            nothing |= {"speedup_low": None, "speedup_high": None, "pairs": [], "stage": "correctness"}
            entry[protocol] |= nothing | {"reason": entry[protocol]["reason"] or "It was ended after 2 s of timing."}
    poor = replace(walk, candidates=entries)
    assert walking.rewards([poor]).empty
    assert everything_said([poor])
    assert list(walking.stages(poor, walking.HONEST)["stage"])
    assert draw(specification(timing_chart([poor])), "fig-x")


def test_a_line_for_the_terminal(walk: Walk) -> None:
    assert line_of(walk.entry(walking.HOST)).startswith("calls the host")
