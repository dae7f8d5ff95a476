"""The sentences of chapter 5.1 that depend on the data: what a curve, its end or a pair of rates allows to say.

Pure functions of tables and numbers, so that a chapter run on other data says what those data say. "Cannot tell" is an
answer. It computes no statistics beyond what a sentence needs.
"""

from __future__ import annotations

from math import isnan

import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book.headroom import headroom
from vegtts_core.book.prose import number
from vegtts_core.book.scaling import (
    MARK,
    PROTOCOLS,
    Views,
    bounds,
    equivalent,
    rate,
    sample_counts,
)
from vegtts_core.book.scaling_candidates import decisions, selected
from vegtts_core.book.scaling_paper import LEVELS
from vegtts_core.evaluator.repeats import noise_part
from vegtts_core.metrics import Bound
from vegtts_core.metrics.saturation import saturation
from vegtts_core.runs import Run
from vegtts_core.runs.intervals import BETWEEN
from vegtts_core.statistics import Interval, Population

_SLACK = 1e-9


def facts(run: Run, views: Views) -> dict[str, str]:
    """Facts and sentences about a run that chapter 5.1's prose holds, by name."""
    return {
        "counted": counted(views["sound"]),
        "copies": copies(run.samples),
        "population": Population.TASKS.sentence,
        "confirmed": confirmed(decisions(views)),
        "references": references_against_themselves(run.references),
        "precision": precision(run.samples, run.manifest["parameters"]["evaluator"]["sound"]["half_width"]),
        "headroom": above_headroom(selected(views, headroom(run.references))),
        "magnitude": magnitude(views),
    }


def counted(view: pd.DataFrame) -> str:
    """``5 tasks × 3 seeds × 64 samples``; the last is the smallest group's."""
    parts = [(view["task"].nunique(), "task"), (view["seed"].nunique(), "seed")]
    parts.append((max(sample_counts(view), default=0), "sample"))
    return " × ".join(plural(count, noun) for count, noun in parts)


def plural(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _own(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    return rows[rows["protocol"] == protocol].sort_values("k")


def end(rows: pd.DataFrame, protocol: str) -> float:
    """The last value of a curve of ``scaling.curves``; NaN without one."""
    own = _own(rows, protocol)
    return float(own["pass_at_k"].iloc[-1]) if len(own) else float("nan")


def search_here(rows: pd.DataFrame) -> str:
    """What the curve ends at, per protocol, with its interval over tasks."""
    parts = []
    for protocol in PROTOCOLS:
        own = _own(rows, protocol)
        if len(own):
            last = own.iloc[-1]
            mark = MARK if last["replaced"] else ""
            ends = "" if isnan(last["low"]) else f" {bounds(last['low'], last['high'])}{mark}"
            parts.append(f"{number(float(last['pass_at_k']), '.0%')}{ends} under the {protocol} protocol")
    if not parts:
        return "No samples."
    last = rows["k"].max()
    tasks, seeds = int(rows["tasks"].max()), int(rows["seeds"].max())
    return f"At K = {last}, {' and '.join(parts)} (n = {plural(tasks, 'task')}, {plural(seeds, 'seed')})."


def search_verdict(rows: pd.DataFrame) -> str:
    """Whether search solves every task, and how much of it the sound protocol confirms."""
    paper, sound = end(rows, "published"), end(rows, "sound")
    if isnan(paper) or isnan(sound):
        return "There is no curve here, so nothing can be said of it."
    if max(paper, sound) < _SLACK:
        return (
            "Nothing was found faster than its reference under either protocol: a curve at 0 says nothing of its shape."
        )
    if sound < _SLACK:
        return (
            "Every success under the published protocol is one that the sound protocol does not confirm. "
            "That search solves the tasks is not reproduced: there is nothing here that it was shown to have found."
        )
    if min(paper, sound) > 1 - _SLACK:
        return "Search solves every task of this run as well, under both protocols."
    gap = f"{abs(paper - sound) * 100:.0f} points"
    if paper - sound > _SLACK:
        more = f"{gap} of what search solves under the published protocol are not confirmed by the sound one."
    elif sound - paper > _SLACK:
        more = f"The sound protocol confirms {gap} more than the published one found."
    else:
        more = "Both protocols agree on the share."
    claim = "That search solves *every* task is not reproduced with this policy. " if sound < 1 - _SLACK else ""
    return claim + more


def saturation_here(views: Views) -> str:
    """The fewest samples that reach 95% of the curve's end, per protocol."""
    return "; ".join(f"{protocol} protocol: {_saturates(saturation(views[protocol]))}" for protocol in PROTOCOLS) + "."


def _saturates(found: Interval) -> str:
    if isnan(found.estimate):
        return "cannot be told"
    ends = " (no interval)" if isnan(found.low) else f" [{found.low:.0f}, {found.high:.0f}]"
    return f"K = {found.estimate:.0f}{ends}"


def last_doubling(view: pd.DataFrame) -> float:
    """What the second half of the samples adds: pass@n minus pass@(n/2) over tasks; NaN for fewer than 2 samples."""
    ks = sample_counts(view)
    if not ks or ks[-1] < 2:
        return float("nan")
    curve = metrics.scaling_curve(view, [ks[-1] // 2, ks[-1]], resamples=1)["pass_at_k"]
    return float(curve.iloc[-1] - curve.iloc[0])


def saturation_verdict(view: pd.DataFrame) -> str:
    """Whether more samples would pay: what the last doubling still adds under the view's protocol, and how sure."""
    found, gain = saturation(view), last_doubling(view)
    if isnan(gain):
        return "One sample per task has no curve: saturation cannot be told."
    if isnan(found.estimate):
        return "Nothing is fast under the sound protocol, so there is nothing to saturate."
    n = max(sample_counts(view))
    points = number(100 * gain, ".1f")
    adds = f"Here the second half of the samples, K = {n // 2} to {n}, adds {points} points under the sound protocol. "
    if gain < 0.01:
        last = metrics.task_fast_p(view) > 1 - _SLACK
        what = "with every task solved" if last else "so more would pay only where none has been fast so far"
        adds += f"The curve is flat at its end, {what}. "
    else:
        adds += "The curve is still rising where it ends: how many samples suffice cannot be told from it. "
    if not isnan(found.low) and found.high >= 4 * found.low:
        adds += f"Other tasks like these could need anything from {found.low:.0f} to {found.high:.0f} samples."
    elif isnan(found.low):
        adds += "For other tasks nothing can be told."
    return adds.strip()


def draw_here(views: Views) -> str:
    """The per-sample and the per-task rate under each protocol."""
    parts = []
    for protocol in PROTOCOLS:
        view = views[protocol]
        found = rate(view)
        ends = "" if isnan(found.low) else f" {bounds(found.low, found.high)}"
        tasks = number(metrics.task_fast_p(view), ".0%")
        parts.append(f"{number(found.estimate, '.1%')}{ends} of samples, {tasks} of tasks ({protocol})")
    return "; ".join(parts) + "."


def equivalent_here(views: Views) -> str:
    """Where TTT's published rate per sample would lie on this run's curves, per protocol."""
    parts = []
    for protocol in PROTOCOLS:
        ks = sample_counts(views[protocol])
        found = metrics.equivalent_k_interval(views[protocol], LEVELS["ttt"], ks)
        sign = "= " if found.bound is Bound.WITHIN else ""
        parts.append(f"K {sign}{equivalent(found, max(ks, default=0))} ({protocol})")
    share = number(LEVELS["ttt"], ".1%")
    return f"On this run's curves, of another policy, {share} of tasks lies at {' and '.join(parts)}."


def interval_here(views: Views, rows: pd.DataFrame) -> str:
    """Both kinds of interval at K = 1 under the sound protocol."""
    own = _own(rows, "sound")
    resampled = metrics.subset_resampling(views["sound"], [1])
    if not len(own) or not len(resampled):
        return "No samples."
    first = own.iloc[0]
    mark = MARK if first["replaced"] else ""
    one = bounds(float(resampled["low"].iloc[0]), float(resampled["high"].iloc[0]))
    mean = "none (one task)" if isnan(first["low"]) else bounds(first["low"], first["high"]) + mark
    return f"At K = 1 under the sound protocol: one draw {one}; the mean over other tasks {mean}."


def spread_here(rows: pd.DataFrame) -> str:
    """The standard deviation over seeds of the per-sample rate, per protocol."""
    parts = []
    for protocol in PROTOCOLS:
        own = _own(rows, protocol)
        value = float(own["std"].iloc[0]) if len(own) else float("nan")
        parts.append("cannot be told" if isnan(value) else number(value, ".1%"))
    seeds = int(rows["seeds"].max()) if len(rows) else 0
    if "cannot be told" in parts:
        return f"With {plural(seeds, 'seed')}, a standard deviation over seeds cannot be told."
    return f"{parts[0]} (published protocol) and {parts[1]} (sound) over {plural(seeds, 'seed')}, at K = 1."


def confirmed(table: pd.DataFrame) -> str:
    """What becomes of the samples that are fast under the published protocol (``scaling_candidates.decisions``)."""
    fast = table.set_index("outcome").loc["fast"]
    total = int(fast["all"])
    if total == 0:
        return "No sample of this run is fast under the published protocol, so there is nothing to confirm."
    held = int(fast["faster"])
    words = [f"{int(fast[name])} {name}" for name in ("same", "undecided", "slower", "not correct") if fast[name]]
    others = f" The others: {', '.join(words)}." if words else ""
    share = number(held / total, ".0%")
    return (
        f"Of {plural(total, 'sample')} that {'is' if total == 1 else 'are'} fast under the published protocol, "
        f"the sound one finds {held} faster ({share}).{others}"
    )


def references_against_themselves(references: pd.DataFrame) -> str:
    """How many references count as faster than themselves (A/A) under each protocol."""
    paper = pd.to_numeric(references["published_speedup"], errors="coerce")
    sound = references["sound_decision"]
    if not paper.notna().any():
        return "The run has not timed its references against themselves."
    fast, timed = int((paper > 1).sum()), int(paper.notna().sum())
    faster, decided = int((sound == "faster").sum()), int(sound.notna().sum())
    return (
        f"Timed against itself, the reference counts as fast in {fast} of {plural(timed, 'task')} under the published "
        f"protocol, and in {faster} of {decided} under the sound one."
    )


def copies(samples: pd.DataFrame) -> str:
    """How many of a run's samples are different candidates, and how many of those are right."""
    correct = samples[samples["published_correct"].eq(True) | samples["sound_correct"].eq(True)]
    distinct, right = (
        len(part.dropna(subset="fingerprint").groupby(["task", "fingerprint"])) for part in (samples, correct)
    )
    if not len(correct):
        return f"Its {plural(len(samples), 'sample')} are {plural(distinct, 'distinct candidate')}; none is correct."
    return (
        f"Its {plural(len(samples), 'sample')} are {plural(distinct, 'distinct candidate')}, and its "
        f"{plural(len(correct), 'correct sample')} are {plural(right, 'distinct candidate')}."
    )


def precision(samples: pd.DataFrame, target: float) -> str:
    """How wide the sound protocol's intervals came out, against ``target``, the noise's half-width to stop at."""
    found = samples.dropna(subset=["sound_speedup_low", "sound_speedup_high"])
    found = found.drop_duplicates(["task", "fingerprint"])
    if not len(found):
        return "No candidate was timed under the sound protocol."
    ends = found[["sound_speedup_low", "sound_speedup_high"]].astype(float)
    halves = np.log(ends["sound_speedup_high"] / ends["sound_speedup_low"]) / 2
    between = found[BETWEEN].astype(float) if BETWEEN in found else 0.0
    half, noise = float(np.expm1(halves.median())), float(np.expm1(np.median(noise_part(halves, between))))
    wide = " So wide, it says that the machine was busy or unsteady while it timed." if noise > 5 * target else ""
    return (
        f"The median half-width of the sound protocol's intervals, over {plural(len(found), 'candidate')}, is "
        f"{number(half, '.0%')}, that of the noise in them {number(noise, '.0%')}; timing stops early at "
        f"{number(target, '.0%')}.{wide}"
    )


def above_headroom(table: pd.DataFrame) -> str:
    """Which selected speedups exceed what the task allows (``scaling_candidates.selected``)."""
    over = [
        f"task {row['task_id']} ({protocol})"
        for row in table.to_dict("records")
        for protocol in PROTOCOLS
        if row["headroom"] is not None and row[protocol] > row["headroom"]
    ]
    if table["headroom"].isna().all():
        return "The run has no headroom to hold them against."
    if not over:
        return "None of those selected here exceeds its task's headroom."
    return f"Above their task's headroom here, and so to be doubted: {', '.join(over)}."


def magnitude(views: Views, p: float = 1.5) -> str:
    """From fast_1 to fast_p under each protocol, per sample."""
    parts = []
    for protocol in PROTOCOLS:
        first, last = (metrics.sample_fast_p(views[protocol], level) for level in (1.0, p))
        parts.append(f"from {number(first, '.1%')} at p = 1 to {number(last, '.1%')} at p = {p:g} ({protocol})")
    if all(metrics.sample_fast_p(views[protocol]) == 0 for protocol in PROTOCOLS):
        return "Nothing is fast at any p."
    return f"The share of samples goes {' and '.join(parts)}."


def takeaway(rows: pd.DataFrame, policy: str) -> str:
    """The last sentence of the chapter's takeaway: what this run of ``policy`` adds."""
    paper, sound = end(rows, "published"), end(rows, "sound")
    if isnan(paper) or isnan(sound):
        return "This run holds no samples and adds nothing."
    ends = (
        f"{number(paper, '.0%')} of tasks under the published protocol and {number(sound, '.0%')} under the sound one"
    )
    return f"Here all samples of {policy} together solve {ends}."
