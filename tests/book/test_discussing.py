"""Chapter 6: what the discussion takes for granted, on made runs with known answers, and its boxes."""

import dataclasses
import math

import pandas as pd
import pytest
from adapted_runs import family, made_run

from vegtts_core import metrics
from vegtts_core.book import discussing, study, verdicts_study
from vegtts_core.book import verdicts_words as words
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.runs.schema import SAMPLES


def rewarded(rewards: dict[str, list[float]]):
    """A run whose step-0 groups have these rewards."""
    run = made_run([[0] * len(rewards)], k=len(next(iter(rewards.values()))))
    samples = run.samples.copy()
    for task, values in zip(sorted(samples["task"].unique()), rewards.values(), strict=True):
        samples.loc[samples["task"] == task, "reward"] = values
    return dataclasses.replace(run, samples=samples)


def test_only_groups_with_several_rewards_move_a_policy() -> None:
    runs = {"run": rewarded({"a": [0, 0, 0], "b": [1.0, 1.001, 1.002], "c": [0, 1, 2], "d": [0, 0, 1]})}
    share = discussing.informative(runs)
    assert share.estimate == 0.5 and share.n == 4
    assert "50% of groups" in discussing.signal_verdict(runs) and "of 4 groups" in discussing.signal_text(runs)
    assert "every group" in discussing.signal_verdict({"run": rewarded({"a": [0, 1], "b": [0, 2]})})
    assert discussing.signal_text({}) == "No adaptation run." and discussing.signal_verdict({}) == "Not run."


def test_seconds_are_shared_out_and_an_update_is_priced() -> None:
    run = made_run([[1, 1], [1, 1]])
    run.compute["rollouts"] = len(run.samples)
    table = discussing.seconds({}, {"run": run})
    row = table.iloc[0]
    # Two steps of 10 s sampling and 5 s evaluation, one update of 1.5 s, 16 rollouts.
    assert (row["sampling"], row["evaluation"], row["update"]) == pytest.approx((125, 62.5, 9.375))
    assert row["share"] == pytest.approx(10 / 31.5)
    assert "0 of 1" in discussing.seconds_verdict(table) and "adds 5%" in discussing.seconds_verdict(table)


def view(surprisal: list[float], speedup: list[float], tasks: int = 8) -> pd.DataFrame:
    rows = []
    for task in range(1, tasks + 1):
        for sample, (unlikely, speed) in enumerate(zip(surprisal, speedup, strict=True)):
            row = dict.fromkeys(SAMPLES.names)
            row |= {"task": f"level1/{task}", "task_id": task, "seed": 1, "step": 0, "sample": sample, "tokens": 5}
            row |= {"mean_logprob": -unlikely, "sampling_mean_logprob": -unlikely, "fingerprint": f"{task}-{sample}"}
            row |= {"sound_correct": True, "sound_speedup": speed + task / 1e6, "sound_decision": "same"}
            rows.append(row | {"sound_speedup_low": speed, "sound_speedup_high": speed})
    return metrics.under(pd.DataFrame(rows), "sound")


def test_the_fastest_sample_has_a_place_in_its_group() -> None:
    tail, head = view([3, 2, 1], [2, 1, 0.5]), view([3, 2, 1], [0.5, 1, 2])
    assert set(discussing.tail(tail)) == {1.0} and set(discussing.tail(head)) == {0.0}
    assert set(discussing.tail(view([3, 2, 1], [1, 2, 0.5]))) == {0.5}
    assert "surprising half: one" in discussing.tail_verdict({"one": tail})
    assert "confident half: one" in discussing.tail_verdict({"one": head})
    copies = view([2, 2, 2], [1, 1, 1])
    assert discussing.tail(copies).empty and "no group to rank" in discussing.tail_text({"one": copies})
    assert "No policy" in discussing.tail_verdict({"one": copies})


def test_a_step_per_task_is_read_on_the_other_half() -> None:
    here, verdict = discussing.oracle_text(family([[[1, 2], [2, 2], [0, 1]], [[0, 2], [2, 3], [1, 1]]]))
    assert "mean of 2 runs" in here and "of 2 runs" in verdict
    assert discussing.oracle_text({}) == ("No adaptation run.", "Not run.")


def test_open_questions_count_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "studied", lambda section: {})
    plan = {"beyond": {"vary": {"entropic_a": {}, "entropy_a": {}, "sparse_a": {}}}}
    monkeypatch.setattr(discussing, "read_yaml", lambda name: plan)
    assert discussing.open_questions()["runs"].tolist()[0] == "0 of 2 recorded"
    assert "No such run" in discussing.beyond_text()
    monkeypatch.setattr(study, "studied", lambda section: {"entropy_a": None})
    assert discussing.open_questions()["runs"].tolist()[0] == "1 of 2 recorded"
    assert "`entropy_a`" in discussing.beyond_text()


def test_a_box_takes_verdict_and_figure_from_the_table() -> None:
    found = {"saturation": Finding("ρ and more", Outcome.REPLICATED, "Because.", "5×3×64", 0.25)}
    entries = verdicts_study.by_claim({"a policy": found})
    one = words.box(entries, "Title", ["saturation"], ["5.1 sec-saturation"])
    assert one.here == "ρ and more (A; n = 5×3×64; power 25%)."
    assert (
        one.verdict.startswith("**Replicated.** Because.") and "{ref}`5.1 (saturation) <sec-saturation>`" in one.verdict
    )
    assert one.published == "99.9% at K = 16, 100% at 64."
    two = words.box(entries, "Title", ["saturation", "transfer"], ["5.1 sec-saturation"], here="First.")
    assert (
        two.here.startswith("First.\n\n*Saturation at K = 16*: ρ and") and "*Transfer degrades*: 7.5%" in two.published
    )
    assert words.measured(entries["saturation"]).startswith("ρ and more (a policy;") and "**Not run.**" in two.verdict
    assert words.told(entries, Outcome.REPLICATED).startswith("Best-of-N saturates at 16")
    assert words.told(entries, Outcome.ARTEFACT) == "none"


def test_power_of_the_undecided_claims() -> None:
    findings = {
        "saturation": Finding("", Outcome.UNDECIDED, power=0.1),
        "quartiles": Finding("", Outcome.UNDECIDED, power=0.9),
        "transfer": Finding("", Outcome.UNDECIDED, power=math.nan),
    }
    assert words.weakest(verdicts_study.by_claim({"p": findings})).startswith("2 of the main claims are undecided")
    assert "10% to 90%" in words.weakest(verdicts_study.by_claim({"p": findings}))
    assert words.weakest(verdicts_study.by_claim({})) == "none of the main claims is undecided"


def test_policies_go_by_their_letter() -> None:
    assert discussing.short("0.5 (a, b, c); 0.7 (a, b)", {"a, b": "A", "a, b, c": "B"}) == "0.5 (B); 0.7 (A)"
