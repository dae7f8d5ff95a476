"""Every template on every task that it covers: right in C++, compiled in CUDA."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from template_grids import tunings

from vegtts_core.errors import UserError
from vegtts_core.kernels import nvrtc
from vegtts_core.kernels.templates import TemplateFamily, TemplateScaffold, covered, honest_filling, template_of
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Size, get_task

KEYS = {entry.key: entry.family for entry in covered() if entry.family}


@cache
def errors_of(family: TemplateFamily) -> dict[str, dict[str, float]]:
    keys = [key for key, its in KEYS.items() if its is family]
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent.parent)])}
    command = [sys.executable, str(here / "template_truth.py"), *keys]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return {entry["key"]: entry["errors"] for entry in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("key", KEYS)
def test_the_honest_filling_is_within_the_error_budget_in_cpp(key):
    assert errors_of(KEYS[key])[key][honest_filling(get_task(key))] <= 1


@pytest.mark.parametrize("key", KEYS)
def test_other_tunings_compute_the_same_in_cpp(key):
    # Many elements in few float lanes are summed coarsely (100 budgets are 4e-4): a choice that costs correctness.
    errors = errors_of(KEYS[key])[key]
    assert len(errors) >= 2 and max(errors.values()) < 100, errors


@pytest.mark.parametrize("size", Size)
@pytest.mark.parametrize("key", KEYS)
def test_cuda_renders_compile(key, size):
    task = get_task(key, size)
    filling = honest_filling(task) if size is Size.CPU else tunings(task, Language.CUDA, 1, seed=1)[0]
    candidate = TemplateScaffold(Language.CUDA).parse(task, filling)
    assert isinstance(candidate, Candidate) and candidate.launch is not None
    assert candidate.launch.block[0] * candidate.launch.block[1] <= 1024
    assert nvrtc.compile_cubin(candidate.source).startswith(b"\x7fELF")


def test_every_level_1_task_is_listed_with_a_family_or_a_reason():
    entries = covered()
    assert len(entries) == 101 and len({entry.key for entry in entries}) == 101
    assert all((entry.family is None) == bool(entry.reason) for entry in entries)
    assert {entry.family for entry in entries if entry.family} == set(TemplateFamily)
    # All evaluation tasks of both subsets of the paper.
    assert {f"level1/{id}" for id in (4, 5, 12, 14, 15, 18, 28, 29, 30, 32)} <= set(KEYS)


def test_a_task_without_a_template_is_one_sentence():
    for ask in (template_of, honest_filling, TemplateScaffold(Language.CPP).prompt):
        with pytest.raises(UserError, match=r"no kernel template.*use the kernel scaffold"):
            ask(get_task(97))
