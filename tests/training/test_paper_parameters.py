"""params/paper.yaml against appendix A as published: every line of it, and the sections that it has to have."""

import pytest

from vegtts_core.book import published
from vegtts_core.parameters import read_yaml
from vegtts_core.search import BestOfNParameters
from vegtts_core.tasks import load_tasks
from vegtts_core.tasks.load import named_selections
from vegtts_core.training.parameters import AdaptationParameters

RUNS = {
    "rlvr": 1,
    "adaptation": 3,
    "sdpo_feedback": 3,
    "sdpo_prompt_only": 3,
    "isolated": 5,
    "learning_rates": 3,
}
AFTER_RLVR = [name for name in RUNS if name != "rlvr"]


def appendix_a(name: str) -> str:
    return str(published.table("A").at[name, "value"])


@pytest.mark.parametrize(("section", "count"), RUNS.items())
def test_every_section_validates_and_has_its_runs(section: str, count: int) -> None:
    found = AdaptationParameters.family(section, "paper")
    assert len(found) == count
    assert all(isinstance(parameters, AdaptationParameters) for parameters in found.values())
    for parameters in found.values():
        assert parameters.policy == appendix_a("rlvr.model") and parameters.device == "cuda"
        assert parameters.lora.rank == int(appendix_a("rlvr.lora_rank"))
        assert parameters.temperature == float(appendix_a("rlvr.temperature"))
        assert parameters.max_new_tokens == int(appendix_a("rlvr.max_tokens"))
        assert parameters.size == "kernelbench" and not parameters.examples
        assert parameters.advantages.scope == "batch"


def test_no_section_is_left_out_of_these_tests_and_there_is_no_warm_start() -> None:
    assert set(read_yaml("paper")) == {"best_of_n", "recorded", *RUNS}


def test_rlvr_is_appendix_a() -> None:
    rlvr = AdaptationParameters.read("rlvr", "paper")
    assert rlvr.algorithm.upper() == appendix_a("rlvr.algorithm") and rlvr.advantages.objective == "mean"
    assert rlvr.update.learning_rate == float(appendix_a("rlvr.learning_rate"))
    assert rlvr.tasks_per_step == int(appendix_a("rlvr.batch_size"))
    assert rlvr.k == int(appendix_a("rlvr.group_size"))
    assert (rlvr.rewards.measure == "normalised") is (appendix_a("rlvr.normalize_reward") == "true")
    assert len(load_tasks(rlvr.tasks, rlvr.size)) == int(appendix_a("rlvr.training_tasks"))
    assert rlvr.training_only and rlvr.split == "l1_seed42" and rlvr.adapter is None
    # Its checkpoints are those of appendix B.
    steps = [int(step) for step in published.table("B").index]
    assert rlvr.steps == max(steps) and all(step % rlvr.keep_every == 0 for step in steps)


@pytest.mark.parametrize("section", AFTER_RLVR)
def test_the_rest_starts_from_the_final_checkpoint(section: str) -> None:
    last = AdaptationParameters.read("rlvr", "paper").steps
    assert f"step {last}" in appendix_a("evaluation.checkpoint")
    for parameters in AdaptationParameters.family(section, "paper").values():
        assert parameters.adapter == f"runs/rlvr-paper/rlvr/checkpoints/checkpoint-{last}"
        assert parameters.adapter == BestOfNParameters.read("best_of_n", "paper").adapter


def test_batch_ttt_is_appendix_a() -> None:
    found = AdaptationParameters.family("adaptation", "paper")
    assert [each.seed for each in found.values()] == [42, 43, 44]
    for each in found.values():
        assert each.k == int(appendix_a("ttt.k"))
        assert len(load_tasks(each.tasks, each.size)) == int(appendix_a("ttt.tasks_per_step"))
        assert each.tasks_per_step is None and each.algorithm == "grpo"
        assert each.update.learning_rate == float(appendix_a("ttt.learning_rate"))
        # Steps 0 and 1: appendix A's "5 tasks x 32 x 2 steps".
        assert 2 * each.k * len(load_tasks(each.tasks, each.size)) == int(appendix_a("ttt.step_1_rollouts"))


@pytest.mark.parametrize("section", ["sdpo_feedback", "sdpo_prompt_only"])
def test_sdpo_spends_what_table_c_1_says(section: str) -> None:
    rollouts = published.value(f"C.1/{section.replace('_', '-')}/rollouts")
    for each in AdaptationParameters.family(section, "paper").values():
        assert each.algorithm == "sdpo" and each.distillation.beta == 1 and each.distillation.closing
        assert each.distillation.feedback is each.distillation.solution is (section == "sdpo_feedback")
        assert (each.steps + 1) * each.k * len(load_tasks(each.tasks, each.size)) == rollouts


def test_isolated_runs_and_learning_rates() -> None:
    isolated = AdaptationParameters.family("isolated", "paper")
    assert [each.tasks for each in isolated.values()] == [(id,) for id in named_selections()["subset_1"]]
    rates = [each.update.learning_rate for each in AdaptationParameters.family("learning_rates", "paper").values()]
    assert rates == [1.0e-5, 1.0e-6, 3.0e-7]


def test_subsets_and_best_of_n_are_appendix_a() -> None:
    for number in (1, 2):
        ids = named_selections()[f"subset_{number}"]
        assert " ".join(str(id) for id in ids) == appendix_a(f"evaluation.subset_{number}")
    search = BestOfNParameters.read("best_of_n", "paper")
    assert search.k == int(appendix_a("best_of_n.k"))
    assert search.k * len(load_tasks(search.tasks, search.size)) == int(appendix_a("best_of_n.total_rollouts"))
