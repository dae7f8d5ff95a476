"""Chapter 7: what the study rests on, how much it could have found, and which of its planned runs are not recorded.

Everything is read from manifests, from the table of claims and from ``params/h100.yaml``; sentences are in
``limiting_words``. It measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vegtts_core.book import published, study
from vegtts_core.book.adapting import machine_text
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.book.verdicts import Entries
from vegtts_core.book.verdicts_study import grouped
from vegtts_core.parameters import read_yaml
from vegtts_core.project import recorded_folder
from vegtts_core.runs import Run
from vegtts_core.statistics import least_spread, mean_power, tasks_needed
from vegtts_core.tasks.load import named_selections

NAN = float("nan")

SHAPES = {"cpu": "small", "kernelbench": "full"}
"""Sizes of tasks in a word."""

LEVEL_1 = "level1/"

# -- what the numbers rest on ------------------------------------------------------------------------------------


def families(searches: Mapping[str, Run], adaptations: Mapping[str, Run]) -> dict[str, list[Run]]:
    """Runs by policy's label: searches, then runs that move weights."""
    found = {label: [run] for label, run in searches.items()}
    for label, runs in grouped(adaptations).items():
        found.setdefault(label, []).extend(runs.values())
    return found


def basis(found: Mapping[str, list[Run]], names: Mapping[str, str]) -> pd.DataFrame:
    """One row per policy; ``names``: its letter in the table of claims (``verdicts.letters``). Columns below."""
    rows = []
    for label, runs in found.items():
        samples = pd.concat([run.samples[["task", "seed", "step"]] for run in runs])
        groups = pd.concat([run.samples.groupby(["task", "seed", "step"]).size() for run in runs])
        size = str(runs[0].manifest["parameters"]["size"])
        rows.append(
            {
                "letter": names.get(label),
                "label": label,
                "tasks": samples["task"].nunique(),
                "seeds": samples["seed"].nunique(),
                "steps": int(samples["step"].max()),
                "k": int(groups.max()),
                "rollouts": len(samples),
                "shapes": SHAPES.get(size, size),
                "machine": machine_text(runs[0]),
            }
        )
    return pd.DataFrame(rows)


BASIS_COLUMNS = {
    "letter": Column(""),
    "label": Column("policy, scaffold, temperature, device"),
    "tasks": Column("tasks", "d"),
    "seeds": Column("seeds", "d"),
    "steps": Column("updates", "d"),
    "k": Column("K", "d"),
    "rollouts": Column("rollouts", ",d"),
    "shapes": Column("shapes"),
    "machine": Column("machine"),
}


def reach(found: Mapping[str, list[Run]]) -> dict[str, Any]:
    """tasks (numbers seen), evaluation (of the evaluation split), all (of level 1), levels, scaffolds, policies."""
    runs = [run for several in found.values() for run in several]
    tasks = {task for run in runs for task in run.samples["task"].unique()}
    numbers = {int(task.removeprefix(LEVEL_1)) for task in tasks if task.startswith(LEVEL_1)}
    split = set(named_selections()["l1_seed42_eval"])
    scaffolds = set()
    for run in runs:
        parameters = run.manifest["parameters"]
        scaffolds |= {parameters["scaffold"]} if parameters.get("scaffold") else set(parameters["scaffolds"])
    return {
        "tasks": len(tasks),
        "evaluation": len(numbers & split),
        "split": len(split),
        "elsewhere": len(tasks) - len(numbers),
        "scaffolds": sorted(scaffolds),
        "policies": sorted({study.policy(run).removesuffix(", adapted") for run in runs}),
        "gpu": sum("gpu" in run.manifest["machine"] for run in runs),
        "runs": len(runs),
        "full": sum(run.manifest["parameters"]["size"] == "kernelbench" for run in runs),
    }


# -- what they could have found ----------------------------------------------------------------------------------


def widths(entries: Entries) -> pd.DataFrame:
    """Per main claim that an effect decides, of the policy with most power: what its design can see.

    Columns claim, size (published effect), half (half-width of the wider of bootstrap and t-interval), tasks, power,
    needed (tasks for a power of 80% with the spread found here).
    """
    rows = []
    for entry in entries.values():
        known = [found for found in entry.findings.values() if found.effect is not None and found.effect.n]
        if not entry.claim.main or not known:
            continue
        found = max(known, key=lambda each: each.power)
        effect = found.effect
        assert effect is not None
        half = (effect.high - effect.low) / 2
        needed = effect.needed(found.size)
        if needed is None and effect.n > 1:
            needed = math.inf
        rows.append((entry.claim.title, abs(found.size), half, effect.n, found.power, needed))
    return pd.DataFrame(rows, columns=["claim", "size", "half", "tasks", "power", "needed"])


def _needed(value: float) -> str:
    return "over 1,000" if math.isinf(value) else number(value, ",.0f")


WIDTH_COLUMNS = {
    "claim": Column("claim"),
    "size": Column("published effect", ".2f"),
    "half": Column("half-width here", ".2f"),
    "tasks": Column("tasks", "d"),
    "power": Column("power", ".0%"),
    "needed": Column("tasks for 80%", _needed),
}


def paper_power() -> pd.DataFrame:
    """What the paper's designs could find of their own effects, by the same test: what, size, design, power, needed.

    The spread is the least that such a difference of success brings (`least_spread`), groups of a task independent: a
    bound in the paper's favour.
    """
    strategies = published.table("5.3")["fast_1"].astype(float)
    surprise = float(strategies["surprisal-guided"] - strategies["confidence-guided"])
    search = float(published.value("4.4/1/best_of_n_fast_1")) - float(
        published.value("headline/ttt-best-3-seeds/value")
    )
    transfer = published.table("5.5-transfer").astype(float)
    loss = float((transfer["base"] - transfer["fast_1"])["s1-s2"])
    feedback = float(published.value("E.1/sdpo-prompt-only/mean")) - float(published.value("E.1/sdpo-feedback/mean"))
    tasks = int(float(published.table("A").at["ttt.tasks_per_step", "value"]))
    seeds = [int(float(published.value(f"headline/seeds-{name}/value"))) for name in ("best-of-n", "ttt")]
    designs = [
        ("surprisal over confidence", surprise, seeds[0]),
        ("search over adaptation, per sample", search, seeds[1]),
        ("loss by transfer", loss, 1),
        ("prompt-only over feedback", feedback, seeds[1]),
    ]
    rows = []
    for what, size, groups in designs:
        spread = least_spread(size, groups)
        rows.append((what, size, f"{tasks} × {groups}", mean_power(size, spread, tasks), tasks_needed(size, spread)))
    return pd.DataFrame(rows, columns=["what", "size", "design", "power", "needed"])


PAPER_COLUMNS = {
    "what": Column("published effect"),
    "size": Column("size", ".2f"),
    "design": Column("tasks × seeds"),
    "power": Column("power at most", ".0%"),
    "needed": Column("tasks for 80%", _needed),
}


# -- what was never run ------------------------------------------------------------------------------------------

MEANS = {
    "best_of_n_study": "Best-of-N, trained policy",
    "best_of_n_base": "Best-of-N, policy as it comes",
    "best_of_n_embedded": "Best-of-N, 135M policy",
    "adaptation": "batch adaptation",
    "adaptation_warm": "the same, temperature 1",
    "adaptation_embedded": "the same, 135M policy",
    "learning_rates": "learning rates",
    "isolated": "single tasks",
    "beyond": "other objectives and rewards",
    "sdpo_feedback": "self-distillation with feedback",
    "sdpo_prompt_only": "self-distillation, prompt only",
    "warm_start": "warm start",
    "rlvr": "GRPO on the training tasks",
    "transfer": "transfer between subsets",
    "probe": "probe of fixed samples",
}
"""Sections of the study's parameters in words; others are shown by their own name."""

_SETTINGS = ("recorded", "best_of_n")
"""Sections that are no family: the list of what is there, and what ``best_of_n_study`` varies."""


def planned(params: str = study.STUDY) -> pd.DataFrame:
    """The study's families of runs: columns section, what, planned, recorded, missing (names), folders.

    A section of ``params`` is a family: the runs under its ``vary``, or one run of its own name. ``recorded``: those
    that the file's ``recorded`` section lists, under whatever section, and whose folder is there.
    """
    values = read_yaml(params)
    listed = {name: _names(found) for name, found in (values.get("recorded") or {}).items() if name not in _SETTINGS}
    there = {
        name for names in listed.values() for name in names if (recorded_folder() / name / "manifest.json").is_file()
    }
    sections = [name for name, found in values.items() if isinstance(found, dict) and name not in _SETTINGS]
    rows = []
    for section in dict.fromkeys([*sections, *listed]):
        # A family without variants has one run, which is recorded under a name of its own.
        names = list((values.get(section) or {}).get("vary") or {}) or listed.get(section) or [section]
        missing = [name for name in names if name not in there]
        rows.append((section, MEANS.get(section, section), len(names), len(names) - len(missing), missing))
    return pd.DataFrame(rows, columns=["section", "what", "planned", "recorded", "missing"])


def _names(found: Any) -> list[str]:
    return [found] if isinstance(found, str) else list(found or [])


def runs_table(found: pd.DataFrame) -> pd.DataFrame:
    """`planned` as shown: the missing runs by name, at most two of them."""
    return found.assign(missing=[_shorten(names) for names in found["missing"]])


def _shorten(names: list[str], most: int = 2) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"


RUN_COLUMNS = {
    "what": Column("runs"),
    "planned": Column("planned", "d"),
    "recorded": Column("recorded", "d"),
    "missing": Column("not recorded"),
}
