"""The tables of appendix A: what was published, what ``params/paper.yaml`` says, and what ran here, name by name.

What ran here is read from manifests (or, for a live edition, from the parameters that a live run would have); nothing
is run. It knows names and values of parameters, not what they do. What the paper leaves open, and sentences, are in
``configuration_open``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.measurement import in_full
from vegtts_core.book.prose import listed
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.parameters import read_yaml
from vegtts_core.project import recorded_folder
from vegtts_core.tasks import load_tasks
from vegtts_core.tasks.load import named_selections
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.warm_start_parameters import WarmStartParameters

#: The file that holds appendix A.
PAPER = "paper"

#: Sections of parameters in the order of the paper; ``warm_start`` is not in it.
FAMILIES = (
    "warm_start",
    "rlvr",
    "best_of_n",
    "adaptation",
    "isolated",
    "learning_rates",
    "sdpo_feedback",
    "sdpo_prompt_only",
    "transfer",
    "probe",
)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Ran:
    """One run, recorded or to be made: its family, its name, and its manifest, which has parameters at least."""

    family: str
    name: str
    manifest: Mapping[str, Any]

    @property
    def parameters(self) -> Values:
        """As the run was given them."""
        return self.manifest["parameters"]


def ran(source: str, params: str | Path) -> list[Ran]:
    """Every run behind the book, family by family: the recorded ones that ``params`` names and that are there.

    Live: what its sections ask for. Families that are neither are left out.
    """
    values = read_yaml(params)
    found: list[Ran] = []
    for family in FAMILIES:
        found += _recorded(family, values) if source == "recorded" else _live(family, params, values)
    return found


def _recorded(family: str, values: Values) -> list[Ran]:
    names = (values.get("recorded") or {}).get(family) or []
    found = []
    for name in [names] if isinstance(names, str) else names:
        path = recorded_folder() / name / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if manifest.get("status") == "complete" and "parameters" in manifest:
            found.append(Ran(family, Path(name).name, manifest))
    return found


def _live(family: str, params: str | Path, values: Values) -> list[Ran]:
    from vegtts_core.search import BestOfNParameters

    if family not in values or family in ("transfer", "probe"):
        return []
    if family == "best_of_n":
        given: dict[str, Any] = {family: BestOfNParameters.read(family, params)}
    elif family == "warm_start":
        given = {family: WarmStartParameters.read(family, params)}
    else:
        first = {"adapter": "warm_start/adapter"} if family == "rlvr" and "warm_start" in values else {}
        given = dict(AdaptationParameters.family(family, params, first))
    return [Ran(family, name, {"parameters": each.model_dump(mode="json")}) for name, each in given.items()]


def papers(family: str) -> Values:
    """The first run of a family as ``params/paper.yaml`` describes it."""
    return _live(family, PAPER, read_yaml(PAPER))[0].parameters


# -- appendix A, line by line ------------------------------------------------------------------------------------------


def task_ids(values: Values) -> list[int]:
    """Numbers of the tasks that parameters ask for."""
    tasks = values["tasks"]
    return [task.id for task in load_tasks(tasks if isinstance(tasks, str) else tuple(tasks), values["size"])]


def rate(value: float) -> str:
    """A learning rate as the paper writes it: ``1e-5``."""
    return re.sub(r"e-0?", "e-", f"{value:.3g}" if "e" in f"{value:.3g}" else f"{value:.1e}").replace(".0e", "e")


_LINES: Mapping[str, tuple[str, Callable[[Values], object]]] = {
    "rlvr.model": ("rlvr", lambda p: p["policy"]),
    "rlvr.algorithm": ("rlvr", lambda p: str(p["algorithm"]).upper()),
    "rlvr.lora_rank": ("rlvr", lambda p: p["lora"]["rank"]),
    "rlvr.learning_rate": ("rlvr", lambda p: rate(p["update"]["learning_rate"])),
    "rlvr.batch_size": ("rlvr", lambda p: p["tasks_per_step"] or len(task_ids(p))),
    "rlvr.group_size": ("rlvr", lambda p: p["k"]),
    "rlvr.training_tasks": ("rlvr", lambda p: len(task_ids(p))),
    "rlvr.temperature": ("rlvr", lambda p: f"{p['temperature']:g}"),
    "rlvr.max_tokens": ("rlvr", lambda p: p["max_new_tokens"]),
    "rlvr.normalize_reward": ("rlvr", lambda p: str(p["rewards"]["measure"] == "normalised").lower()),
    "evaluation.checkpoint": ("adaptation", lambda p: adapter(p["adapter"])),
    "evaluation.subset_1": ("adaptation", lambda p: " ".join(str(id) for id in task_ids(p))),
    "best_of_n.k": ("best_of_n", lambda p: p["k"]),
    "best_of_n.total_rollouts": ("best_of_n", lambda p: p["k"] * len(task_ids(p))),
    "ttt.k": ("adaptation", lambda p: p["k"]),
    "ttt.tasks_per_step": ("adaptation", lambda p: p["tasks_per_step"] or len(task_ids(p))),
    "ttt.learning_rate": ("adaptation", lambda p: rate(p["update"]["learning_rate"])),
    "ttt.step_1_rollouts": ("adaptation", lambda p: 2 * p["k"] * (p["tasks_per_step"] or len(task_ids(p)))),
}

_GROUPS = {"rlvr": "RLVR", "evaluation": "evaluation", "best_of_n": "Best-of-N", "ttt": "batch TTT"}


def adapter(name: str | None) -> str:
    """Where a run's weights came from, in words."""
    if name is None:
        return "the policy as released"
    if name == "embedded":
        return "the embedded adapter (RLVR, last step)"
    if "warm_start" in name:
        return "the warm start"
    step = re.search(r"checkpoint-(\d+)$", name)
    return f"RLVR, step {step[1]}" if step else "an adapter of another run"


def line_by_line(runs: Sequence[Ran]) -> pd.DataFrame:
    """Appendix A: columns group, parameter, published, file, here, differs; one row per line of the appendix.

    ``file``: what ``params/paper.yaml`` comes to; ``here``: the first recorded run of the family, None without one.
    The checkpoint is a sentence in the appendix and never called different.
    """
    rows = []
    for name, value in published.table("A")["value"].items():
        group, parameter = str(name).split(".")
        if name == "evaluation.subset_2":
            file, here = " ".join(str(id) for id in named_selections()["subset_2"]), _second_subset(runs)
        else:
            family, read = _LINES[str(name)]
            file, here = str(read(papers(family))), first(runs, family, read)
        rows.append((_GROUPS[group], parameter.replace("_", " "), value, file, here))
    frame = pd.DataFrame(rows, columns=["group", "parameter", "published", "file", "here"])
    known = frame["here"].notna() & (frame["parameter"] != "checkpoint")
    frame["differs"] = known & (frame["here"] != frame["published"])
    return frame.astype(object).where(frame.notna(), None)


def first(runs: Sequence[Ran], family: str, read: Callable[[Values], object]) -> str | None:
    """What the family's first run says; other values of the same family are left to the table of runs."""
    mine = [run for run in runs if run.family == family]
    return str(read(mine[0].parameters)) if mine else None


def _second_subset(runs: Sequence[Ran]) -> str | None:
    wanted = set(named_selections()["subset_2"])
    found = {id for run in runs if "size" in run.parameters for id in task_ids(run.parameters) if id in wanted}
    return " ".join(str(id) for id in sorted(found)) or None


LINE_COLUMNS = {
    "group": Column("part"),
    "parameter": Column("parameter"),
    "published": Column("appendix A", group=PUBLISHED),
    "file": Column("params/paper.yaml", group=PUBLISHED),
    "here": Column("first run of the family", group=HERE),
}


# -- the runs ----------------------------------------------------------------------------------------------------------


def families(runs: Sequence[Ran]) -> pd.DataFrame:
    """One row per family: columns family, runs, policy, start, tasks, scaffold, k, steps, rate, temperature, machine,
    commit. Values that differ within a family stand beside each other; a family without a run says so.
    """
    rows = []
    for family in FAMILIES:
        mine = [run for run in runs if run.family == family]
        row: dict[str, Any] = {"family": family.replace("_", " "), "runs": len(mine)}
        for name, read in _RUN.items():
            row[name] = listed(dict.fromkeys(str(read(run.parameters)) for run in mine if _has(read, run))) or None
        row["machine"] = (
            listed(
                dict.fromkeys(
                    in_full(run.manifest.get("remeasured", run.manifest).get("machine") or {}) for run in mine
                )
            )
            or None
        )
        row["commit"] = listed(dict.fromkeys(_commit(run.manifest) for run in mine)) or None
        rows.append(row)
    return pd.DataFrame(rows)


_RUN: Mapping[str, Callable[[Values], object]] = {
    "start": lambda p: adapter(p["adapter"]),
    "tasks": lambda p: p["tasks"] if isinstance(p["tasks"], str) else " ".join(str(id) for id in p["tasks"]),
    "scaffold": lambda p: "+".join(p["scaffolds"]) if "scaffolds" in p else p["scaffold"],
    "seed": lambda p: p["seed"] if "seed" in p else ", ".join(str(seed) for seed in p["seeds"]),
    "k": lambda p: p["k"],
    "steps": lambda p: p["steps"],
    "rate": lambda p: rate(p["update"]["learning_rate"]),
    "temperature": lambda p: f"{p['temperature']:g}",
}


def _has(read: Callable[[Values], object], run: Ran) -> bool:
    try:
        read(run.parameters)
    except KeyError:
        return False
    return True


def _commit(manifest: Mapping[str, Any]) -> str:
    git = manifest.get("git") or {}
    commit = str(git.get("commit") or "")[:7]
    return commit + ", changed" if commit and git.get("modified") else commit


FAMILY_COLUMNS = {
    "family": Column("family"),
    "runs": Column("runs", "d"),
    "start": Column("starts from"),
    "tasks": Column("tasks"),
    "scaffold": Column("scaffold"),
    "seed": Column("seeds"),
    "k": Column("K"),
    "steps": Column("steps"),
    "rate": Column("learning rate"),
    "temperature": Column("T"),
    "machine": Column("judged on"),
    "commit": Column("commit"),
}
