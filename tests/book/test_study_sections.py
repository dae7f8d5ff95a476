"""The sections on the study's runs: cases made by hand, and the recorded runs."""

import math

import numpy as np
import pandas as pd
import pytest
from made_tables import sample, table

from vegtts_core.book import beyond_variants as variants
from vegtts_core.book import distilling_results, distilling_study, probing_study, training_warm
from vegtts_core.book import trajectories_study as study
from vegtts_core.book import trajectories_study_words as words
from vegtts_core.book.distilling_results import ADAPTATION, FEEDBACK, PROMPT_ONLY
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.measurement import NOTHING
from vegtts_core.book.probing import READINGS
from vegtts_core.book.study import studied
from vegtts_core.book.tables import Table
from vegtts_core.book.trajectories import Source
from vegtts_core.metrics import Quarter
from vegtts_core.statistics import Interval, mean_effect


def source(rows):
    """``rows``: (task, step, correct of 4, distinct correct, speedup)."""
    made = [
        sample(
            task=f"level1/{task}",
            task_id=task,
            seed=42,
            step=step,
            sample=i,
            correct=i < right,
            speedup=speedup if i < right else math.nan,
            fingerprint=f"{min(i, kinds - 1)}" if i < right else f"wrong {i}",
        )
        for task, step, right, kinds, speedup in rows
        for i in range(4)
    ]
    return Source("made", table(made), "sound")


def test_ends_count_the_candidates_of_steps_that_are_usually_correct() -> None:
    found = study.ends({"made": source([(1, 0, 1, 1, 0.4), (1, 1, 4, 2, 0.4), (1, 2, 4, 3, 0.4)])}).iloc[0]
    assert (found["first"], found["last"], found["most"]) == (1, 4, 3)
    assert (found["fewest"], found["fewest_step"]) == (2, 1)  # step 0 has one, and one correct rollout of four
    assert found["speedup"] == pytest.approx(0.4) and found["fast"] == 0


def test_a_task_without_a_correct_rollout_has_no_speedup_and_no_fewest() -> None:
    found = study.ends({"made": source([(1, 0, 0, 1, 1.0), (1, 1, 0, 1, 1.0)])}).iloc[0]
    assert math.isnan(found["fewest"]) and math.isnan(found["speedup"])
    outcomes = study.outcomes({"made": source([(1, 0, 0, 1, 1.0), (2, 0, 4, 1, 0.5)])})
    speed = outcomes[outcomes["measure"] == "speedup"].iloc[0]
    assert speed["estimate"] == pytest.approx(0.5) and speed["tasks"] == 1


def test_medians_of_tasks_are_averaged_geometrically() -> None:
    found = study.outcomes({"made": source([(1, 0, 4, 1, 0.25), (2, 0, 4, 1, 4.0)])})
    assert found.set_index("measure").at["speedup", "estimate"] == pytest.approx(1.0)


def rows(**columns):
    base = {"k": 32, "fewest": 20.0, "fast": 0.0, "speedup": 0.4}
    return pd.DataFrame([base | columns])


def test_collapse_needs_few_candidates_and_slow_ones_are_said_apart() -> None:
    assert words.collapse_verdict(rows()).startswith("On no task")
    assert "correct but slow" in words.collapse_verdict(rows(fewest=1.0))
    assert "none of these" in words.collapse_verdict(rows(fewest=1.0, speedup=1.2, fast=1.0))
    assert words.collapse_verdict(rows(fewest=math.nan)).startswith("On no task")


def worth(**columns):
    base = {"source": "a", "step": 1, "last_step": 8, "equal": 0.01, "held_drop": 0.1, "fast": 9, "rollouts": 160}
    return pd.DataFrame([base | columns])


def test_an_early_peak_is_said_only_where_equal_checkpoints_are_excluded() -> None:
    assert "rise to step 1 or 2 and fall" in words.peaks_verdict(worth())
    assert "no peak is shown" in words.peaks_verdict(worth(equal=0.4))
    assert "none rises early" in words.peaks_verdict(worth(step=8))


def test_the_control_on_shuffled_rewards_is_read_by_the_interval_of_the_difference() -> None:
    def gap(spread: float) -> pd.DataFrame:
        real = np.array([0.5, 0.6, 0.7, 0.6, 0.6]) + spread * np.array([-1, 1, -1, 1, 0])
        values = {"real": real, "shuffled": np.full(5, 0.4), "gap": real - 0.4}
        effects = {name: mean_effect(value, np.arange(5)) for name, value in values.items()}
        return pd.DataFrame([{"measure": "correct", "step": 4, "seeds": 1} | effects])

    assert "not beyond it" in words.noise_text(gap(0.5)) and "no proof of learning" in words.noise_text(gap(0.5))
    assert "which is beyond it (difference +20 points" in words.noise_text(gap(0.0))
    assert "No control" in words.noise_text(gap(0.0).iloc[:0])


def test_the_recorded_trajectories_are_told_apart_and_have_their_control() -> None:
    runs = studied("adaptation")
    found = study.sources(runs)
    assert len(found) == len(runs) and study.cards(runs) == "H100 and H200"  # seed 44 came later
    noise = variants.learning(variants.pairs("recorded", "cpu", runs)).set_index("measure").loc["correct"]
    estimates = [noise[name].interval.estimate for name in ("gap", "real", "shuffled")]
    assert estimates[0] == pytest.approx(estimates[1] - estimates[2])
    pairs = [pair for pair in variants.pairs("recorded", "cpu", runs) if pair.control is not None]
    assert sum(pair.shuffled for pair in pairs) == 1 and len({pair.what for pair in pairs}) == len(pairs)
    for pair in pairs:  # the same weights at the start, judged by the same rules
        assert pair.control is not None
        one, two = (
            (side.manifest["policy"], side.manifest["parameters"]["evaluator"]) for side in (pair.variant, pair.control)
        )
        assert one == two
    for run, (_, part) in zip(found.values(), study.ends(found).groupby("source", sort=False), strict=True):
        steps = run.samples["step"].to_numpy()
        right = run.samples["sound_correct"].to_numpy(dtype=bool) & (steps == steps.max())
        assert int(part["last"].to_numpy().sum()) == int(right.sum())


def test_the_probe_is_cut_by_task_and_keeps_each_sample_beside_its_nll() -> None:
    whole = probing_study.material()
    assert whole is not None
    parts = probing_study.scopes(whole)
    sizes = {name: len(part.probe.samples) for name, part in parts.items()}
    assert sizes[probing_study.ADAPTED] + sizes[probing_study.OTHERS] == sizes[probing_study.ALL] == 640
    for part in parts.values():
        nll, samples = part.probe.nll, part.probe.samples
        rows = nll["row"].to_numpy()
        assert list(samples["task"].to_numpy()[rows]) == list(nll["task"])
        start = nll["step"].to_numpy() == 0
        recorded = samples["mean_logprob"].to_numpy(dtype=float)[rows[start]]
        assert np.abs(nll["nll_mean"].to_numpy(dtype=float)[start] + recorded).max() < 1e-3


def change(scope, reading, value):
    return {
        "scope": scope,
        "reading": reading,
        "set": Quarter.ALL.value,
        "analysis": "within task",
        "before": 0.0,
        "after": value.estimate,
        "change": value,
        "samples": 0.001 if value.high < 0 else 0.5,
        "tasks": 0.1,
        "least": 0.06,
        "n": 100,
    }


def test_deepening_by_failures_alone_is_said_to_be_so() -> None:
    fell, open_ = Interval(-0.3, -0.5, -0.1, 5), Interval(0.0, -0.2, 0.2, 5)
    first, second = READINGS
    found = probing_study.verdict(pd.DataFrame([change("a", first, fell), change("a", second, open_)]))
    assert "deepens on a" in found and "Among correct samples it deepens nowhere" in found
    assert "Exchanging whole tasks" in found
    found = probing_study.verdict(pd.DataFrame([change("a", first, open_), change("a", second, open_)]))
    assert "deepening is not shown" in found


def test_the_teachers_start_as_one_policy_and_the_control_has_their_settings() -> None:
    families = distilling_study.families()
    assert list(families) == [ADAPTATION, FEEDBACK, PROMPT_ONLY]
    assert list(families[ADAPTATION]) == ["adaptation_h100_42"]
    assert {int(run.samples["step"].to_numpy().max()) for runs in families.values() for run in runs.values()} == {1}
    assert distilling_results.same_rollouts(families) == 1
    table = distilling_study.changes(families, distilling_results.protocols(families))
    assert set(table["tasks"]) == {5} and "One seed" in distilling_study.verdict(table)


def test_a_study_without_a_probe_says_so_once_and_stands(monkeypatch) -> None:
    monkeypatch.setattr(probing_study, "studied", lambda section: {})
    found = probing_study.material()
    parts = probing_study.scopes(found)
    rhos, changes = probing_study.correlations(parts), probing_study.changes(parts)
    assert found is None and probing_study.described(found) == probing_study.text(changes) == probing_study.NO_PROBE
    assert probing_study.NO_PROBE.count(".") == 1 and "recorded" in probing_study.NO_PROBE
    assert probing_study.verdict(changes) == "Not tested here." and probing_study.device(found) == NOTHING
    assert "<svg" in draw(specification(probing_study.figure(rhos)), "fig-any")
    text = Table(probing_study.shown(changes), "tab-any", "Any.", probing_study.COLUMNS).text()
    assert NOTHING in text and "nan" not in text


@pytest.mark.parametrize("missing", [("sdpo_feedback", "sdpo_prompt_only", "adaptation"), ("sdpo_feedback",)])
def test_a_study_without_both_teachers_says_so_once_and_stands(monkeypatch, missing) -> None:
    monkeypatch.setattr(distilling_study, "studied", lambda section: {} if section in missing else studied(section))
    families = distilling_study.families()
    names = distilling_study.protocols(families)
    assert not families and not names
    said = distilling_study.described(families, names)
    assert said == distilling_study.gaps_text(families, names) == distilling_study.NO_RUNS and said.count(".") == 1
    changes = distilling_study.changes(families, names)
    assert distilling_study.verdict(changes) == "Not tested here." and distilling_study.cards(families) == NOTHING
    for frame, columns in (
        (changes, distilling_study.CHANGE_COLUMNS),
        (distilling_study.gaps(families, names), distilling_results.DIFFERENCE_COLUMNS),
    ):
        text = Table(frame, "tab-any", "Any.", columns).text()
        assert NOTHING in text and "nan" not in text


def test_what_is_recorded_is_described() -> None:
    probe = probing_study.material()
    assert "640 samples of" in probing_study.described(probe) and "Qwen" in probing_study.described(probe)
    families = distilling_study.families()
    text = distilling_study.described(families, distilling_study.protocols(families))
    assert "1 update by each teacher, and the first update by rewards" in text and "H100" in text
    without = {name: runs for name, runs in families.items() if name != ADAPTATION}
    assert "by rewards" not in distilling_study.described(without, distilling_study.protocols(families))


def test_the_warm_start_says_that_nothing_was_sampled_before_it() -> None:
    stages = training_warm.study_stages(studied("warm_start"))
    assert set(stages["card"]) == {"H100"} and stages["seconds"].to_numpy().min() > 0
    assert "no share from before" in training_warm.study_verdict(stages)
    sampled = stages.assign(written=training_warm.POLICY)
    assert "both the policy's own" in training_warm.study_verdict(sampled)
