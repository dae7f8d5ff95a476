"""Appendix A's other half: what has to be chosen and the paper does not print, and the chapter's sentences.

It reads the runs that ``configuration.ran`` found, and ``params/paper.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.configuration import FAMILIES, PAPER, Ran, Values, first, papers, task_ids
from vegtts_core.book.prose import listed
from vegtts_core.book.tables import HERE, PUBLISHED, Column
from vegtts_core.project import find_project_root
from vegtts_core.training.parameters import AdaptationParameters


def _protocol(values: Values) -> str:
    return f"{values['protocol']} ({' and '.join(sorted(values['evaluator']['protocols']))} recorded)"


def _shown(values: Values) -> str:
    return f"{len(values['examples'])} worked examples" if values["examples"] else "no worked examples"


def _optimiser(values: Values) -> str:
    update = values["update"]
    return f"AdamW, beta2 {update['adam_beta2']:g}, decay {update['weight_decay']:g}"


def _advantage(values: Values) -> str:
    found = values["advantages"]
    return f"{found['scope']}, {found['scale']}"


NOT_GIVEN = "not given"

_OPEN: tuple[tuple[str, str, Callable[[Values], object]], ...] = (
    ("scaffold", "a kernel template (3.2); bodies of forward in its code", lambda p: " and ".join(p["scaffolds"])),
    ("prompt", "an optimized system prompt (4.1), not printed", _shown),
    ("LoRA scale", NOT_GIVEN, lambda p: f"alpha {p['lora']['alpha']}, every linear layer but the head"),
    ("reward at test time", "normalised in training (3.3), else not given", lambda p: p["rewards"]["measure"]),
    ("reward's baseline", "per task (3.3)", lambda p: f"median of {p['rewards']['window']} earlier speedups"),
    ("advantage", "across all rollouts (3.4); whole batch in its code", _advantage),
    ("loss", NOT_GIVEN, lambda p: p["update"]["loss"]),
    ("clipping of the ratio", NOT_GIVEN, lambda p: p["update"]["clip"] or "none"),
    ("KL penalty", NOT_GIVEN, lambda p: f"{p['update']['kl']:g}"),
    ("entropy bonus", NOT_GIVEN, lambda p: f"{p['update']['entropy']:g}"),
    ("schedule", NOT_GIVEN, lambda p: p["update"]["schedule"]),
    ("optimiser", NOT_GIVEN, _optimiser),
    ("gradient's norm", NOT_GIVEN, lambda p: f"at most {p['update']['max_grad_norm']:g}"),
    ("temperature of the loss", NOT_GIVEN, lambda p: f"{p['loss_temperature'] or p['temperature']:g}"),
    ("protocol", "KernelBench, fast mode (4.1, 7)", _protocol),
)


def left_open(runs: Sequence[Ran]) -> pd.DataFrame:
    """What has to be chosen and the paper does not print: columns what, paper, file, rlvr, adaptation."""
    rows = []
    for what, paper, read in _OPEN:
        row = {"what": what, "paper": paper, "file": str(read(papers("adaptation")))}
        rows.append(row | {family: first(runs, family, read) for family in ("rlvr", "adaptation")})
    frame = pd.DataFrame(rows)
    return frame.astype(object).where(frame.notna(), None)


OPEN_COLUMNS = {
    "what": Column("choice"),
    "paper": Column("what the paper says", group=PUBLISHED),
    "file": Column("params/paper.yaml", group=PUBLISHED),
    "rlvr": Column("RLVR", group=HERE),
    "adaptation": Column("batch TTT", group=HERE),
}


_SOURCES = {
    "recorded": "What ran here is read from the manifest of each run, not from parameters believed to be used.",
    "live": "Nothing was recorded for this edition: *here* is what live runs are asked for.",
}


def facts(runs: Sequence[Ran], lines: pd.DataFrame, source: str) -> dict[str, str]:
    """Numbers that the chapter's sentences mention."""
    there = sorted({run.family for run in runs}, key=FAMILIES.index)
    missing = [family.replace("_", " ") for family in FAMILIES if family not in there]
    return {
        "source": _SOURCES[source],
        "lines": str(len(lines)),
        "ran": str(int(lines["here"].notna().sum())),
        "same": str(int((lines["here"] == lines["published"]).sum())),
        "open": str(len(_OPEN)),
        "silent": str(sum(paper == NOT_GIVEN for _, paper, _ in _OPEN)),
        "missing": f"Not in this edition: {listed(missing)}." if missing else "Every family is in this edition.",
    } | step_costs()


def step_costs() -> dict[str, str]:
    """What a checkpoint costs in rollouts, by the paper's own count of two steps for step 1."""
    table = published.table("A")["value"]
    each = int(table["ttt.tasks_per_step"]) * int(table["ttt.k"])
    shown = max(int(step) for step in published.table("5.3-trajectory").index)
    named = max(int(match[1]) for key in published.table("5.2").index if (match := re.search(r"step-(\d+)", key)))
    budget = int(table["best_of_n.total_rollouts"])
    return {
        "shown-step": str(shown),
        "named-step": str(named),
        "budget": str(budget),
        "shown-cost": f"{(shown + 1) * each:,}",
        "named-cost": f"{(named + 1) * each:,}",
        "named-ratio": f"{(named + 1) * each / budget:.1f}",
    }


def differences(lines: pd.DataFrame) -> str:
    """What ran here otherwise than published, in one sentence."""
    rows = lines[lines["differs"].astype(bool) & lines["here"].notna()]
    if rows.empty:
        return "Nothing in appendix A was run otherwise."
    parts = [
        f"{row['group']}, {row['parameter']}: {row['here']} for {row['published']}" for row in rows.to_dict("records")
    ]
    return "; ".join(parts) + "."


def sections(*names: str) -> str:
    """Sections of ``params/paper.yaml`` as they stand there."""
    text = (find_project_root() / "params" / f"{PAPER}.yaml").read_text(encoding="utf-8")
    found = [re.search(rf"^{name}:.*\n(?:[ #].*\n)*", text, re.MULTILINE) for name in names]
    return "".join(re.sub(r"(?m)(^#.*\n)+\Z", "", match[0]) for match in found if match)


def steps_here(runs: Sequence[Ran]) -> str:
    """Steps and rollouts of the adaptation runs."""
    mine = [AdaptationParameters.model_validate(_known(run.parameters)) for run in runs if run.family == "adaptation"]
    if not mine:
        return "No adaptation run in this edition."
    one = mine[0]
    spent = (one.steps + one.judge_last) * one.k * len(task_ids(one.model_dump(mode="json")))
    return f"{one.steps} steps, {spent:,} rollouts per seed, all of them counted wherever a checkpoint is compared."


def _known(values: Values) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in AdaptationParameters.model_fields}
