"""The study's probe in chapter 5.3b: the fixed samples of the tasks that were adapted to and of the others apart.

It cuts the probe by task and hands the parts to ``probing``; sentences use ``probing_words``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import altair as alt
import pandas as pd

from vegtts_core.book import probing
from vegtts_core.book.measurement import NOTHING, empty_chart, or_nothing
from vegtts_core.book.probing import ANALYSES, READINGS, Material
from vegtts_core.book.probing_charts import paper_points, rho_panel
from vegtts_core.book.probing_words import ALPHA, Finding, change_text, facts, moved
from vegtts_core.book.runs import honest_run
from vegtts_core.book.study import card, policy, studied
from vegtts_core.book.tables import Column
from vegtts_core.metrics import Quarter
from vegtts_core.project import recorded_folder
from vegtts_core.training.probe import load_probe

ADAPTED, OTHERS, ALL = "tasks adapted to", "other tasks", "all tasks"
FIRST, SECOND = tuple(READINGS)
ROWS = ((FIRST, Quarter.ALL), (SECOND, Quarter.ALL), (SECOND, Quarter.SLOWEST))
"""What the figure shows, a row of panels each; the table has the most surprising quarter too."""

RESAMPLES = 400

FEWEST_TASKS = 3
"""Below so many tasks a bootstrap over them is no interval."""

NO_PROBE = "No probe of the study is recorded, so that this section has nothing to show."


def material() -> Material | None:
    """The study's probe and the run whose checkpoints scored; None if none is recorded."""
    for run in studied("probe").values():
        probe = load_probe(run.folder)
        adapted = honest_run(recorded_folder() / probe.manifest["parameters"]["origin"]["run"])
        return Material(adapted, probe, str(adapted.manifest["parameters"]["protocol"]))
    return None


def cut(found: Material, tasks: set[str]) -> Material:
    """``found`` with the fixed samples of ``tasks`` alone."""
    keep = found.probe.samples["task"].isin(tasks)
    rows = {old: new for new, old in enumerate(found.probe.samples.index[keep])}
    nll = found.probe.nll[found.probe.nll["row"].isin(list(rows))]
    nll = nll.assign(row=nll["row"].map(rows)).reset_index(drop=True)
    return replace(found, probe=replace(found.probe, samples=found.probe.samples[keep].reset_index(drop=True), nll=nll))


def described(found: Material | None) -> str:
    """What the probe is, in sentences without markup; or that there is none."""
    if found is None:
        return NO_PROBE
    told = facts(found, probing.seen(found))
    return (
        f"A second probe is of {policy(found.run)}: {told['samples']} samples of {told['tasks']} tasks, "
        f"{told['correct']} correct under the {told['protocol']} protocol on {device(found)}, under "
        f"{told['checkpoints']} checkpoints. They are {told['origin']}. Its run adapted to "
        f"{found.run.samples['task'].nunique()} of the tasks. {told['caution']}"
    )


def scopes(found: Material | None) -> dict[str, Material]:
    """All fixed samples, those of the tasks adapted to, and those of the other tasks (where there are any)."""
    if found is None:
        return {}
    every, adapted = set(found.probe.samples["task"]), set(found.run.samples["task"])
    parts = {ALL: every, ADAPTED: every & adapted, OTHERS: every - adapted}
    return {name: cut(found, tasks) for name, tasks in parts.items() if tasks}


def correlations(parts: Mapping[str, Material]) -> pd.DataFrame:
    """``probing.correlations`` with ``scope``; no bounds from fewer than ``FEWEST_TASKS``; empty without parts."""
    if not parts:
        return pd.DataFrame()
    found = [probing.correlations(part, resamples=RESAMPLES).assign(scope=name) for name, part in parts.items()]
    table = pd.concat(found, ignore_index=True)
    table.loc[table["tasks"] < FEWEST_TASKS, ["low", "high"]] = float("nan")
    return table


def changes(parts: Mapping[str, Material]) -> pd.DataFrame:
    """``probing.changes`` with ``scope``; empty without parts."""
    if not parts:
        return pd.DataFrame()
    found = [probing.changes(part).assign(scope=name) for name, part in parts.items()]
    return pd.concat(found, ignore_index=True)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Rows for the chapter: all samples both ways, quarters of correct ones within tasks; enough tasks only."""
    if not len(table):
        return or_nothing(pd.DataFrame(columns=list(COLUMNS)), "scope")
    whole = table["set"] == Quarter.ALL.value
    quarters = (table["reading"] == SECOND) & (table["analysis"] == ANALYSES[1])
    enough = table["change"].map(lambda interval: interval.n >= FEWEST_TASKS)
    return table[(whole | quarters) & table["before"].notna() & enough].reset_index(drop=True)


COLUMNS = {"scope": Column("tasks")} | probing.CHANGE_COLUMNS


def figure(table: pd.DataFrame) -> alt.VConcatChart | alt.Chart:
    """rho by step: a row per reading and set, a column per scope; the paper's values where the tasks are all."""
    if not len(table):
        return empty_chart()
    last, rows = max(int(table["step"].max()), int(paper_points()["step"].max())), []
    for reading, which in ROWS:
        panels = []
        for name in dict.fromkeys(table["scope"]):
            mask = (table["scope"] == name) & (table["reading"] == reading) & (table["set"] == which.value)
            paper = paper_points()
            paper = paper[(paper["set"] == which.value) & (name == ALL) & (reading == FIRST)]
            panels.append(rho_panel(table[mask], paper, last, name, not panels))
        title = f"{reading}, {which.value}" if which is not Quarter.ALL else reading
        rows.append(alt.hconcat(*panels, title=alt.Title(title, fontSize=13)).resolve_scale(y="shared"))
    return alt.vconcat(*rows)


def text(table: pd.DataFrame) -> str:
    """rho at both ends within tasks, per scope and reading."""
    if not len(table):
        return NO_PROBE
    parts = []
    for scope, rows in table[table["set"] == Quarter.ALL.value].groupby("scope", sort=False):
        within = rows[rows["analysis"] == ANALYSES[1]]
        said = "; ".join(f"{row['reading']} (n = {row['n']}), {change_text(row)}" for row in within.to_dict("records"))
        parts.append(f"{str(scope)[0].upper()}{str(scope)[1:]}, within task: {said}.")
    return " ".join(parts)


def verdict(table: pd.DataFrame) -> str:
    """Whether rho deepens within tasks, on samples of tasks that no update saw, and among correct samples."""
    if not len(table):
        return "Not tested here."
    rows = table[(table["set"] == Quarter.ALL.value) & (table["analysis"] == ANALYSES[1])].to_dict("records")
    fell = [f"{r['scope']} ({r['reading']})" for r in rows if moved(r) is Finding.LESS]
    rose = [f"{r['scope']} ({r['reading']})" for r in rows if moved(r) is Finding.MORE]
    if not fell and not rose:
        head = "Within tasks, no change of ρ has both a test and an interval that exclude 0: deepening is not shown."
    else:
        said = [f"deepens on {', '.join(fell)}"] if fell else []
        said += [f"rises on {', '.join(rose)}"] if rose else []
        head = f"Within tasks, ρ {' and '.join(said)}; elsewhere a change is not shown."
    right = [r for r in rows if r["reading"] == SECOND]
    if fell and right and not any(moved(r) is Finding.LESS for r in right):
        head += (
            " Among correct samples it deepens nowhere: where it does, it tells correct from wrong, and is not seen to "
            "tell fast from slow."
        )
    if (fell or rose) and all(r["tasks"] >= ALPHA for r in rows):
        head += f" Exchanging whole tasks, no such change within tasks has p < {ALPHA}."
    return f"{head} One run, one seed."


def device(found: Material | None) -> str:
    """What the fixed samples were timed on."""
    return NOTHING if found is None else card(found.run)
