"""Chapter 3.2's helpers on made runs: counts, the same slots at two visits, advantages under other definitions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_tables import sample, table

from vegtts_core.book import measurement, training, training_charts, training_recorded, training_signal, training_warm
from vegtts_core.book import training_words as words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval
from vegtts_core.training.parameters import AdaptationParameters


def rollouts(step, task, speeds, scaffold="template", kinds=None, first=0):
    """One group: a rollout per speed, 0 for an incorrect one; ``kinds`` names the candidates."""
    return [
        sample(
            task=f"level1/{task}",
            task_id=task,
            scaffold=scaffold,
            step=step,
            sample=first + i,
            correct=speed > 0,
            speedup=speed or 1.0,
            fingerprint=f"{task}-{kinds[i] if kinds else i}",
            reward=float(speed),
            token_ids=[1, 2, i],
        )
        for i, speed in enumerate(speeds)
    ]


def run_of(rows, steps, **parameters):
    given = AdaptationParameters(scaffolds=("forward", "template"), steps=steps, k=4, **parameters)
    manifest = {
        "parameters": given.model_dump(mode="json"),
        "policy": {"name": "embedded", "device": "cpu"},
        "machine": {"cores": 2, "cpu": "Chip", "device": "cpu"},
    }
    seconds = {"sampling_seconds": 1.0, "evaluation_seconds": 2.0, "wall_seconds": 120.0, "student_tokens": 5e5}
    return Run(Path(), manifest, table(rows), seconds, pd.DataFrame())


@pytest.fixture
def run():
    """Two tasks in template and one in forward; the second visit is all correct, twice as fast, one candidate."""
    rows = rollouts(0, 19, [1.0, 1.0, 0, 0]) + rollouts(0, 22, [8.0, 4.0, 0, 0])
    rows += rollouts(1, 31, [1.0, 1.0, 1.0, 1.0], scaffold="forward", kinds="aaaa")
    rows += rollouts(2, 19, [2.0] * 4, kinds="aaaa") + rollouts(2, 22, [16.0, 8.0, 0, 0])
    return run_of(rows, steps=2)


def test_appendix_b_is_counts_of_one_step():
    found = training.papers_checkpoints()
    assert training.papers_rollouts() == 64
    assert list(found["right"]) == [58, 61, 61, 63] and found["count"].iloc[-1] == "63 of 64"
    last = found["correct"].iloc[-1]
    assert last.low == pytest.approx(0.917, abs=1e-3) and last.high == pytest.approx(0.997, abs=1e-3)
    assert words.exact(58, 63, 64) == pytest.approx(0.115, abs=2e-3)
    assert "do not tell even the first" in words.order_verdict()
    assert words.evaluated() == (550, 640)
    facts = words.paper_facts()
    assert facts["paper-evaluated-share"] == "86%" and facts["paper-epoch"] == "10" and facts["paper-grid"] == "6.5%"


def test_progress_counts_rollouts_by_scaffold(run):
    found = training.progress(run)
    row = training.pick(found[found["step"] == 0], "template")
    assert (row["slots"], row["rollouts"], row["right"]) == (2, 8, 4)
    # Tasks weigh the same: geometric means 1 and sqrt(32).
    assert row["speedup"].estimate == pytest.approx(np.sqrt(np.sqrt(32)))
    assert row["mean_speedup"] == pytest.approx(14 / 4) and row["distinct"].estimate == 4
    alone = training.pick(found[found["step"] == 1], "forward")
    assert alone["correct"].low < 1 and np.isnan(alone["speedup"].low)  # Wilson's stays open, one task has no bootstrap
    beside = training.beside_appendix_b(found)
    assert list(beside["step"]) == [0, 2, 10, 20, 30, 40]
    assert beside["paper.count"].iloc[0] is None and beside["here.count"].iloc[1] == "6 of 8"
    assert "63 of 64" in Table(beside, "tab-x", "c", training.BESIDE_COLUMNS).text()


def test_changes_hold_each_slot_against_itself(run):
    found = training.changes(run)
    assert list(found["scaffold"]) == ["template", training.ALL]  # forward's slot was visited once
    row = training.pick(found, "template")
    assert row["slots"] == 2 and row["visits"] == "0 and 2"
    assert row["correct"].estimate == pytest.approx(0.25)  # +50 points and 0
    assert row["speedup"].estimate == pytest.approx(2.0)
    assert row["distinct"].estimate == pytest.approx(-1.5) and row["distinct_correct"].estimate == pytest.approx(-0.5)
    assert "faster when correct" in words.change_verdict(found)
    assert "visited twice" in words.change_verdict(found.iloc[:0])


def test_a_visit_without_a_correct_rollout_has_no_speedup():
    rows = rollouts(0, 19, [0, 0, 0, 0]) + rollouts(1, 19, [1.0, 0, 0, 0]) + rollouts(2, 19, [3.0, 0, 0, 0])
    row = training.pick(training.changes(run_of(rows, steps=2)), "template")
    assert row["correct"].estimate == pytest.approx(0.25)
    assert np.isnan(row["speedup"].estimate), "the second visit must not stand in for the first"


def test_a_task_below_the_batch_s_mean_drowns_unless_it_has_a_baseline():
    rows = rollouts(0, 19, [0.5, 0.4, 0.4, 0.4]) + rollouts(0, 22, [20.0, 18.0, 18.0, 18.0])
    rows += rollouts(0, 31, [1.0] * 4, kinds="aaaa")
    found = training_signal.signals(run_of(rows, steps=1))
    groups = training_signal.groups(found).set_index("slot")
    assert (
        groups.at["template:level1/19", "drowned.raw, batch"]
        and not groups.at["template:level1/22", "drowned.raw, batch"]
    )
    assert groups.at["template:level1/22", "carried.raw, batch"]
    assert not groups["drowned.normalised, batch"].any() and not groups["drowned.raw, group"].any()
    assert (
        groups.at["template:level1/31", "moved.raw, batch"] and not groups.at["template:level1/31", "moved.raw, group"]
    )
    assert not groups.at["template:level1/31", "contrast"]
    summary = training_signal.summary(groups.reset_index()).set_index("definition")
    raw = summary.loc["raw, batch"]
    assert (raw["contrasts"], raw["drowned"], raw["carried"], raw["moved"]) == (2, 1, 1, "1 of 1")
    # Within groups the two contrasts are equally loud: two tasks of three.
    assert summary.loc["raw, group", "effective"].estimate == pytest.approx(2, abs=0.01)
    assert "saves all of them" in words.drowned_verdict(summary.reset_index())
    assert "raw: 1 of 2" in words.drowned_here(summary.reset_index())
    shown = training_signal.example(groups.reset_index(), 0)
    assert list(shown["outcome"]) == ["heard", "no contrast, pushed", "heard"]


def test_signals_are_the_run_s_own_advantages_and_leave_out_the_last_judgement():
    rows = rollouts(0, 19, [1.0, 2.0, 0, 0]) + rollouts(1, 19, [4.0, 2.0, 0, 0]) + rollouts(2, 19, [9.0, 0, 0, 0])
    found = training_signal.signals(run_of(rows, steps=2))
    assert set(found["step"]) == {0, 1}
    first, second = (part.reset_index(drop=True) for _, part in found.groupby("step"))
    # Baselines: the group's own median on the first visit (1.5), what came before on the second.
    assert list(first["reward.normalised"]) == pytest.approx([1 / 1.5, 2 / 1.5, 0, 0])
    assert list(second["reward.normalised"]) == pytest.approx([4 / 1.5, 2 / 1.5, 0, 0])
    assert np.allclose(found["advantage.own"], found["advantage.normalised, group"])
    assert first["advantage.own"].sum() == pytest.approx(0)


def test_the_recorded_run_s_silent_groups_are_found_again():
    run = training.outer_loop("recorded", "cpu").rlvr
    found = training_signal.signals(run)
    silent = found.groupby(["step", "slot"])["advantage.own"].agg(lambda v: bool((v == 0).all())).groupby("step").sum()
    noted = run.steps.set_index("step")["silent_groups"].reindex(silent.index)
    assert list(silent) == list(noted)


def test_rewards_that_the_run_recorded_otherwise_are_admitted():
    rows = rollouts(0, 19, [1.0, 2.0, 0, 0]) + rollouts(1, 19, [4.0, 2.0, 0, 0])
    run = run_of(rows, steps=2)
    found = training_signal.signals(run)
    means = found.groupby("step")["reward.own"].mean()
    steps = pd.DataFrame({"step": means.index, "reward_mean": means.to_numpy()})
    assert "in every step" in words.rewards_recorded(found, steps)
    other = steps.assign(reward_mean=steps["reward_mean"] + [0.0, 0.25])
    text = words.rewards_recorded(found, other)
    assert "In 1 of 2 steps" in text and "0.25" in text
    assert words.rewards_recorded(found, pd.DataFrame()) == ""


def test_a_contrast_within_the_clock_s_intervals_is_called_blurred():
    close, apart = rollouts(0, 19, [1.0, 1.001, 1.0, 1.0]), rollouts(0, 22, [1.0, 2.0, 1.0, 1.0])
    groups = training_signal.groups(training_signal.signals(run_of(close + apart, steps=1))).set_index("slot")
    assert list(groups["blurred"]) == [True, False]
    assert words.signal_facts(groups.reset_index(), 0)["blurred"] == "1 of 2"


def test_nothing_to_tell_apart_is_said():
    groups = training_signal.groups(training_signal.signals(run_of(rollouts(0, 19, [1.0] * 4), steps=1)))
    summary = training_signal.summary(groups)
    assert summary["drowned_share"].isna().all() and "Not tested" in words.drowned_verdict(summary)
    assert training_signal.example_step(groups) == 0
    assert Table(summary, "tab-x", "c", training_signal.SUMMARY_COLUMNS).rows


def test_a_warm_start_says_who_wrote_what():
    rows = rollouts(0, 19, [1.0, 1.0, 0, 0], scaffold="forward", kinds="abcd") + rollouts(
        0, 22, [0] * 4, scaffold="forward"
    )
    rows += [row | {"mean_logprob": np.nan} for row in rollouts(0, 19, [1.0, 2.0], first=4)]
    stages = training_warm.stages_of(run_of(rows, steps=1))
    assert list(stages["written"]) == [training_warm.POLICY, "us (worked answers)"]
    assert list(stages["tasks_covered"]) == ["1 of 2", "1 of 1"] and list(stages["distinct"]) == [1.0, 2.0]
    text = training_warm.warm_verdict(stages)
    assert "`template` the first answers are ours" in text and "1 task in `forward`" in text
    curve = training_warm.coverage(run_of(rows, steps=1))
    assert list(curve["n"]) == [1, 2, 4] and curve["share"].iloc[0] == pytest.approx(0.25)  # half of one task in two
    assert curve["share"].iloc[-1] == pytest.approx(0.5)
    none = training_warm.stages_of(None)
    assert "untrained policy" in training_warm.warm_verdict(none) and training_warm.coverage(None).empty
    assert training_warm.NOTHING in Table(none, "tab-x", "c", training_warm.WARM_COLUMNS).text()


def test_charts_draw(run):
    progress, paper = training.progress(run), training.papers_checkpoints()
    found = training_signal.signals(run)
    charts = [
        training_charts.steps_figure(progress, paper),
        training_charts.diversity_figure(progress, 4),
        training_charts.coverage_curve(training_warm.coverage(run)),
        training_charts.coverage_curve(training_warm.coverage(None)),
        training_signal.figure(found, 0, ["template:level1/22", "template:level1/19"]),
    ]
    for chart in charts:
        assert "<svg" in draw(specification(chart), "x")
    # The paper's checkpoints appear only where the run is long enough, and in its scaffold.
    short = training_charts.long(progress, "correct")
    assert len(training_charts.with_paper(short, paper, "correct")) == len(short)
    longer = pd.concat([short, short.assign(step=40)])
    added = training_charts.with_paper(longer, paper, "correct")
    assert set(added.loc[added["source"] == "paper", "scaffold"]) == {"forward"}


def test_facts_say_what_is_smaller(run):
    facts = words.facts(training.OuterLoop(None, run))
    assert facts["slots"] == "3" and facts["tasks"] == "3" and facts["warm-none"] == "This run had none."
    assert "2 steps instead of 40" in facts["smaller"] and "3 tasks instead of 80" in facts["smaller"]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((1, 0.5, 1.5), "more distinct candidates"), ((-1, -1.5, -0.5), "fewer distinct"), ((0, -1, 1), "Not decided")],
)
def test_diversity_follows_its_intervals(bounds, expected):
    interval, none = Interval(*bounds, 5), Interval(0.0, -1.0, 1.0, 5)
    row = {"scaffold": "template", "distinct": interval, "distinct_correct": none, "entropy": none}
    assert expected in words.diversity_verdict(pd.DataFrame([row]))


STEP = {
    "peer": "trl 1",
    "dtype": "float32",
    "groups": 1,
    "machine": {"device": "cpu", "cores": 2, "cpu": "Chip"},
    "cases": [
        {
            "case": case,
            "ratio": ratio,
            "ours_seconds": 2.0,
            "peer_seconds": 2.0 * ratio,
            "ours_peak_gib": 1.0,
            "peer_peak_gib": 2.0,
            "peer_micro_batch": 4,
            "peer_slices_tried": [2, 4],
            "gradient_deviation": 2e-6,
        }
        for case, ratio in (("400x32x20", 9.5), ("400x8x400", 0.9))
    ],
}


def policy_row(policy, correct, half=0.05, scaffold="template"):
    return {
        "policy": policy,
        "scaffold": scaffold,
        "temperature": 0.25,
        "samples": 100,
        "tasks": 10,
        "correct": correct,
        "low": correct - half,
        "high": correct + half,
        "median_distinct_correct": 5,
        "speedup_p10": 0.5,
        "speedup_median": 1.0,
        "speedup_p90": 2.0,
    }


def test_recordings_are_read_and_absence_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(measurement, "measurement_folder", lambda: tmp_path)
    assert training_recorded.benchmarks() == [] and training_recorded.adapter() is None
    assert "a CPU" in training_recorded.absent(*training_recorded.STEPS)
    assert training_recorded.updates_table([])["where"].iloc[0] == measurement.NOTHING
    assert training_recorded.policies_table(None)["scaffold"].iloc[0] == measurement.NOTHING
    empty = training_recorded.policies(None)
    assert "Not decided" in training_recorded.adapter_verdict(empty) and training_recorded.diverse_enough(empty)

    (tmp_path / "grpo_step_cpu.json").write_text(json.dumps(STEP))
    rows = [policy_row("rlvr", 0.9), policy_row("base", 0.1), policy_row("warm start", 0.88)]
    (tmp_path / "embedded_adapter.json").write_text(json.dumps({"rows": rows, "commit": "abc"}))
    found = training_recorded.benchmarks()
    frame = training_recorded.updates(found)
    assert list(frame["model"]) == ["135M", "135M"]
    large = STEP | {"policy": "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf"}
    assert set(training_recorded.updates([measurement.Recording("grpo_step_cuda_large", large)])["model"]) == {"1.5B"}
    assert list(frame["prompt"]) == [400, 400] and list(frame["tokens"]) == [20, 400]
    assert training_recorded.update_range(found) == "135M on CPU, float32: 0.9× to 9.5×"
    assert "slower in 1 of 2" in training_recorded.update_verdict(found)
    assert training_recorded.absent(*training_recorded.STEPS).endswith("on a GPU; the larger policy's update on a GPU.")
    assert training_recorded.decoding_text() == ""
    policies = training_recorded.policies(training_recorded.adapter())
    assert list(policies["policy"]) == ["base", "warm start", "rlvr"]
    assert policies["correct"].iloc[2] == "90% [85%, 95%]" and policies["spread"].iloc[0] == 4
    verdict = training_recorded.adapter_verdict(policies)
    assert "above the untrained policy in every case" in verdict and "above warm start nowhere" in verdict
    assert Table(policies, "tab-x", "c", training_recorded.POLICY_COLUMNS).rows


def test_a_decode_step_is_told_as_it_was_measured():
    text = training_recorded.decoding_text()
    assert "on an H100" in text and "54 ms and 6.1 ms at 32 rows (8.9×)" in text
