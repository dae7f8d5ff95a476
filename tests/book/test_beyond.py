"""Chapter 10's helpers: tables with known answers, the noise control, and sentences for any data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_tables import random_table, sample, table

from vegtts_core import metrics
from vegtts_core.book import beyond_choosing as choosing
from vegtts_core.book import beyond_policies as policies
from vegtts_core.book import beyond_ranking as ranked
from vegtts_core.book import beyond_retiming as retiming
from vegtts_core.book import beyond_variants as variants
from vegtts_core.book import beyond_when as when
from vegtts_core.book import beyond_words as words
from vegtts_core.book import beyond_words_runs as more
from vegtts_core.book import study
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table
from vegtts_core.runs import Run
from vegtts_core.statistics import Effect, Interval

PARAMETERS = {"seed": 42, "protocol": "sound", "temperature": 1.0, "size": "cpu", "scaffold": "template", "steps": 2}
PARAMETERS |= {"rewards": {"measure": "raw", "shuffle": False, "threshold": None}, "update": {"entropy": 0.0}}
PARAMETERS |= {"advantages": {"objective": "mean", "scope": "batch", "scale": "std"}}


CALLED = {"A": "A: first", "B": "B: second"}


def run(samples, gpu="H100", **changes):
    manifest = {"parameters": PARAMETERS | changes, "policy": {"name": "embedded", "adapter_sha256": None}}
    manifest |= {"machine": {"device": "cpu", "cpu": "X", "cores": 2, "gpu": gpu}}
    return Run(Path("a"), manifest, samples, {}, pd.DataFrame())


def surprising_is_fast(tasks=7, seeds=(42,), k=6, sign=1.0, retimed=True):
    """A table in which the more surprising candidates are the faster (``sign`` 1) or the slower ones."""
    rows = []
    for task in range(tasks):
        for seed in seeds:
            for i in range(k):
                speed = 0.7 + 0.2 * i + 0.01 * task
                again = {
                    "retimed_correct": True,
                    "retimed_sound_speedup": speed,
                    "retimed_sound_speedup_low": 0.99 * speed,
                }
                again |= {"retimed_published_speedup": speed}
                rows.append(
                    sample(
                        task=f"level1/{task}",
                        task_id=task,
                        seed=seed,
                        sample=i,
                        speedup=speed,
                        mean_logprob=-0.5 - sign * 0.05 * i,
                        fingerprint=f"f{i}",
                        completion=f"{task}{i}",
                        scaffold="template",
                        reward=speed,
                        sound_reference_seconds=[1.0] * 8,
                        sound_candidate_seconds=[1 / speed] * 8,
                        **(again if retimed else {}),
                    )
                )
    return table(rows)


def views_of(samples):
    return {"A": metrics.under(samples, "sound")}


def effect(estimate, low, high, n=5):
    interval = Interval(estimate, low, high, n)
    return Effect(interval, interval, 0.1, n)


def test_a_rule_that_is_right_saves_evaluations_and_one_that_is_wrong_costs_some():
    found = ranked.effects(views_of(surprising_is_fast()))
    saved = {row["order"]: row["fastest"] for row in found.to_dict("records")}
    assert saved["surprisal"].interval.estimate == pytest.approx(np.log(1 / 3.5))
    assert saved["surprisal"].sign == 0 or saved["surprisal"].high < 0
    assert saved["confidence"].interval.estimate == pytest.approx(np.log(6 / 3.5))
    # Length and copies tell nothing apart here.
    assert saved["majority"].interval.estimate == pytest.approx(0) and saved[
        "shortest"
    ].interval.estimate == pytest.approx(0)


def test_ranking_figures_and_tables_can_be_drawn_for_one_task_and_many():
    for samples in (random_table(0), random_table(1, tasks=1, seeds=(42,)), surprising_is_fast(retimed=False)):
        views = views_of(samples)
        curves, found = ranked.curves(views), ranked.effects(views)
        for measure in ("solved", "reached"):
            assert "<svg" in draw(specification(ranked.figure(curves, measure, "x", CALLED)), "a")
        assert Table(ranked.table(found), "tab-a", "a", ranked.TABLE_COLUMNS).markdown()
        assert words.ranking_text(found) and words.ranking_verdict(found)


def test_every_policy_has_one_letter():
    one, two = run(table([])), run(table([]), temperature=0.5)
    names = ranked.letters({study.label(one): one}, {"x": one, "y": two})
    assert list(names.values()) == ["A", "B"] and names[study.label(two)] == "B"
    assert ranked.legend(names).startswith("A: SmolLM2-135M, template, T = 1")
    assert ranked.titles(names)["B"].startswith("B: 135M, template, T = 0.5")


def test_retiming_pays_where_the_first_clock_errs_and_costs_where_it_does_not():
    rng = np.random.default_rng(0)
    n = 12
    fresh = np.log(np.linspace(1.1, 2.0, n))
    blind = rng.permutation(fresh)
    none, _ = retiming.realised(blind, fresh, fresh, 8, 0, False, 4000, np.random.default_rng(1))
    some, _ = retiming.realised(blind, fresh, fresh, 8, 4, False, 4000, np.random.default_rng(1))
    assert some > none + 0.05
    exact, _ = retiming.realised(fresh, fresh, fresh, 8, 0, False, 4000, np.random.default_rng(1))
    fewer, _ = retiming.realised(fresh, fresh, fresh, 8, 4, False, 4000, np.random.default_rng(1))
    assert fewer < exact
    # The best of 8 of 12 drawn without replacement, in expectation.
    from math import comb

    expected = sum(fresh[i] * comb(i, 7) / comb(12, 8) for i in range(12))
    assert exact == pytest.approx(expected, abs=0.01)


def test_what_is_wrong_or_slow_leaves_the_reference():
    nothing = np.full(4, np.nan)
    assert retiming.realised(nothing, nothing, nothing, 3, 2, True, 10, np.random.default_rng(0)) == (0.0, 0.0)
    slow = np.log(np.full(4, 0.5))
    assert retiming.realised(slow, slow, slow, 3, 2, True, 10, np.random.default_rng(0)) == (0.0, 0.0)
    lucky = np.log(np.full(4, 2.0))
    value, slower = retiming.realised(lucky, slow, slow, 3, 0, False, 10, np.random.default_rng(0))
    assert value == pytest.approx(np.log(0.5)) and slower == 1.0
    assert retiming.realised(lucky, slow, slow, 3, 2, False, 10, np.random.default_rng(0))[1] == 0.0


def test_agreement_counts_intervals_that_exclude_each_other():
    near = surprising_is_fast(tasks=1, k=4)
    found = retiming.agreement({"a": run(near)})
    assert found["outside"][0] == 0 and found["factor"][0] == pytest.approx(1)
    assert "as well as" in words.agreement_verdict(found)
    apart = near.copy()
    apart.loc[0, ["retimed_sound_speedup", "retimed_sound_speedup_low"]] = [2.1, 2.0]
    found = retiming.agreement({"a": run(apart)})
    assert found["outside"][0] == 0.25 and found["first"][0] == pytest.approx(0.7) and found["second"][0] == 2.1
    assert "hold the noise within one evaluation, but not" in words.agreement_verdict(found)
    assert retiming.agreement({"a": run(surprising_is_fast(retimed=False))}).empty


def test_without_enough_candidates_retiming_is_not_decided():
    spent = retiming.effects(retiming.outcomes({"a": run(surprising_is_fast())}))
    assert spent.empty and "not decided" in words.retiming_verdict(spent)
    assert Table(retiming.table(spent), "tab-a", "a", retiming.COLUMNS).markdown()


def test_rules_are_held_against_random_of_the_same_cost():
    views = views_of(surprising_is_fast())
    outcomes = choosing.outcomes(views)
    found = choosing.effects(outcomes).set_index("rule")
    assert found.at["random", "ratio"] is None and found.at["random, best of 3", "points"] is None
    assert found.at["surprisal", "ratio"].interval.estimate > 0 > found.at["confidence", "ratio"].interval.estimate
    assert found.at["oracle", "speedup"] == pytest.approx(found.at["surprisal", "speedup"])
    assert found.at["random, as drawn", "speedup"] == pytest.approx(found.at["random", "speedup"])
    assert "surprisal (speedup)" in words.choosing_verdict(found.reset_index())
    shown = choosing.table(found.reset_index())
    assert shown["cost"].iloc[0] == "none" and shown["cost"].iloc[-1] == "all"
    assert "<svg" in draw(specification(choosing.figure(choosing.by_policy(outcomes))), "a")


@pytest.mark.parametrize(("sign", "word"), [(1.0, "better"), (-1.0, "worse")])
def test_when_names_those_for_whom_it_works(sign, word):
    searches = {"a": run(surprising_is_fast(sign=sign)), "b": run(surprising_is_fast(sign=sign), temperature=0.5)}
    groups = when.groups(searches, {}, ranked.letters({}, searches))
    assert groups["rho"].to_numpy() == pytest.approx(sign)
    assert (groups["gain"] <= groups["room"] + 1e-12).all()
    found = when.kinds(groups)
    text = words.when_verdict(found)
    assert f"a {word} rule" in text and ("shown to be a good rule" in text) == (sign < 0)
    assert "<svg" in draw(specification(when.figure(groups, CALLED)), "a")


def test_with_one_candidate_there_is_nothing_to_gain():
    one = surprising_is_fast(k=1)
    groups = when.groups({"a": run(one)}, {}, ranked.letters({}, {"a": run(one)}))
    assert groups["gain"].to_numpy() == pytest.approx(0.0) and when.open_groups(groups).empty
    assert when.together(groups).iloc[0]["one"] == 7
    related, kinds = when.correlations(groups), when.kinds(groups)
    assert words.when_verdict(kinds) == "No group here has a choice."
    assert words.when_text(when.together(groups).iloc[0], related) and words.mechanics(related)
    assert Table(when.kinds_table(kinds), "tab-a", "a", when.KIND_COLUMNS).markdown()


def moving(fast_at, steps=3, tasks=5, k=8):
    """An adaptation run's samples: at step s, ``fast_at(s, task)`` of k rollouts are correct (and twice as fast)."""
    rows = [
        sample(
            task=f"level1/{task}",
            task_id=task,
            step=step,
            sample=i,
            correct=i < fast_at(step, task),
            speedup=2.0,
            reward=2.0 if i < fast_at(step, task) else 0.0,
            fingerprint=f"f{i < fast_at(step, task)}",
            completion=f"{step}{i}",
            scaffold="template",
        )
        for step in range(steps)
        for task in range(tasks)
        for i in range(k)
    ]
    return table(rows)


SHUFFLED = {"rewards": PARAMETERS["rewards"] | {"shuffle": True}}


def test_a_variant_finds_the_run_that_differs_in_nothing_else():
    samples = moving(lambda step, task: 2)
    others = {"other seed": run(samples, seed=43), "control": run(samples, steps=8), "other card": run(samples, "H200")}
    pair = variants.matched({"noise": run(samples, **SHUFFLED)}, others)[0]
    assert pair.control is others["control"] and pair.shuffled and pair.what == "shuffled rewards"
    assert variants.equal_starts(pair) == (40, 40)
    lone = variants.matched({"noise": run(samples, **SHUFFLED)}, {"other seed": run(samples, seed=43)})[0]
    assert lone.control is None and "Without a control" in more.recorded([lone])
    assert variants.differences([lone]).empty and variants.learning([lone]).empty


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"advantages": PARAMETERS["advantages"] | {"scope": "group"}}, "advantages per group"),
        ({"advantages": PARAMETERS["advantages"] | {"objective": "entropic"}}, "entropic objective"),
        ({"update": {"entropy": 0.01}}, "entropy bonus 0.01"),
        ({"rewards": PARAMETERS["rewards"] | {"threshold": 1.0}}, "rewards 1 above 1×"),
    ],
)
def test_variants_are_named_by_what_differs(changes, expected):
    samples = moving(lambda step, task: 2)
    pair = variants.matched({"v": run(samples, **changes)}, {"c": run(samples)})[0]
    assert pair.control is not None and pair.what == expected


def test_learning_is_what_real_rewards_do_beyond_noise():
    real = run(moving(lambda step, task: 2 + 2 * step + (task % 2) * (step > 0)))
    still = run(moving(lambda step, task: 2), **SHUFFLED)
    pairs = variants.matched({"n": still}, {"c": real})
    learning = variants.learning(pairs)
    row = learning[learning["measure"] == "correct"].iloc[0]
    assert row["step"] == 2 and row["gap"].sign == 1 and row["shuffled"].interval.estimate == 0
    assert "change correctness by more than noise" in more.learning_verdict(learning)
    assert "1 seed" in more.learning_text(learning, pairs)
    drifting = variants.matched(
        {"n": run(moving(lambda step, task: 2 + step * (task % 3)), **SHUFFLED)},
        {"c": run(moving(lambda step, task: 2 + step * ((task + 1) % 3)))},
    )
    assert "not shown to exceed noise" in more.learning_verdict(variants.learning(drifting))
    differences = variants.differences(pairs)
    assert list(differences["step"]) == [0, 1, 2]
    assert Table(variants.table(differences), "tab-a", "a", variants.COLUMNS).markdown()
    assert Table(variants.learning_table(learning), "tab-a", "a", variants.LEARNING_COLUMNS).markdown()
    assert "<svg" in draw(specification(variants.figure(differences)), "a")


def test_a_noise_control_is_no_other_update():
    samples, fewer = moving(lambda step, task: 5), moving(lambda step, task: 5 - 2 * (step > 0) - (task % 2) * step)
    noise = variants.matched({"n": run(fewer, **SHUFFLED)}, {"c": run(samples)})
    assert more.variants_text(variants.differences(noise)) == more.ONLY_NOISE
    assert "Not run" in more.variants_verdict(variants.differences(noise))
    entropy = variants.matched({"e": run(fewer, update={"entropy": 0.1})}, {"c": run(samples)}, {})
    found = variants.differences(entropy)
    assert "at step 2: correct" in more.variants_text(found)
    assert "correct below its control at steps 1 and 2" in more.variants_verdict(found)
    named = more.learning_verdict(variants.learning(noise), {noise[0].policy: "E: 135M, CPU"})
    assert "(135M, CPU)" in named and named.startswith("For policy")


def test_seeds_of_one_comparison_are_taken_together():
    samples = {seed: moving(lambda step, task: 2 + step).assign(seed=seed) for seed in (42, 43)}
    variants_ = {f"n{seed}": run(table, seed=seed, **SHUFFLED) for seed, table in samples.items()}
    pairs = variants.matched(variants_, {f"c{seed}": run(table, seed=seed) for seed, table in samples.items()})
    found, learning = variants.differences(pairs), variants.learning(pairs)
    assert list(found["seeds"]) == [2, 2, 2] and list(found["tasks"]) == [5, 5, 5]
    assert (learning["seeds"] == 2).all() and learning["gap"][0].groups == 10


def test_with_nothing_recorded_the_section_says_so():
    differences, learning = variants.differences([]), variants.learning([])
    assert "No variant of the update is recorded yet" in more.recorded([])
    assert more.variants_text(differences) == "Nothing to compare." and "Not run" in more.variants_verdict(differences)
    assert more.learning_text(learning, []) == "No noise control is recorded."
    assert "cannot be said" in more.learning_verdict(learning)


def test_what_chance_alone_would_give_is_not_called_found():
    assert words.by_chance(0, 10) and words.by_chance(2, 36) and not words.by_chance(9, 10)
    frame = pd.DataFrame({"gain": [effect(0.1, 0.01, 0.2)] + [effect(0.0, -0.1, 0.1)] * 19})
    assert "not decided" in words.retiming_verdict(frame)
    assert "Timing the leaders" in words.retiming_verdict(pd.DataFrame({"gain": [effect(0.1, 0.01, 0.2)] * 5}))
    frame = pd.DataFrame({"gain": [effect(-0.1, -0.2, -0.01)] + [effect(0.0, -0.1, 0.1)] * 19, "kind": range(20)})
    assert words.LUCK in words.when_verdict(frame.assign(kind=frame["kind"].astype(str)))


def test_one_interval_among_several_policies_is_not_a_finding_for_surprisal():
    later, open_ = effect(0.4, 0.1, 0.7), effect(0.0, -0.3, 0.3)
    rows = [
        {"policy": p, "order": "surprisal", "first_fast": e, "fastest": open_}
        for p, e in zip("ABCD", [later, open_, open_, open_], strict=True)
    ]
    assert "not shown for any policy" in words.ranking_verdict(pd.DataFrame(rows))
    every = pd.DataFrame([row | {"first_fast": later} for row in rows])
    assert "candidate later than random for 4 policies" in words.ranking_verdict(every)
    assert "costs some" in more.ranking_takeaway(every)


def test_policies_have_one_row_each_and_one_task_is_enough():
    searches = {"a, T = 1": run(surprising_is_fast(k=20)), "b, T = 1": run(surprising_is_fast(tasks=1))}
    found = policies.table(searches)
    assert list(found["policy"]) == ["a, T = 1", "b, T = 1"] and found["at"][1] is None
    assert Table(found, "tab-a", "a", policies.COLUMNS).markdown()
    assert policies.table({"a": run(surprising_is_fast(k=policies.AT))})["at"][0] is not None
    assert policies.summary(found) and more.policies_verdict(found)


def test_recorded_noise_was_noise_and_its_control_was_not():
    """The permutation left nothing of the rewards in the run that is shown as the noise control."""
    pairs = [
        pair
        for pair in variants.pairs("recorded", "cpu", study.adaptations("recorded", "cpu"))
        if pair.shuffled and pair.control
    ]
    for pair in pairs:
        assert pair.control is not None
        assert max(abs(v) for v in variants.signal(pair.variant) if np.isfinite(v)) < 0.3
        assert variants.signal(pair.control)[0] > 0.5
        same, both = variants.equal_starts(pair)
        assert 0.95 * both <= same <= both and both > 0  # other machines round otherwise


def test_copies_of_a_recorded_candidate_share_one_verdict():
    for search in study.searches("recorded", "cpu").values():
        view = metrics.under(search.samples, "sound")
        known = view[view["fingerprint"].notna()]
        assert (known.groupby(["task", "seed", "fingerprint"])["correct"].nunique() == 1).all()
        assert (known.groupby(["task", "seed", "fingerprint"])["speedup"].nunique() <= 1).all()


def test_intervals_are_tried_on_evaluations_that_they_were_not_widened_by():
    found = retiming.repeated()
    text = words.held_out_text(found)
    assert "at least one came later" in text and len(found[found["later"]]) > 1000
    assert words.held_out_text(found[~found["later"]]) == ""
