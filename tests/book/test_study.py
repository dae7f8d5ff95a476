"""The study's runs stand beside a chapter's own."""

from __future__ import annotations

from vegtts_core.book import study
from vegtts_core.parameters import read_yaml


def test_a_chapters_own_run_comes_first() -> None:
    found = list(study.searches("recorded", "cpu"))
    assert found[0] == "SmolLM2-135M, adapted, forward, T = 0.25, CPU"
    own = list(study.adaptations("recorded", "cpu"))
    assert own[:3] == ["adaptation_cpu_42", "adaptation_cpu_43", "adaptation_cpu_44"]


def test_every_run_that_the_study_lists_is_recorded_on_the_device_of_its_name() -> None:
    listed = read_yaml(study.STUDY)["recorded"]
    for section in listed:
        found = study.studied(section)
        assert found
        for name, run in found.items():
            assert run.manifest["machine"]["device"] == ("cpu" if "_cpu_" in name else "cuda")


def test_labels_tell_runs_apart() -> None:
    found = study.searches("recorded", "cpu")
    assert len(found) == 1 + len(read_yaml(study.STUDY)["recorded"]["best_of_n_study"])
