"""The sentences of chapter 5.5 that depend on the data: what a transfer or a control allows to say."""

from __future__ import annotations

from math import isnan

import pandas as pd

from vegtts_core.book import published
from vegtts_core.book.adapting import machine_text, policy_text, smaller
from vegtts_core.book.probing import scientific
from vegtts_core.book.prose import listed, number
from vegtts_core.book.selecting_words import Finding, few_tasks, finding, points
from vegtts_core.book.transferring import Direction, one_policy, own_gain, shares, shown_name


def facts(found: list[Direction]) -> dict[str, str]:
    """What was judged, and the paper's numbers that the chapter mentions, by name."""
    one, paper = found[0], published.table("5.5-transfer")
    base, search, p = one_policy()
    samples = one.judged.samples
    return {
        "policy": policy_text(one.adaptation),
        "machine": machine_text(one.judged),
        "protocol": one.protocol,
        "directions": listed([shown_name(each.name) for each in found]),
        "missing": missing(found),
        "adapted-on": listed([str(i) for i in sorted(one.adaptation.samples["task_id"].unique())]),
        "judged-on": listed([str(i) for i in sorted(samples["task_id"].unique())]),
        "k": str(int(one.samples("base").groupby("task").size().max())),
        "control-k": str(int(one.samples("best_of_n").groupby("task").size().max()) if has_control(one) else 0),
        "rollouts": f"{len(samples):,}",
        "steps": judged_steps(one),
        "smaller": smaller(one.adaptation),
        "updates": str(int(one.adaptation.samples["step"].max())),
        "paper-s1-s2": printed(float(paper.at["s1-s2", "fast_1"])),
        "paper-s2-s1": printed(float(paper.at["s2-s1", "fast_1"])),
        "paper-base-2": number(base, ".1%"),
        "paper-search-2": number(search, ".1%"),
        "paper-base-1": number(float(paper.at["s2-s1", "base"]), ".1%"),
        "paper-p": scientific(p),
    }


def judged_steps(found: Direction) -> str:
    """Which checkpoints were judged: ``2 (the best on its own tasks) and 5 (the last)``."""
    steps = found.steps
    if not steps:
        return "none but the base, which is the best on its own tasks and the last"
    names = {"best": "the best on its own tasks", "last": "the last"}
    if "last" not in steps:
        return f"{steps['best']} (the best on its own tasks, and the last)"
    text = listed([f"{step} ({names[name]})" for name, step in steps.items()])
    return text if "best" in steps else f"{text}, the base itself being the best on its own tasks"


def printed(share: float) -> str:
    """A share with the digits that the paper gives it."""
    return f"{100 * share:.4g}%"


def has_control(found: Direction) -> bool:
    """Whether Best-of-N was sampled there."""
    return len(found.samples("best_of_n")) > 0


def missing(found: list[Direction]) -> str:
    """Which published direction was not run, as a sentence; empty if none."""
    names = [name for name in published.table("5.5-transfer").index if name not in {each.name for each in found}]
    if not names:
        return ""
    return f"Not run here: {listed([shown_name(str(name)) for name in names])}."


def share_text(found: Direction) -> str:
    """``Subset 1 → subset 2: base 10% [..], ...``."""
    parts = [f"{row['label']} {number(row['share'], '.1%')}" for row in shares(found).to_dict("records")]
    return f"{shown_name(found.name).capitalize()}: {'; '.join(parts)}."


def here_text(differences: pd.DataFrame) -> str:
    """The differences between adapted checkpoints and the base, all directions."""
    rows = differences[(differences["condition"] != "control") & (differences["second"] == "base")]
    if not len(rows):
        return "No adapted checkpoint was judged: the best step is the base itself."
    parts = [f"{row['direction']}, {row['pair']}: {points(row['difference'])}" for row in rows.to_dict("records")]
    return f"{'; '.join(parts)}."


def transfer_verdict(found: list[Direction], differences: pd.DataFrame) -> str:
    """Whether adapted checkpoints are worse than the base on other tasks."""
    rows = differences[(differences["condition"] != "control") & (differences["second"] == "base")]
    if not len(rows):
        return "Nothing to judge."
    said = {row["pair"] + row["direction"]: finding(row["difference"]) for row in rows.to_dict("records")}
    states = set(said.values())
    tasks = int(rows["difference"].iloc[0].n)
    if all((shares(each)["share"].map(lambda share: share.estimate) == 0).all() for each in found):
        return "Nothing that any of these policies wrote is fast there, the base's included: nothing could be lost."
    if states == {Finding.LESS}:
        text = "Every adapted checkpoint is below the base on the other tasks: degradation, as published."
    elif states == {Finding.MORE}:
        text = "Every adapted checkpoint is above the base on the other tasks: what was learned transfers."
    elif states == {Finding.EQUAL}:
        text = "Adapted checkpoints and base are fast equally often in every task: no difference to explain."
    elif states <= {Finding.OPEN, Finding.UNKNOWN, Finding.EQUAL}:
        text = "Not decided: the intervals over tasks include 0."
    else:
        text = f"It depends on the checkpoint: {listed(sorted({_WORDS[state] for state in states}))}."
    return text + ("" if states == {Finding.EQUAL} else few_tasks(tasks))


_WORDS = {
    Finding.LESS: "one is below the base",
    Finding.MORE: "one is above the base",
    Finding.EQUAL: "one equals the base",
    Finding.OPEN: "one cannot be told from the base",
    Finding.UNKNOWN: "one has no interval",
}


def moved_text(differences: pd.DataFrame) -> str:
    """How many rollouts differ from the base's at all, with the same random numbers."""
    rows = differences[differences["moved"].notna()]
    if not len(rows):
        return "No adapted checkpoint was judged."
    parts = [f"{row['pair'].split(' minus ')[0]}: {number(row['moved'], '.0%')}" for row in rows.to_dict("records")]
    return (
        f"With the same random numbers as the base, so many rollouts on the other tasks are another completion: "
        f"{'; '.join(parts)}. Only they can make a difference."
    )


def control_text(differences: pd.DataFrame) -> str:
    """Best-of-N minus base, the same policy twice."""
    rows = differences[differences["condition"] == "control"]
    if not len(rows):
        return "The control was not sampled."
    return "; ".join(f"{row['direction']}: {points(row['difference'])}" for row in rows.to_dict("records")) + "."


def control_verdict(differences: pd.DataFrame) -> str:
    """Whether one policy, sampled twice, gave one number."""
    rows = differences[differences["condition"] == "control"]
    if not len(rows):
        return "Nothing to compare."
    states = {finding(row["difference"]) for row in rows.to_dict("records")}
    if states & {Finding.LESS, Finding.MORE}:
        return (
            "Here too the same policy differs from itself beyond its interval, which a bootstrap over so few tasks "
            "does more often than it says."
        )
    if states == {Finding.UNKNOWN}:
        return "One task allows no interval."
    return "Here the same policy agrees with itself within its interval, as it must."


def own_text(found: list[Direction]) -> str:
    """What the best step gains on the tasks that chose it: as scored, and held out."""
    parts = []
    for each in found:
        row = own_gain(each)
        base = each.adaptation.samples[each.adaptation.samples["step"] == 0]
        if isnan(row["held_out"]) or not len(base):
            parts.append("one rollout per task cannot be split")
            continue
        parts.append(
            f"{shown_name(each.name).split(' → ')[0]}: step {int(row['step'])} scored {number(row['naive'], '.1%')}; "
            f"chosen by one half of the rollouts and read on the other, the gain over step 0 is "
            f"{number(100 * row['gain'], '+.1f')} points"
        )
    return f"{'; '.join(parts)}."


def own_verdict(found: list[Direction], differences: pd.DataFrame) -> str:
    """Gain on the own tasks (held out) against that on the other tasks."""
    rows = differences[(differences["condition"] == "best") & (differences["second"] == "base")]
    if not len(rows):
        return "The best step on its own tasks is the base: nothing was selected that could transfer."
    texts = []
    for each, row in zip(found, rows.to_dict("records"), strict=False):
        own, other = float(own_gain(each)["gain"]), row["difference"]
        texts.append(
            f"{shown_name(each.name)}: {number(100 * own, '+.1f')} points on its own tasks (held out), "
            f"{points(other)} on the others"
        )
    return f"{'; '.join(texts)}. Only the second was chosen by nobody."
