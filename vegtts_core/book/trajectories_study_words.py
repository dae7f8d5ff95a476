"""The sentences of chapter 5.3's section on the study's runs; pure functions of ``trajectories_study``'s tables."""

from __future__ import annotations

import pandas as pd

from vegtts_core.book.adapting_words import plural
from vegtts_core.book.beyond_variants import widest
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.trajectories_words import LEVEL, changes
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.project import find_project_root

NARROW = 8
"""A task's correct candidates are few if there are at most K / NARROW different ones."""

CHAPTER, LABEL = "chapters/10_beyond.ipynb", "sec-beyond"


def elsewhere() -> str:
    """Where the control on shuffled rewards is reported: its chapter if the book has it, else the paper's section."""
    root = find_project_root()
    there = (root / CHAPTER).is_file() and f"({LABEL})=" in (root / CHAPTER).read_text(encoding="utf-8")
    there = there and CHAPTER.removesuffix(".ipynb") in (root / "book" / "_toc.yml").read_text(encoding="utf-8")
    return f"{{ref}}`{LABEL}`" if there else "section 6.7 of the paper"


def gains_text(table: pd.DataFrame) -> str:
    """Change of correct and of fast rollouts from step 0, run by run."""
    return (
        "; ".join(
            f"{row['source']}, step 0 to {row['step']}: correct {points(row['correct'])}, "
            f"fast_1 {points(row['fast_1'])}"
            for row in table.to_dict("records")
        )
        + f" (n = {'/'.join(str(n) for n in sorted({row.n for row in table['correct']}))} tasks each)."
    )


def peaks_verdict(worth: pd.DataFrame) -> str:
    """In how many runs equal checkpoints are excluded, and where those peak."""
    apart = worth[worth["equal"] < LEVEL]
    head = (
        f"Equal checkpoints are excluded in {len(apart)} of {plural(len(worth), 'run')} "
        f"(p < {LEVEL}; {plural(len(worth), 'chance')} to be)"
    )
    if apart.empty:
        return f"{head}: no peak is shown."
    parts = []
    for row in apart.to_dict("records"):
        place = "its last" if row["step"] == row["last_step"] else f"of {row['last_step']}"
        parts.append(
            f"{row['source']} is best at step {row['step']}, {place} ({row['fast']} of {row['rollouts']} fast)"
        )
    early = apart[apart["step"].isin((1, 2))]
    fallen = int((early["held_drop"] > 0).sum())
    end = "none rises early and falls again" if not fallen else f"{fallen} of them rise to step 1 or 2 and fall again"
    return f"{head}: {'; '.join(parts)}; {end}."


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `trajectories_study.ends` that are usually correct with few candidates, at their narrowest."""
    return table[table["fewest"] <= table["k"] / NARROW]


def collapse_verdict(table: pd.DataFrame) -> str:
    """Where a task's correct rollouts became copies of a few candidates, and whether those are fast."""
    found = narrow(table)
    if found.empty:
        return f"On no task do correct rollouts narrow to K/{NARROW} distinct candidates or fewer."
    least, most = (int(found["fewest"].agg(how)) for how in ("min", "max"))
    slow = found[(found["fast"] == 0) & (found["speedup"] < 1 - EvaluatorSettings().sound.minimum_effect)]
    size = f"{least}" if least == most else f"{least} to {most}"
    text = (
        f"In {len(found)} of {len(table)} pairs of run and task, correct rollouts narrow to {size} distinct candidates "
        f"at some step"
    )
    if slow.empty:
        return f"{text}; none of these ends slower than the reference with no fast rollout."
    low, high = (number(float(slow["speedup"].agg(how)), ".2f") for how in ("min", "max"))
    return (
        f"{text}; {len(slow)} of these end without a fast rollout and with a median speedup well below 1, "
        f"{low if low == high else f'{low}× to {high}'}×: a collapse onto correct but slow kernels."
    )


def noise_text(learning: pd.DataFrame) -> str:
    """What the control on shuffled rewards says of the gain in correctness, from ``beyond_variants.learning``."""
    found = learning[learning["measure"] == "correct"]
    if found.empty:
        return "No control on shuffled rewards is recorded for these settings."
    parts = []
    for row in found.to_dict("records"):
        real, shuffled, gap = (widest(row[name]) for name in ("real", "shuffled", "gap"))
        said = {1: "beyond it", -1: "below it", 0: "not beyond it"}[row["gap"].sign]
        parts.append(
            f"With rewards permuted over the batch, which hold no information, correctness {changes(shuffled)} "
            f"by step {row['step']}; with its own rewards {points(real)}, which is {said} (difference "
            f"{points(gap)}, {gap.n} tasks, {plural(row['seeds'], 'seed')})"
        )
    end = "Only what lies beyond the control can be learning from reward"
    if not any(effect.sign > 0 for effect in found["gap"]):
        end = "A gain in correctness here is thus no proof of learning from reward"
    return f"{'. '.join(parts)}. {end} ({elsewhere()})."
