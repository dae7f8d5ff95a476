"""The sentences of chapter 7 that depend on the data: how far the numbers reach, and what the evaluator cannot see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vegtts_core.book import measurement as m
from vegtts_core.book import measurement_aa as aa
from vegtts_core.book import measurement_attempts as attempts
from vegtts_core.book.adapting_words import plural
from vegtts_core.book.prose import listed, number
from vegtts_core.book.tables import Column


def reach_text(found: Mapping[str, Any]) -> str:
    """Tasks, policies, scaffolds and machines, in three sentences; ``found``: ``limiting.reach``."""
    tasks = f"{plural(found['tasks'], 'task')}, {found['evaluation']} of the {found['split']} of the evaluation split"
    levels = "all of level 1" if not found["elsewhere"] else f"{found['elsewhere']} of them outside level 1"
    policies = listed(found["policies"])
    machines = f"{found['gpu']} of {plural(found['runs'], 'run')} on a GPU, {found['full']} at KernelBench's own shapes"
    scaffolds = listed(found["scaffolds"])
    return f"{tasks}, {levels}. Policies: {policies}; scaffolds: {scaffolds}. {machines[0].upper()}{machines[1:]}."


def reach_verdict(found: Mapping[str, Any]) -> str:
    """What that leaves open."""
    gaps = []
    if found["evaluation"] < found["split"]:
        gaps.append(f"{found['split'] - found['evaluation']} evaluation tasks")
    if not found["elsewhere"]:
        gaps.append("levels 2 and 3")
    if not found["gpu"]:
        gaps.append("real GPU kernels")
    elif found["gpu"] < found["runs"]:
        gaps.append("the runs on a CPU repeated on a GPU")
    gaps.append("policies near the paper's size")
    return f"Still untested: {listed(gaps)}. No sentence of this book speaks of them."


def widths_verdict(table: pd.DataFrame) -> str:
    """How many of the tests have a power worth the name, and how many tasks would."""
    if table.empty:
        return "No main claim is decided by an effect here."
    strong = int((table["power"] >= 0.8).sum())
    needed = table["needed"].dropna()
    text = f"{strong} of {plural(len(table), 'test')} would find the published effect four times in five."
    if len(needed):
        least, most = ("over 1,000" if math.isinf(end) else f"{int(end):,}" for end in (needed.min(), needed.max()))
        span = least if least == most else f"{least} to {most}"
        text += f" With the spread found here, that takes {span} tasks, depending on the claim."
    return text


def runs_text(found: pd.DataFrame) -> str:
    """``3 of 40 planned runs of the study are recorded.``"""
    return f"{int(found['recorded'].sum())} of {int(found['planned'].sum())} planned runs of the study are recorded."


def runs_verdict(found: pd.DataFrame) -> str:
    """Which families have none."""
    empty = found[found["recorded"] == 0]
    if empty.empty:
        return "Every family has at least one recorded run."
    if len(empty) == len(found):
        return "None of its families has a recorded run: everything measured here comes from the small policy."
    return f"No run yet of: {listed(list(empty['what']))}."


def calibrated(found: Sequence[aa.Calibration]) -> str:
    """How often identical code was called faster, under either protocol."""
    parts = [f"{name} protocol {aa.everywhere(found, name)}" for name in ("published", "sound")]
    return f"Identical code is called faster: {'; '.join(parts)}."


def noise_verdict(found: Sequence[aa.Calibration]) -> str:
    """What that means for a reader of small effects."""
    return f"{aa.power_sentence(aa.power(found))}. Speedups below that are mostly called undecided, not slower."


def evaluator(found: Sequence[aa.Calibration], reports: Sequence[m.Recording]) -> pd.DataFrame:
    """The evaluator's known limits: columns limit, evidence, home; every figure from the recordings of chapter 9."""
    rows = [
        ("It misses small gains", aa.power_sentence(aa.power(found)), "sec-measurement-power"),
        ("It errs, rarely", f"identical code called faster {aa.everywhere(found, 'sound')}", "sec-measurement-aa"),
        ("It leans", aa.asymmetry(found), "sec-measurement-aa"),
    ]
    if reports:
        told, frame = attempts.counts(reports), attempts.entries(reports)
        tried = frame[frame["outcome"] != attempts.ELSEWHERE]
        untried = frame.groupby("row")["outcome"].agg(lambda outcomes: (outcomes == attempts.ELSEWHERE).all())
        rows += [
            (
                "A catalogue is finite",
                f"{told['earned']} of {told['attempts']} attempts earned a reward; another way is not among them",
                "sec-measurement-exploits",
            ),
            (
                "Not every row is a candidate",
                f"{int(untried.sum())} of {len(untried)} rows are covered by tests and figures alone",
                "sec-measurement-exploits",
            ),
            (
                "Attempts are ours",
                f"{tried['scaffold'].nunique()} scaffolds on {tried['device'].nunique()} kinds of device; "
                "no adversary was trained against it",
                "sec-measurement-exploits",
            ),
        ]
    frame = pd.DataFrame(rows, columns=["limit", "evidence", "home"])
    return frame.assign(home=[f"{{ref}}`9 <{name}>`" for name in frame["home"]])


EVALUATOR_COLUMNS = {"limit": Column("limit"), "evidence": Column("evidence"), "home": Column("in full")}


def paper_text(table: pd.DataFrame) -> str:
    """Powers of the paper's designs for its own effects."""
    parts = [f"{row['what']} {number(row['power'], '.0%')}" for row in table.to_dict("records")]
    return f"Power at most: {'; '.join(parts)}."
