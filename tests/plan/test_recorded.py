"""Plans of recorded runs, held against their records: each with the rates of another run of the same kind of machine.

Rollouts and prompt tokens must be exact; completion tokens, seconds by kind, wall time and device seconds within 30%.
Not held to it are numbers of distinct candidates (how a policy narrows while it learns differs from seed to seed by a
third) and a policy's lengths in a scaffold and at a temperature in which it was never recorded.
"""

from __future__ import annotations

import json

import pytest

from vegtts_core.plan.counts import work_of
from vegtts_core.plan.families import recorded_family
from vegtts_core.plan.library import Library
from vegtts_core.plan.observed import observe_all, rates_of, same_place
from vegtts_core.plan.planning import RunPlan, plan_work
from vegtts_core.plan.prompts import prompt_counter
from vegtts_core.project import recorded_folder

TOLERANCE = 0.3
#: A teacher's pass has a cost of its own beside that of its tokens: from one kind of teacher to the other, within half.
TEACHERS_TOLERANCE = 0.5


@pytest.fixture(scope="module")
def observed():
    return {each.name: each for each in observe_all(recorded_folder())}


def record_of(name):
    folder = recorded_folder() / name
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, json.loads((folder / f"{manifest['kind']}_compute.json").read_text())


def recorded_work(name):
    manifest, _ = record_of(name)
    family = recorded_family(manifest["kind"], name, manifest["parameters"])
    assert family is not None
    return work_of(family, prompt_counter("embedded"))


def planned(name, sources, observed) -> RunPlan:
    """The plan of a run's parameters, by one who has only seen ``sources``."""
    assert name not in sources
    seen = [observed[source] for source in sources]
    assert all(same_place(each.place, observed[name].place) for each in seen)
    return plan_work(recorded_work(name), Library(seen, [rates_of(seen)], {}))


def close(predicted, recorded):
    return abs(predicted - recorded) <= TOLERANCE * recorded


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("adaptation_cpu_43", ["adaptation_cpu_44"]),
        ("adaptation_cpu_44", ["adaptation_cpu_43"]),
        ("rate_1e-6_cpu_42", ["rate_1e-5_cpu_42"]),
        ("sdpo_prompt_only_cpu_42", ["adaptation_cpu_44", "sdpo_feedback_cpu_42"]),
        ("sdpo_feedback_cpu_42", ["adaptation_cpu_43", "sdpo_prompt_only_cpu_42"]),
    ],
)
def test_a_run_costs_what_its_plan_says(name, sources, observed):
    plan = planned(name, sources, observed)
    _, record = record_of(name)
    assert plan.rollouts == record["rollouts"]
    assert plan.prompt_tokens == record["prompt_tokens"]
    expected, spent = plan.expected, plan.expected_seconds
    assert expected is not None and spent is not None
    assert close(expected.completion_tokens, record["completion_tokens"])
    assert close(plan.student_tokens, record["student_tokens"])
    assert close(expected.teacher_tokens, record["teacher_tokens"]) or record["teacher_tokens"] == 0
    for kind in ("sampling", "evaluation", "update"):
        assert close(getattr(spent, kind), record[f"{kind}_seconds"]), kind
    assert spent.preparing is not None and abs(spent.preparing - record["preparing_seconds"]) <= max(
        1.0, TEACHERS_TOLERANCE * record["preparing_seconds"]
    )
    assert spent.recorded is not None and close(spent.recorded, record["wall_seconds"])
    assert plan.device_seconds is not None and close(plan.device_seconds, record["device_seconds"])
    bound = plan.bound
    assert record["completion_tokens"] <= bound.completion_tokens
    assert record["distinct_candidates"] <= bound.distinct_candidates


def test_the_check_can_fail(observed):
    """With sampling and updates that take twice as long, a plan is wrong by more than the tolerance."""
    seen = [observed["adaptation_cpu_44"]]
    rates = rates_of(seen)
    slow = {
        name: part.model_copy(update={field: 2 * value for field, value in part.model_dump().items()})
        for name in ("sampling", "update")
        if (part := getattr(rates, name)) is not None
    }
    assert len(slow) == 2
    plan = plan_work(recorded_work("adaptation_cpu_43"), Library(seen, [rates.model_copy(update=slow)], {}))
    assert plan.expected_seconds is not None and plan.expected_seconds.recorded is not None
    assert not close(plan.expected_seconds.recorded, record_of("adaptation_cpu_43")[1]["wall_seconds"])


def test_best_of_n_samples_as_fast_as_adaptations_say(observed):
    """Another scaffold, temperature, K and number of batches: only how long its completions are is told to the plan."""
    name = "best_of_n_cpu_forward_025"
    sources = [
        each
        for each in observed
        if each.startswith(("adaptation_cpu", "isolated_cpu", "rate_", "sdpo_"))
        and same_place(observed[each].place, observed[name].place)
    ]
    assert len(sources) >= 8
    plan = planned(name, sources, observed)
    _, record = record_of(name)
    assert plan.rollouts == record["rollouts"] and plan.prompt_tokens == record["prompt_tokens"]
    assert plan.prompt_tokens_computed == record["prompt_tokens_computed"]
    assert plan.expected is None and plan.expected_seconds is None  # nobody wrote in this scaffold: only bounds
    told = Library([observed[name]], [rates_of([observed[source] for source in sources])], {})
    plan = plan_work(recorded_work(name), told)
    assert plan.expected is not None and plan.expected_seconds is not None
    assert plan.expected.completion_tokens == pytest.approx(record["completion_tokens"])
    assert plan.expected.distinct_candidates == pytest.approx(record["distinct_candidates"])
    assert close(plan.expected_seconds.sampling, record["sampling_seconds"])
    assert any("rates of evaluation, retiming, references are not known" in note for note in plan.notes)
    assert plan.expected_seconds.evaluation is None  # no candidate in this scaffold was judged there


@pytest.mark.parametrize(("name", "updates"), [("rlvr_embedded", 40), ("warm_start_embedded", 532)])
def test_the_outer_loop_is_counted_as_it_ran(name, updates, observed):
    work = recorded_work(name)
    _, record = record_of(name)
    assert work.rollouts == record["rollouts"]
    slots = [slot for found in observed[name].writing.slots.values() for slot in found]
    written = sum(length * times for slot in slots for length, times in slot.lengths.items())
    assert work.prompt_tokens == record["student_tokens"] - written
    # A warm start's fit leaves out the slots where nothing was kept, which nobody knows before.
    assert updates <= len(work.updates) <= 1.1 * updates


def test_rates_are_of_one_kind_of_machine(observed):
    gpu, cpu = observed["rlvr_embedded"].place, observed["adaptation_cpu_42"].place
    assert gpu["device"] == "cuda" and "H100" in gpu["gpu"] and cpu["device"] == "cpu"
    assert not same_place(gpu, cpu)
    assert not same_place(gpu, gpu | {"gpu": "another"})
    assert same_place(cpu, cpu | {"threads": 7})


def test_several_devices_share_whole_groups(observed):
    source = observed["adaptation_cpu_44"]
    work = recorded_work("adaptation_cpu_43")
    library = Library([source], [rates_of([source])], {})
    one, two, many = (plan_work(work, library, devices) for devices in (1, 2, 8))
    assert one.expected_seconds and two.expected_seconds and many.expected_seconds
    assert two.expected_seconds.update == pytest.approx(one.expected_seconds.update * 3 / 5)  # five groups on two
    assert many.expected_seconds.update == pytest.approx(one.expected_seconds.update / 5)
    assert two.evaluations_per_device == one.evaluations_per_device / 2
    assert two.device_seconds == pytest.approx(one.device_seconds)
