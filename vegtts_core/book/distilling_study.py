"""Appendix E on the study's runs: one update by each teacher at the published settings, and by rewards beside them.

It picks the runs and cuts them to the steps that all have; tables come from ``distilling_results``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from vegtts_core.book import distilling_results as results
from vegtts_core.book import distilling_results_words as words
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.distilling_results import ADAPTATION, FEEDBACK, PROMPT_ONLY, Families
from vegtts_core.book.measurement import NOTHING, or_nothing
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import Finding, finding, points
from vegtts_core.book.study import card, policy, studied
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run

NO_RUNS = "The study has no runs of both teachers on record, so that this section has nothing to show."


def _setting(run: Run) -> tuple[object, ...]:
    parameters = run.manifest["parameters"]
    return (
        parameters["temperature"],
        parameters["update"]["learning_rate"],
        parameters["k"],
        parameters["seed"],
        tuple(sorted(run.samples["task"].unique())),
        run.manifest["policy"].get("adapter_sha256"),
    )


def families() -> dict[str, dict[str, Run]]:
    """Both teachers' runs of the seeds that both have, and adaptation runs of their very settings, cut to their steps.

    Empty where a teacher has none.
    """
    found = {FEEDBACK: studied("sdpo_feedback"), PROMPT_ONLY: studied("sdpo_prompt_only")}
    if not all(found.values()):
        return {}
    found = results.common_seeds(found)
    wanted = {_setting(run) for run in found[FEEDBACK].values()}
    last = max(int(run.samples["step"].max()) for run in found[FEEDBACK].values())
    control = {
        name: replace(run, samples=run.samples[run.samples["step"] <= last].reset_index(drop=True))
        for name, run in studied("adaptation").items()
        if _setting(run) in wanted
    }
    return ({ADAPTATION: control} if control else {}) | found


def cards(found: Families) -> str:
    """The cards that candidates were timed on."""
    if not found:
        return NOTHING
    return " and ".join(dict.fromkeys(card(run) for runs in found.values() for run in runs.values()))


def protocols(found: Families) -> list[str]:
    """``results.protocols``; none without runs."""
    return results.protocols(found) if found else []


def described(found: Families, names: Sequence[str]) -> str:
    """What the runs are, in sentences without markup; or that there are none."""
    if not found:
        return NO_RUNS
    told, first = words.facts(found, names), next(iter(found[FEEDBACK].values()))
    rate = number(first.manifest["parameters"]["update"]["learning_rate"], ".0e")
    rewarded = ", and the first update by rewards of the same settings" if ADAPTATION in found else ""
    updates = plural(int(told["updates"]), "update")
    return (
        f"The paper's own settings, of {policy(first)} on {cards(found)}: seed {told['seeds']}, {told['tasks']} tasks "
        f"of subset 1, K = {told['k']}, temperature {told['temperature']}, learning rate {rate}, {updates} by each "
        f"teacher{rewarded}. All start as one policy; the teachers share {told['same']} of step 0's rollouts."
    )


def gaps(found: Families, names: Sequence[str]) -> pd.DataFrame:
    """``words.difference_table`` of the two teachers; one row that says so where there are no runs."""
    if not found:
        return or_nothing(pd.DataFrame(columns=list(results.DIFFERENCE_COLUMNS)), "measure")
    return words.difference_table(results.differences(found, names))


def gaps_text(found: Families, names: Sequence[str]) -> str:
    """The teachers' difference after adaptation, and what the clock alone makes of it."""
    if not found:
        return NO_RUNS
    table = results.differences(found, names)
    control = words.control_verdict(table, names, results.same_rollouts(found))
    return f"{words.lift_text(table, names)} {control}"


def changes(found: Families, names: Sequence[str]) -> pd.DataFrame:
    """Adapted steps less step 0: method, measure, n (rollouts of step 0), tasks, interval, change (text).

    Without runs one row that says so.
    """
    rows = []
    for method, runs in found.items():
        samples = results.together(runs)
        n = int((samples["step"] == 0).sum())
        for name, column in [(names[-1], "correctness"), *((name, "sample_fast_p") for name in names)]:
            interval = results.change(runs, name, column)
            label = "correct" if column == "correctness" else f"fast_1, {name}"
            rows.append((method, label, n, interval.n, interval, points(interval)))
    table = pd.DataFrame(rows, columns=["method", "measure", "n", "tasks", "interval", "change"])
    return or_nothing(table, "method")


CHANGE_COLUMNS = {
    "method": Column("method"),
    "measure": Column("measure"),
    "n": Column("rollouts per step", "d"),
    "tasks": Column("tasks", "d"),
    "change": Column("step 1 − step 0 [95%]"),
}


def verdict(table: pd.DataFrame) -> str:
    """Which methods' first update moved anything beyond its interval."""
    if not table["interval"].notna().any():
        return "Not tested here."
    moved, still = [], []
    for method, rows in table.groupby("method", sort=False):
        states = [(row["measure"], finding(row["interval"])) for row in rows.to_dict("records")]
        said = [
            f"{m} {'rose' if s is Finding.MORE else 'fell'}" for m, s in states if s in (Finding.MORE, Finding.LESS)
        ]
        (moved.append(f"{method}: {', '.join(said)}") if said else still.append(str(method)))
    text = f"Beyond their intervals: {'; '.join(moved)}. " if moved else ""
    if still:
        text += f"One update by {' or by '.join(still)} moved no measure beyond its interval. "
    return text + "One seed: the intervals speak of other tasks and rollouts, not of other runs."
