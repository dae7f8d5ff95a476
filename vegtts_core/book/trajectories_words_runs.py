"""More sentences of chapter 5.3 that depend on the data: isolated runs, learning rates, stopping, search, density.

As in ``trajectories_words``: pure functions of tables, and "cannot tell" is an answer.
"""

from __future__ import annotations

from math import isnan

import pandas as pd

from vegtts_core.book.adapting_words import plural
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.trajectories_words import LEVEL, changes, pp
from vegtts_core.statistics import Interval


def isolated_text(table: pd.DataFrame) -> str:
    """Where our isolated runs are best."""
    ours = table[table["side"] == "here"]
    if ours.empty:
        return "no isolated run"
    return "; ".join(
        f"{row['task']}: step {row['best']} of {row['last_step']} ({row['fast']} of {row['rollouts']} rollouts fast)"
        if not row["flat"]
        else f"{row['task']}: flat ({row['fast']} of {row['rollouts']})"
        for row in ours.to_dict("records")
    )


def isolated_verdict(table: pd.DataFrame) -> str:
    """In how many isolated runs the steps differ beyond chance, and whether those rise or fall."""
    ours = table[table["side"] == "here"]
    if ours.empty:
        return "Not run here."
    return f"Here {_beyond(ours, 'task')}"


def rates_text(worth: pd.DataFrame) -> str:
    """What each of our learning rates gives."""
    return "; ".join(
        f"{str(row['source']).removeprefix('rate ')}: "
        + ("flat" if row["flat"] else f"best at step {row['step']:.0f} of {row['last_step']:.0f}")
        + f" ({row['fast']:.0f} of {row['rollouts']:.0f} rollouts fast)"
        for row in worth.to_dict("records")
    )


def rates_verdict(worth: pd.DataFrame) -> str:
    """At which rates the steps differ beyond chance, and whether they fall after their peak."""
    if len(worth) < 2:
        return "One rate is no sweep."
    return f"Here {_beyond(worth, 'source')} One run each: seeds and rates cannot be told apart."


def _beyond(rows: pd.DataFrame, name: str) -> str:
    """What the trajectories of ``rows`` say whose steps differ more than equal checkpoints."""
    apart = rows[rows["equal"] < LEVEL]
    flat = int(rows["flat"].sum())
    tail = f"; {flat} of {len(rows)} never leave their first score" if flat else ""
    if apart.empty:
        least = number(float(rows["equal"].min()), ".2f")
        return f"the steps of no run differ more than equal checkpoints (least p = {least}){tail}: no peak is shown."
    parts = []
    for row in apart.to_dict("records"):
        drop, gain = float(row["held_drop"]), float(row["last"]) - float(row["base"])
        fall = "nothing is lost after the peak"
        if drop > 0:
            fall = f"the best step is {pp(drop)} over the last on the other half"
        parts.append(f"{row[name]} ends {pp(gain)} from where it began and {fall}")
    head = f"the steps of {len(apart)} of {plural(len(rows), 'run')} differ more than equal checkpoints (p < {LEVEL})"
    return f"{head}{tail}: {'; '.join(parts)}."


def control_text(table: pd.DataFrame, rollouts: int) -> str:
    """Both methods both ways at ``rollouts`` per task, from `trajectories_control.control`."""
    rows = table[(table["rollouts"] == str(rollouts)) & table["method"].str.startswith("here")].to_dict("records")
    if not rows:
        return "no two steps to compare"
    parts = []
    for row in rows:
        solved = f"{row['task']} of tasks solved" if isinstance(row["task"], str) else "tasks solved unknown"
        parts.append(f"{row['method'].removeprefix('here: ')}: {row['sample']} of rollouts fast, {solved}")
    return f"At {rollouts} rollouts per task. {'; '.join(parts)}."


def control_verdict(gap: Interval, rate: Interval) -> str:
    """At equal rollouts: tasks solved by adaptation minus search; ``rate``: change of fast_1 from step 0 to step 1."""
    if isnan(gap.estimate):
        head = "With too few seeds for a search of two steps' size, tasks solved cannot be compared at equal rollouts."
    elif isnan(gap.low):
        head = f"At two steps' rollouts adaptation solves {points(gap)} of tasks more than search."
    elif gap.low > 0:
        head = f"At two steps' rollouts adaptation solves more tasks than search by the same policy ({points(gap)})."
    elif gap.high < 0:
        head = f"At two steps' rollouts search solves more tasks than adaptation by the same policy ({points(gap)})."
    else:
        head = f"At two steps' rollouts neither is seen to solve more tasks ({points(gap)})."
    return f"{head} Per rollout, from step 0 to step 1, fast_1 {changes(rate)}."


def density_verdict(table: pd.DataFrame, varied: bool) -> str:
    """What the runs can say of the Reward Compression Principle."""
    if not varied:
        return "No family of runs here varies the density of the reward, so the principle is not tested."
    cut = int((table["step"] == table["last_step"]).sum())
    return (
        f"{plural(len(table), 'run')} of {table['run'].nunique()} kinds; in {cut} the best step is the last one, which "
        "says only that the run was too short."
    )


def stops_text(table: pd.DataFrame, patience: int) -> str:
    """Early stopping over several families, in one sentence."""
    same = int((table[f"lost_{patience}"] == 0).sum())
    return (
        f"P = {patience}: as good as the argmax in {same} of {len(table)}, "
        f"{number(100 * float(table[f'lost_{patience}'].mean()), '.1f')} points lost and "
        f"{number(float(table[f'saved_{patience}'].mean()), '.1f')} steps saved on average."
    )
