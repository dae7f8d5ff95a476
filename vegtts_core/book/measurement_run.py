"""What the protocol does to a Best-of-N run: wins that survive, wins that repeat, and how near the floor they come.

It reads a run's samples and references. A *candidate* here is a distinct one of a task: equal candidates are evaluated
once in a run, whatever their seed, so their copies are no further measurements. The *first* evaluation is the one that
strategies choose by, the *second* was made afterwards, on fresh data, in new processes.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published, theme
from vegtts_core.book.charts import Axis
from vegtts_core.book.headroom import headroom, headroom_h100
from vegtts_core.book.measurement import empty_chart, of
from vegtts_core.book.prose import number
from vegtts_core.book.scaling import with_width
from vegtts_core.book.tables import Column
from vegtts_core.statistics import Interval, mean_interval, wilson, within_task_spearman
from vegtts_core.statistics.correlation import Correlation

PROTOCOLS = ("published", "sound")

NAN = float("nan")


def candidates(samples: pd.DataFrame) -> pd.DataFrame:
    """One row per distinct candidate of a task, with what both evaluations say of it.

    Columns: task, task_id, and per protocol ``<protocol>.first`` (None: not correct; else whether it is called faster),
    ``<protocol>.second`` (the same of the second evaluation; None where there was none), ``<protocol>.speedup`` and
    ``<protocol>.again`` (NaN where not correct or not measured), and ``sound.decision``.
    """
    once = samples[samples["fingerprint"].notna()].drop_duplicates(["task", "fingerprint"]).reset_index(drop=True)
    frame = once[["task", "task_id"]].copy()
    retimed = once["retimed_correct"] if "retimed_correct" in once else pd.Series(None, index=once.index, dtype=object)
    measured = retimed.notna().to_numpy()
    right = retimed.eq(True).fillna(False).to_numpy(dtype=bool)
    for protocol in PROTOCOLS:
        view = metrics.under(once, protocol)
        correct = view["correct"].to_numpy(dtype=bool)
        known = view["speedup"].notna().to_numpy()
        frame[f"{protocol}.first"] = _called(view["fast_limit"] > 1, correct & known)
        frame[f"{protocol}.second"] = _called(view["fresh_limit"] > 1, correct & known & measured)
        frame[f"{protocol}.speedup"] = view["speedup"]
        frame[f"{protocol}.again"] = view["fresh_speedup"].where(measured & right)
        if protocol == "sound":
            frame["sound.decision"] = view["decision"].where(correct, "wrong").fillna("undecided")
    return frame


def _called(faster: pd.Series, known: np.ndarray) -> list[bool | None]:
    return [bool(value) if there else None for value, there in zip(faster, known, strict=True)]


def _is(column: pd.Series, wanted: bool) -> np.ndarray:
    return np.array([value is not None and value == wanted for value in column.astype(object)], dtype=bool)


# -- published against sound -------------------------------------------------------------------------------------

_OUTCOMES = ("faster", "undecided", "same", "slower", "wrong")


def survivors(samples: pd.DataFrame) -> pd.DataFrame:
    """Per task and in all: per-sample fast_1 under both protocols, and what became of the published wins under sound.

    Columns: task, published, sound (shares of samples), wins (distinct candidates that the published protocol
    calls faster) and one count of them per sound decision (``wrong``: not correct under it).
    """
    views = {protocol: metrics.under(samples, protocol) for protocol in PROTOCOLS}
    found, rows = candidates(samples), []
    tasks = samples[["task_id", "task"]].drop_duplicates().sort_values("task_id")
    for task_id, task in [*tasks.itertuples(index=False), (None, None)]:
        own = found[found["task"] == task] if task is not None else found
        wins = own[_is(own["published.first"], True)]
        row: dict[str, object] = {"task": f"task {task_id}" if task is not None else "all"}
        for protocol, view in views.items():
            part = view[view["task"] == task] if task is not None else view
            row[protocol] = metrics.sample_fast_p(part)
        row["wins"] = len(wins)
        rows.append(row | {name: int((wins["sound.decision"] == name).sum()) for name in _OUTCOMES})
    return pd.DataFrame(rows, columns=list(SURVIVOR_COLUMNS))


SURVIVOR_COLUMNS = {
    "task": Column("task"),
    "published": Column("published", ".0%", group="fast samples"),
    "sound": Column("sound", ".0%", group="fast samples"),
    "wins": Column("candidates", "d", group="published wins"),
    **{name: Column(name, "d", group="which the sound protocol calls") for name in _OUTCOMES},
}


def fast_1(samples: pd.DataFrame, protocol: str) -> Interval:
    """Per-sample fast_1 with its bootstrap interval over tasks and seeds; Wilson's over tasks where all agree."""
    view = metrics.under(samples, protocol)
    groups = view.assign(hit=view["fast_limit"] > 1).groupby(metrics.GROUP)["hit"].mean().reset_index()
    return with_width(mean_interval(groups["hit"], groups["task"]))[0]


def survivor_verdict(table: pd.DataFrame) -> str:
    """How many published wins the sound protocol confirms, from ``survivors``."""
    total = table.iloc[-1]
    wins, kept = int(total["wins"]), int(total["faster"])
    if not wins:
        return "No candidate of this run wins under the published protocol, so there is nothing to survive."
    share = wilson(kept, wins)
    rest = [f"{int(total[name])} {name}" for name in _OUTCOMES[1:] if total[name]]
    text = f"Of {of(wins, 'candidate')} that the published protocol calls faster, the sound one confirms {kept}"
    return f"{text} ({number(share, '.0%')})" + (f"; of the others it calls {', '.join(rest)}." if rest else ".")


# -- the second evaluation ---------------------------------------------------------------------------------------


def confirmations(samples: pd.DataFrame) -> pd.DataFrame:
    """Per protocol: candidates called faster at first, and how many of them, and of the others, are the second time.

    Columns: protocol, candidates (correct and measured twice), faster, confirmed (count), share (Interval, Wilson's),
    others (not called faster at first), turned (of those, called faster the second time) and base (Interval). If
    ``share`` is no larger than ``base``, being called faster told nothing.
    """
    found, rows = candidates(samples), []
    for protocol in PROTOCOLS:
        first, second = found[f"{protocol}.first"], found[f"{protocol}.second"]
        twice = _is(second, True) | _is(second, False)
        fast, again = twice & _is(first, True), _is(second, True)
        other = twice & ~_is(first, True)
        counts = {"faster": int(fast.sum()), "confirmed": int((fast & again).sum())}
        counts |= {"others": int(other.sum()), "turned": int((other & again).sum())}
        row = {"protocol": protocol, "candidates": int(twice.sum()), **counts}
        row["share"] = wilson(counts["confirmed"], counts["faster"])
        row["base"] = wilson(counts["turned"], counts["others"])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(CONFIRMATION_COLUMNS))


CONFIRMATION_COLUMNS = {
    "protocol": Column("protocol"),
    "candidates": Column("candidates", "d"),
    "faster": Column("number", "d", group="called faster at first"),
    "confirmed": Column("again", "d", group="called faster at first"),
    "share": Column("share [Wilson]", ".0%", group="called faster at first"),
    "others": Column("number", "d", group="not called faster at first"),
    "turned": Column("second time", "d", group="not called faster at first"),
    "base": Column("share [Wilson]", ".0%", group="not called faster at first"),
}


def confirmed_text(row: pd.Series) -> str:
    """One row of ``confirmations`` as text."""
    if not row["candidates"]:
        return "no candidate was measured twice"
    if not row["faster"]:
        return f"none of {of(int(row['candidates']), 'candidate')} was called faster at first"
    return f"{row['confirmed']} of {row['faster']} called faster again ({number(row['share'], '.0%')})"


def confirmation_verdict(table: pd.DataFrame) -> str:
    """What being called faster once told of the second time, per protocol."""
    texts = []
    for _, row in table.iterrows():
        name = f"Under the {row['protocol']} protocol"
        if not row["candidates"]:
            texts.append(f"{name} nothing was measured twice")
        elif not row["faster"] or not row["others"]:
            texts.append(f"{name} there is only one kind of candidate, so nothing to compare")
        elif row["share"].low > row["base"].high:
            texts.append(f"{name} a first win foretells a second one")
        elif row["share"].high < row["base"].low:
            texts.append(f"{name} a first win makes a second one less likely")
        else:
            base = number(row["base"], ".0%")
            texts.append(f"{name} a first win cannot be told from none: of the others {base} win the second time")
    return ". ".join(texts) + "."


def repeatability(samples: pd.DataFrame, protocol: str) -> Correlation:
    """Spearman's rho within tasks between the two evaluations of candidates under a protocol: does it rank?"""
    found = candidates(samples).dropna(subset=[f"{protocol}.speedup", f"{protocol}.again"])
    return within_task_spearman(found[f"{protocol}.speedup"], found[f"{protocol}.again"], found["task"])


def repeatability_text(rho: Correlation) -> str:
    """ρ with its interval and n, or that there is none."""
    if np.isnan(rho.rho):
        return "no task has candidates that were measured twice and differ"
    bounds = number(Interval(rho.rho, rho.low, rho.high, rho.tasks), ".2f")
    return f"ρ = {bounds}, {of(rho.n, 'candidate')} of {of(rho.tasks, 'task')}"


def repeatability_verdict(rho: Correlation) -> str:
    """Whether a protocol's ranking within a task repeats."""
    if np.isnan(rho.rho):
        return "This run cannot tell."
    if np.isnan(rho.low):
        return "One task allows no interval: this run cannot tell."
    if rho.low > 0.8:
        return "The ranking repeats."
    if rho.low > 0:
        return "The ranking repeats in part: two evaluations order a task's candidates alike more often than not."
    return "The interval includes 0: two evaluations need not order a task's candidates alike."


def figure_winners(points: pd.DataFrame) -> alt.TopLevelMixin:
    """Speedup of each group's fastest candidate on fresh data against the one that it was chosen by."""
    if points.empty:
        return empty_chart("no candidate was measured twice")
    values = pd.concat([points["chosen"], points["again"]])
    domain = (float(values.min()) / 1.03, float(values.max()) * 1.03)
    wide = domain[1] > 4 * domain[0]  # where the values are near each other, a linear scale has the better ticks
    x = Axis("chosen", "speedup when chosen", ".3~g", log=wide, domain=domain)
    y = Axis("again", "speedup on fresh data", ".3~g", log=wide, domain=domain)
    names = list(PROTOCOLS)
    colour = alt.Color("protocol:N", scale=alt.Scale(domain=names, range=theme.colours(names)), legend=None)
    ends = pd.DataFrame({"chosen": list(domain), "again": list(domain)})
    across = {"x": alt.X("chosen:Q", scale=x.scale(), axis=x.axis())}
    up = {"y": alt.Y("again:Q", scale=y.scale(), axis=y.axis())}
    tip = [alt.Tooltip("task:N"), alt.Tooltip("seed:N"), x.tooltip(), y.tooltip()]
    panels = []
    for name in names:
        diagonal = alt.Chart(ends).mark_line(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1).encode(**across, **up)
        dots = alt.Chart(points[points["protocol"] == name]).mark_point(size=60, opacity=0.75)
        shown = dots.encode(**across, **up, color=colour, tooltip=tip)
        panels.append(alt.layer(diagonal, shown).properties(width=205, height=205, title=f"{name} protocol"))
    return alt.hconcat(*panels)


# -- floors ------------------------------------------------------------------------------------------------------


def floors(references: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """How near the floor a task's reference and its best candidate come: columns task, code, share, low, high (NaN).

    The best candidate has the largest sound speedup of the first evaluation and is read on the second one, where there
    was one. A task without a measured reference is left out.
    """
    room = headroom(references).dropna(subset=["headroom"])
    found, rows = candidates(samples), []
    for task_id, ratio in zip(room["task_id"], room["headroom"], strict=True):
        own = found[found["task_id"] == task_id].dropna(subset=["sound.speedup"])
        best = NAN
        if len(own):
            chosen = own.loc[own["sound.speedup"].idxmax()]
            best = float(chosen["sound.again"] if not np.isnan(chosen["sound.again"]) else chosen["sound.speedup"])
        rows.append((f"task {task_id}", "reference", 1 / ratio))
        rows.append((f"task {task_id}", "best candidate", best / ratio))
    frame = pd.DataFrame(rows, columns=["task", "code", "share"]).dropna(subset=["share"])
    return frame.assign(low=NAN, high=NAN)


def claimed_shares() -> pd.Series:
    """Share of the floor that the paper's speedups (table D.2) need on an H100, by task number; 1 is the floor."""
    claims = published.table("D.2")["speedup"]
    room = headroom_h100([int(task) for task in claims.index]).set_index("task_id")["headroom"]
    return claims.rename(index=int) / room


def claim_verdict(claimed: pd.Series) -> str:
    """How many of the paper's selected speedups lie beyond the floor, from ``claimed_shares``."""
    return f"{int((claimed > 1).sum())} of {len(claimed)} selected speedups lie beyond the floor of an H100 in fp32."


def floor_verdict(frame: pd.DataFrame) -> str:
    """Whether anything measured here beats its floor, from ``floors``."""
    if frame.empty:
        return "No reference of this run has a floor."
    best = frame[frame["code"] == "best candidate"]
    beyond = frame[frame["share"] > 1]
    if len(beyond):
        names = ", ".join(sorted(set(beyond["task"])))
        return f"On {names} something is faster than its floor: the floor or the measurement is wrong."
    if best.empty:
        return "Nothing measured here beats its floor; no candidate was correct."
    top = best.loc[best["share"].idxmax()]
    return (
        f"Nothing measured here beats its floor. The best candidate comes nearest on {top['task']}, "
        f"with {number(float(top['share']), '.0%')} of what the device allows."
    )
