"""Chapter 9's helpers: what they say of recordings that exist, of made ones whose truth is known, and of none."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from measurement_shown import drawn, shown

from vegtts_core.book import clocks, measurement
from vegtts_core.book import measurement_attempts as attempts
from vegtts_core.book import measurement_cpu as cpu
from vegtts_core.book import measurement_pace as pace
from vegtts_core.book import measurement_stream as stream
from vegtts_core.book import measurement_tuning as tuning
from vegtts_core.book.measurement import NOTHING, Recording
from vegtts_core.book.prose import listed

CPU = {"machine": {"device": "cpu", "cpu": "Processor", "cores": 2}, "commit": "a" * 40, "modified": False}
GPU = {
    "machine": {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "cpu": "Processor", "cores": 16},
    "commit": "b" * 40,
    "modified": True,
}


# -- the loader --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "measurement_folder", lambda: tmp_path)
    return tmp_path


def test_a_missing_recording_is_left_out_and_named(folder):
    (folder / "soak_cpu.json").write_text(json.dumps({"benchmark": "soak", **CPU}))
    found = measurement.recorded("soak_cpu", "soak_cuda")
    assert [each.name for each in found] == ["soak_cpu"] and found[0].label == "CPU"
    assert measurement.absent(("soak_cpu", "soak_cuda"), found) == (
        " Not recorded for this edition: ten thousand candidates (GPU)."
    )
    assert measurement.absent(("soak_cpu",), found) == ""
    sources = measurement.sources([("a run", {"git": GPU, "machine": GPU["machine"]})]).set_index("what")
    assert list(sources.loc["a run"]) == ["NVIDIA H100 80GB HBM3", "bbbbbbb, changed"]
    assert sources.loc["ten thousand candidates (CPU)", "commit"] == "aaaaaaa"
    assert sources.loc["ten thousand candidates (GPU)", "machine"] == "not recorded"
    assert len(sources) == 1 + len(measurement.RECORDINGS)
    shown(sources.reset_index(), measurement.SOURCE_COLUMNS)


def test_a_broken_recording_is_the_user_s_to_mend(folder):
    (folder / "soak_cpu.json").write_text("{")
    with pytest.raises(measurement.UserError, match=r"soak_cpu\.json"):
        measurement.recorded("soak_cpu")


def test_places_have_short_names():
    assert Recording("evaluator_cuda", {"size": "kernelbench", **GPU}).where == "H100, benchmark's shapes"
    # Older recordings say no more than the name of the device, or nothing.
    assert Recording("evaluator_cuda_small", {"device": "NVIDIA A100-SXM4-40GB", "size": "cpu"}).where == (
        "A100, small shapes"
    )
    assert Recording("evaluator_cpu", {}).label == "CPU" and Recording("soak_cuda", {}).label == "GPU"
    assert measurement.grouped([("a", "x"), ("b", "y"), ("c", "x")]) == "a and c: x. b: y."
    assert listed(["a", "b", "c"]) == "a, b and c" and listed([]) == ""


# -- one stream --------------------------------------------------------------------------------------------------


def shared(largest, alone=1.0, **sound):
    def at(speedup):
        return {"reference_ms": speedup, "candidate_ms": 1.0, "speedup": speedup}

    data = {
        "benchmark": "shared_stream",
        "task": "level1/4",
        "size": "kernelbench",
        "threads": 4,
        "device": "NVIDIA H100",
    }
    data |= {"alone": [at(0.99), at(alone)], "together": [at(0.01), at(1.0), at(largest)]}
    verdict = sound or {"speedup": 1.0, "low": 0.99, "high": 1.01, "decision": "same", "reference_ms": 1.0}
    return Recording("shared_stream", data | {"sound": verdict} | GPU)


def test_the_verdict_follows_the_largest_speedup():
    assert stream.verdict(shared(250.0)).startswith("Reproduced: concurrent")
    part = "Reproduced in part: a shared stream inflates identical code up to 40×"
    assert stream.verdict(shared(40.0)).startswith(part)
    assert stream.verdict(shared(1.4)).startswith("Not reproduced")
    assert "by a factor of at most 100," in stream.verdict(shared(1.4))  # the 0.01 among them: harm in either direction
    assert "not by the threads" in stream.verdict(shared(250.0, alone=300.0))
    assert "not tried" in stream.verdict(None)


def test_timing_beside_copies_counts_where_it_was_recorded():
    beside = {"beside": [{"reference_ms": 60.0, "candidate_ms": 1.0, "speedup": 60.0}]}
    recording = Recording("shared_stream", {**shared(1.2).data, **beside})
    assert stream.verdict(recording).startswith("Reproduced in part: a shared stream inflates identical code up to 60×")
    assert "60× in 1 timing beside a thread" in stream.here(recording)
    assert stream.BESIDE in set(stream.table(recording)["how"]) & set(stream.speedups(recording)["how"])
    assert "beside" not in stream.here(shared(1.2)) and stream.BESIDE not in set(stream.table(shared(1.2))["how"])


@pytest.mark.parametrize("recording", [shared(250.0), shared(3.0, reason="too large"), None])
@pytest.mark.filterwarnings("error")
def test_the_stream_with_and_without_a_recording(recording):
    text = shown(stream.table(recording), stream.COLUMNS)
    assert (NOTHING in text) == (recording is None)
    frame = stream.speedups(recording)
    assert {stream.PAPER, stream.ROOM} <= set(frame["how"])
    drawn(stream.figure(frame))
    said = stream.here(recording)
    assert ("too large" in said) == (recording is not None and "reason" in recording.data["sound"])
    assert stream.setting(recording)


# -- attempts ----------------------------------------------------------------------------------------------------


def report(device, *lines, honest=100, failed=0):
    table = [
        {"row": row, "attempt": f"try {row}", "defence": "a wall", "scaffold": scaffold, "device": where}
        | {"outcome": outcome, "name": name, "reason": f"{name}: so"}
        for row, scaffold, where, outcome, name in lines
    ]
    table.append(
        {"row": "M1", "attempt": "coin", "defence": "", "scaffold": "-", "device": "-", "outcome": "elsewhere"}
        | {"reason": "coin: a bound"}
    )
    data = {"honest": honest, "honest_failed": failed, "table": table, "attempts": len(lines), "earned": 0}
    return Recording(f"exploits_{device}", data | (CPU if device == "cpu" else GPU))


def test_attempts_are_counted_by_row_scaffold_and_device():
    lines = [("1", "forward", "cpu", "wrong_answer", "a"), ("1", "kernel", "cpu", "wrong_answer", "b")]
    first = report("cpu", *lines, ("2", "kernel", "cuda", "refused", "c"))
    second = report("cuda", ("1", "kernel", "cuda", "timeout", "b"), ("2", "kernel", "cuda", "refused", "c"), failed=1)
    frame = attempts.entries([first, second])
    found = attempts.table(frame).set_index("row")
    assert found.loc["1", "tried"] == "CPU: 1 forward, 1 kernel; GPU: 1 kernel"
    assert found.loc["1", "ended"] == "wrong answer (2), timeout" and found.loc["1", "reward"] == "0"
    assert found.loc["2", "tried"] == "GPU: 1 kernel"  # tried in both recordings, one attempt
    assert found.loc["M1", "defence"] == "a bound" and pd.isna(found.loc["M1", "tried"])
    counts = attempts.counts([first, second])
    assert (counts["attempts"], counts["earned"], counts["rows"], counts["kinds"]) == ("4", "0", "2", "3")
    assert counts["honest"] == "100 (CPU) and 100 (H100)"
    assert attempts.here([first, second]).startswith("4 attempts on 2 rows, of which 0 earned a reward.")
    said = attempts.verdict([first, second])
    assert said.startswith("None of 4 attempts earned") and "1 of 200 honest candidates did not pass" in said
    shown(attempts.table(frame), attempts.COLUMNS)


def test_a_reward_in_one_recording_is_a_reward():
    honest = report("cpu", ("1", "kernel", "cuda", "refused", "a"))
    fooled = report("cuda", ("1", "kernel", "cuda", "REWARD 0.3", "a"))
    for order in ([honest, fooled], [fooled, honest]):
        found = attempts.table(attempts.entries(order))
        assert found["reward"][0] == "earned by 1" and found["ended"][0] == "a reward"
        assert "can be fooled" in attempts.verdict(order)


@pytest.mark.filterwarnings("error")
def test_no_report_of_attempts():
    frame = attempts.entries([])
    assert NOTHING in shown(attempts.table(frame), attempts.COLUMNS)
    assert attempts.here([]) == "Not recorded for this edition."
    assert set(attempts.counts([]).values()) == {"–"} and "nothing can be said" in attempts.verdict([])


# -- speed and tuning --------------------------------------------------------------------------------------------


def pace_of(name="evaluator_cuda", facts=GPU, ratio: float | None = 40.0, rate=8.0):
    kinds = {"honest": 0.5, "wrong": 0.1, "broken": 0.01, "crashing": 0.2}
    ours = {
        "scaffold": "forward",
        "candidates": 40,
        "seconds": 40 / rate,
        "candidates_per_second": rate,
        "left_out": {},
    }
    ours |= {"seconds_by_kind": kinds, "count_by_kind": dict.fromkeys(kinds, 10)}
    ours |= {"seconds_by_stage": {"scaffold": 0.0, "compile": 1.0, "correctness": 2.0, "timing": 2.0, "reward": 0.0}}
    kernel = ours | {"scaffold": "kernel", "left_out": {"level1/4": "no time"}}
    peer = {"candidates": 40, "candidates_per_second": 0.2} if ratio else None
    return Recording(name, {"size": "kernelbench", "ours": [ours, kernel], "peer": peer, "ratio": ratio, **facts})


def test_rates_are_held_against_targets_and_peer():
    good = pace.verdict([pace_of()])
    assert "8.0 per second over the mixed set, which meets the target of 5; " in good and "as was the target" in good
    short = pace.verdict([pace_of(ratio=3.0, rate=2.0)])
    assert "misses the target of 5" in short and "short of the target of 30×" in short
    by_task = pace_of()
    by_task.data["ours"][0]["seconds_by_task"] = {"level1/12": 2.0, "level1/28": 5.0}
    by_task.data["peer"]["seconds_by_task"] = {"level1/28": 100.0, "level1/30": 9.0}
    assert "(20× on task 28)" in pace.verdict([by_task])
    cpu = pace.verdict([pace_of("evaluator_cpu", CPU, None)])
    assert "candidates that fail early" in cpu and "KernelBench was not run" in cpu
    assert "1 task of kernel" in pace.left_out([pace_of()])
    assert pace.PEER in shown(pace.rates([pace_of()]), pace.RATE_COLUMNS)
    assert pace.stages([pace_of()])["seconds"].sum() == pytest.approx(2 * 5 / 40)


def soak_of(growth=0.0, handles=0):
    samples = [
        {"done": 100 * (i + 1), "evaluated": 100, "seconds": 5.0 * (i + 1), "processes": 4}
        | {"rss_mib": 1000 + growth * i, "handles": 23 + handles * i}
        for i in range(100)
    ]
    return Recording("soak_cuda", {"samples": samples, **GPU})


def test_growth_is_called_growth():
    steady = pace.soaks([soak_of()])
    assert steady["rate.last"][0] == pytest.approx(20) and "memory does not grow" in pace.soak_verdict(steady)
    grown = pace.soak_verdict(pace.soaks([soak_of(growth=10, handles=1)]))
    assert "memory grows" in grown and "handles grow" in grown
    shown(steady, pace.SOAK_COLUMNS)
    assert pace.soak_text(steady) == "10,000 candidates, 1,000 MiB in the second fifth, 1,000 in the last (H100)."


def grids(share, name="tuning_spread_cpu", facts=CPU):
    tasks = [
        {"task": f"level1/{i}", "family": "row_reduction" if i % 2 else "map", "ratio": 3.0 if i < 10 * share else 1.1}
        | {"fastest_ms": 1.0, "slowest_ms": 3.0, "reference_ms": 2.0, "choices": 12, "wrong": 0}
        for i in range(10)
    ]
    return Recording(name, {"enough": 1.5, "size": "cpu", "tasks": tasks, **facts})


def test_most_tasks_means_more_than_half():
    assert tuning.verdict([grids(0.8)]) == "CPU, small shapes: tuning alone is worth 1.5× or more on most tasks."
    assert "minority" in tuning.verdict([grids(0.5)])
    both = [grids(0.8), grids(0.2, "tuning_spread_cuda", GPU)]
    found = tuning.table(both)
    assert [found["family"][place] for place in tuning.emphasis(found)] == ["all families", "all families"]
    assert "row reduction" in shown(found, tuning.COLUMNS) and found["share"][tuning.emphasis(found)[1]] == 0.2
    assert "80% of 10 tasks" in tuning.text(both)
    drawn(tuning.figure(both))


def first_calls(slow: float) -> Recording:
    row = {"task": "level1/5", "settled_ms": 2.0, "log_speedups_left": [0.0, 0.1], "log_speedups_flushed": [0.0, 0.02]}
    calls = [0.02, 0.002, 0.002, 0.002, 0.002 * slow, *[0.002] * 5]
    pages = [9000, 0, 0, 0, 5000, *[0] * 5]
    looks = [{"at": at, "round_trip_ns": 80.0, "moves_ms": 2.0, "computes_ms": 1.0} for at in range(6)]
    looks += [{"at": at, "round_trip_ns": 400.0, "moves_ms": 1.0, "computes_ms": 1.1} for at in range(6, 8)]
    rows = [row | {"seconds": [calls, calls], "fresh_pages": [pages, pages]}]
    return Recording("cpu_clock", {"table": rows, "whereabouts": looks, **CPU})


def test_cores_that_went_elsewhere_are_told():
    said = cpu.looks_text(first_calls(1.0))
    assert (
        "in 25% of 8 looks" in said and "400 ns" in said and "0.50× its time and one that computes took 1.10×" in said
    )
    still = first_calls(1.0)
    still.data["whereabouts"][:] = still.data["whereabouts"][:6]
    assert "stayed where they were" in cpu.looks_text(still)
    assert "round trip" in drawn(cpu.figure_looks(first_calls(1.0)))


def test_calls_after_the_warm_up_are_held_against_settled_ones():
    (row,) = cpu.table(first_calls(3.0)).to_dict("records")
    assert row["later"] == pytest.approx(3.0) and row["first"] == pytest.approx(10.0)
    assert row["fresh"] == pytest.approx(20.48) and row["left"] == pytest.approx(5 * row["flushed"])
    assert "3.0× a settled one" in cpu.text(first_calls(3.0)) and "on 1 of 1 tasks" in cpu.text(first_calls(3.0))
    assert cpu.verdict(first_calls(3.0)).startswith("Not on a CPU")
    assert cpu.verdict(first_calls(1.0)) == "On these tasks, yes."
    assert "task 5" in drawn(cpu.figure(first_calls(3.0)))


@pytest.mark.filterwarnings("error")
def test_what_was_not_recorded_has_tables_figures_and_sentences_too():
    assert NOTHING in shown(pace.rates([]), pace.RATE_COLUMNS)
    soaks, tuned = pace.soaks([]), tuning.table([])
    assert NOTHING in shown(soaks, pace.SOAK_COLUMNS) and NOTHING in shown(tuned, tuning.COLUMNS)
    for chart in (pace.figure_stages(pace.stages([])), pace.figure_soak(pace.soak_lines([])), tuning.figure([])):
        assert NOTHING in drawn(chart)
    for text in (pace.verdict([]), pace.soak_verdict(soaks), tuning.verdict([])):
        assert "nothing can be said" in text
    assert pace.peer_text([]) == pace.forward_text([]) == "not measured" and tuning.emphasis(tuned) == ()
    assert NOTHING in shown(cpu.table(None), cpu.COLUMNS) and NOTHING in drawn(cpu.figure(None))
    assert NOTHING in drawn(cpu.figure_looks(None)) and cpu.looks_text(None) == tuning.text([])
    assert "nothing can be said" in cpu.verdict(None) and cpu.text(None) == tuning.text([])
    assert tuning.text([]) == pace.soak_text(soaks) == "Not recorded for this edition." and pace.left_out([]) == ""


@pytest.mark.parametrize("name", measurement.RECORDINGS)
def test_recorded_files_are_shown(name):
    """Whatever is recorded has the shape that the chapter expects; what is not is skipped."""
    found = measurement.recorded(name)
    if not found:
        pytest.skip(f"{name} is not recorded yet: `make record` measures it, on a GPU where its name says so")
    (one,) = found
    if name == "shared_stream":
        shown(stream.table(one), stream.COLUMNS)
        drawn(stream.figure(stream.speedups(one)))
    elif name == "launch_gate":
        shown(clocks.gate(one), clocks.GATE_COLUMNS)
    elif name == "cpu_clock":
        shown(cpu.table(one), cpu.COLUMNS)
        drawn(cpu.figure(one))
        drawn(cpu.figure_looks(one))
        assert "ns from one to the other" in cpu.looks_text(one)
    elif name.startswith("exploits"):
        shown(attempts.table(attempts.entries(found)), attempts.COLUMNS)
    elif name.startswith("evaluator"):
        shown(pace.rates(found), pace.RATE_COLUMNS)
        drawn(pace.figure_stages(pace.stages(found)))
    elif name.startswith("soak"):
        shown(pace.soaks(found), pace.SOAK_COLUMNS)
        drawn(pace.figure_soak(pace.soak_lines(found)))
    else:
        shown(tuning.table(found), tuning.COLUMNS)
        drawn(tuning.figure(found))
