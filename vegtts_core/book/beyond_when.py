"""Chapter 10: in which groups does choosing by surprisal pay, and can one know beforehand?

One row per group (task, seed, step) of every run: what the rule gains over random choice, and what the group is like.
Copies count once. Two of the quantities are the gain's own mechanics, known only once everything is timed: the spread
of speeds bounds it, and the correlation of surprisal with speed within the group is nearly another name for it. The
others (correct share, distinct candidates, temperature, headroom) are there before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core import metrics, ranking
from vegtts_core.book import study, theme
from vegtts_core.book.beyond_ranking import PROTOCOL, ratio
from vegtts_core.book.headroom import headroom, headroom_h100
from vegtts_core.book.selecting_words import signed
from vegtts_core.book.tables import Column
from vegtts_core.metrics import GROUP
from vegtts_core.ranking import Order
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_effect, spearman

RESAMPLES = 1000
RULES = [(Order.RANDOM, 1), (Order.SURPRISAL, 1), (Order.RANDOM, None)]


def headrooms(runs: Mapping[str, Run]) -> dict[tuple[str, str, int], float]:
    """Headroom by (size, device, task id), from whatever run measured it, else KernelBench's times for an H100."""
    found: dict[tuple[str, str, int], float] = {}
    for run in runs.values():
        place = _place(run)
        if len(run.references):
            table = headroom(run.references.assign(floor_seconds=pd.to_numeric(run.references["floor_seconds"])))
            known = zip(table["task_id"], table["headroom"], strict=True)
            found |= {(*place, int(task)): float(value) for task, value in known if np.isfinite(value)}
    for run in runs.values():
        if _place(run) == ("kernelbench", "cuda"):
            tasks = sorted({int(task) for task in run.samples["task_id"].unique()})
            listed = headroom_h100(tasks)
            for task, value in zip(listed["task_id"], listed["headroom"], strict=True):
                found.setdefault(("kernelbench", "cuda", int(task)), float(value))
    return found


def _place(run: Run) -> tuple[str, str]:
    return str(run.manifest["parameters"]["size"]), str(run.measured_on.get("device", "cpu")).split(" ")[0]


def groups(searches: Mapping[str, Run], adaptations: Mapping[str, Run], names: Mapping[str, str]) -> pd.DataFrame:
    """One row per group of every run.

    Columns policy (its letter in ``names``), run, task, task_id, seed, step; ``gain``: log ratio of the speedup of
    surprisal-guided choice to random choice; ``room``: the same of the oracle, which bounds it; ``rho``: Spearman's,
    surprisal and speedup over distinct correct candidates; ``distinct`` (correct), ``correct`` (share), ``headroom``,
    ``temperature``. Gain and room are NaN where nothing is correct; ``rho`` where it is undefined.
    """
    runs = {**searches, **adaptations}
    known, parts = headrooms(runs), []
    for name, run in runs.items():
        view = metrics.under(run.samples, PROTOCOL)
        found = ranking.after_filter(view, RULES)
        chosen = found["order"].where(found["m"].notna(), "oracle")
        wide = found.assign(chosen=chosen).pivot(index=GROUP, columns="chosen", values="log_speedup")
        items = ranking.items(view[view["correct"]])
        frame = pd.DataFrame(
            {
                "gain": wide["surprisal"] - wide["random"],
                "room": wide["oracle"] - wide["random"],
                "distinct": items.groupby(GROUP).size().reindex(wide.index, fill_value=0),
                "correct": view.groupby(GROUP)["correct"].mean().reindex(wide.index),
                "rho": items.groupby(GROUP)[["surprisal", "speedup"]].apply(_rho).reindex(wide.index).astype(float)
                if len(items)
                else np.nan,
                "task_id": view.groupby(GROUP)["task_id"].first().reindex(wide.index),
            }
        ).reset_index()
        place = _place(run)
        frame["headroom"] = [known.get((*place, int(task)), np.nan) for task in frame["task_id"]]
        frame["temperature"] = float(run.manifest["parameters"]["temperature"])
        parts.append(frame.assign(policy=names[study.label(run)], run=name))
    return pd.concat(parts, ignore_index=True)


def _rho(items: pd.DataFrame) -> float:
    usable = items.dropna(subset=["surprisal", "speedup"])
    if len(usable) < 3 or usable["surprisal"].nunique() < 2 or usable["speedup"].nunique() < 2:
        return float("nan")
    return float(np.asarray(stats.spearmanr(usable["surprisal"], usable["speedup"]), dtype=float)[0])


def open_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """Those in which there is a choice: two distinct correct candidates or more."""
    return frame[(frame["distinct"] >= 2) & frame["gain"].notna()]


BEFORE = {
    "correct": "share correct",
    "distinct": "distinct correct",
    "temperature": "temperature",
    "headroom": "headroom",
}
AFTER = {"rho": "ρ(surprisal, speedup)", "room": "oracle over random"}


def correlations(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """What goes with the gain, over groups with a choice; bootstrap over tasks.

    Columns ``quantity``, ``known`` (when), ``rho`` (Spearman's with the gain, an Interval), ``slope`` (of a linear
    regression of the gain on the ranks of all that is known before, per standard deviation; a log ratio, an Interval;
    None for what is not in it), groups, tasks.
    """
    rows = open_groups(frame)
    slopes, rows_out = regression(rows, seed), []
    for known, names in (("before", BEFORE), ("after", AFTER)):
        for name, title in names.items():
            part = rows[rows[name].notna()]
            found = spearman(part[name], part["gain"], part["task"], resamples=RESAMPLES, seed=seed)
            interval = Interval(found.rho, found.low, found.high, found.tasks)
            rows_out.append((title, known, interval, slopes.get(name), found.n, found.tasks))
    return pd.DataFrame(rows_out, columns=["quantity", "known", "rho", "slope", "groups", "tasks"])


def regression(rows: pd.DataFrame, seed: int = 0) -> dict[str, Interval]:
    """Slopes of the gain on the standardised ranks of what is known before, all at once; constants are left out."""
    complete = rows.dropna(subset=[*BEFORE, "gain"])
    names = [name for name in BEFORE if complete[name].nunique() > 1]
    tasks = complete["task"].nunique()
    if tasks < 2 or len(complete) < len(names) + 3:
        return {}
    ranks = complete[names].rank()
    design = np.column_stack([np.ones(len(complete)), ((ranks - ranks.mean()) / ranks.std(ddof=0)).to_numpy()])
    gain = complete["gain"].to_numpy(dtype=float)
    rng, members = np.random.default_rng(seed), list(complete.groupby("task").indices.values())

    def fit(chosen: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(design[chosen], gain[chosen], rcond=None)[0][1:]

    estimate = fit(np.arange(len(complete)))
    draws = np.array(
        [
            fit(np.concatenate([members[t] for t in rng.integers(len(members), size=len(members))]))
            for _ in range(RESAMPLES)
        ]
    )
    ends = np.quantile(draws, [0.025, 0.975], axis=0)
    return {
        name: Interval(float(estimate[i]), float(ends[0, i]), float(ends[1, i]), tasks) for i, name in enumerate(names)
    }


CORRELATION_COLUMNS = {
    "known": Column("known"),
    "quantity": Column("quantity"),
    "rho": Column("ρ with the gain [95%]", ".2f"),
    "slope": Column("slope per sd [95%]", lambda value: signed(value, "+.2f")),
    "groups": Column("groups", "d"),
    "tasks": Column("tasks", "d"),
}


def kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """The gain in kinds of groups that one can tell apart beforehand: by policy, and by halves of a quantity.

    Columns ``kind``, ``split`` (policy or quantity), ``gain`` (Effect on the log), ``room`` (mean over groups with a
    choice, a ratio), ``used`` (mean gain as a share of mean room), groups (all), ``choice`` (with one), tasks.
    """
    rows = open_groups(frame)
    found = [_kind("policy", f"policy {label}", part, frame) for label, part in rows.groupby("policy", sort=False)]
    for name, title in BEFORE.items():
        part = rows[rows[name].notna()]
        if part[name].nunique() < 2:
            continue
        middle = float(part[name].median())
        high = part[name] > middle if (part[name] > middle).any() else part[name] >= middle
        limit = part.loc[high, name].min()
        for side, label in ((~high, "under {}"), (high, "{} or more")):
            at = label.format(_amount(name, float(limit)))
            at = "100%" if name == "correct" and limit >= 1 and side is high else at
            found.append(_kind(name, f"{title}: {at}", part[side], None))
    return pd.DataFrame(found, columns=["split", "kind", "gain", "room", "used", "groups", "choice", "tasks"])


def _amount(name: str, value: float) -> str:
    return {"correct": f"{value:.0%}", "distinct": f"{value:.0f}", "temperature": f"{value:g}"}.get(
        name, f"{value:.1f}×"
    )


def _kind(split: str, kind: str, part: pd.DataFrame, whole: pd.DataFrame | None) -> dict[str, Any]:
    gain = mean_effect(part["gain"].to_numpy(dtype=float), part["task"])
    room = mean_effect(part["room"].to_numpy(dtype=float), part["task"]).interval.estimate
    groups = len(part) if whole is None else int((whole["policy"] == part["policy"].iloc[0]).sum())
    return {
        "split": split,
        "kind": kind,
        "gain": gain,
        "room": float(np.exp(room)),
        "used": gain.interval.estimate / room if room > 1e-9 else float("nan"),
        "groups": groups,
        "choice": len(part),
        "tasks": gain.n,
    }


def kinds_table(found: pd.DataFrame) -> pd.DataFrame:
    """`kinds` as shown."""
    return found.assign(ratio=[ratio(effect) for effect in found["gain"]])


KIND_COLUMNS = {
    "kind": Column("groups of"),
    "tasks": Column("tasks", "d"),
    "choice": Column("groups", "d"),
    "ratio": Column("surprisal [95%]", ".2f", group="speedup over random"),
    "room": Column("oracle", ".2f", group="speedup over random"),
    "used": Column("of the room", ".0%"),
}

PANELS = {
    "rho": "ρ in the group",
    "room": "oracle over random",
    "correct": "share correct",
    "distinct": "distinct correct",
}
MOST = 1500
FILLED = [shape for shape in theme.SHAPES if shape != "stroke"]
"""A stroke has no area, and these points have no outline."""


def figure(frame: pd.DataFrame, called: Mapping[str, str]) -> alt.ConcatChart:
    """The gain against four quantities, one point per group with a choice, coloured by policy (as ``called``)."""
    rows = open_groups(frame)
    data = rows.assign(policy=rows["policy"].map(called), ratio=np.exp(rows["gain"]), room=np.exp(rows["room"]))
    data = data[["policy", "task", "seed", "step", "ratio", *PANELS]].iloc[:: max(1, -(-len(rows) // MOST))]
    shown = [name for name in called.values() if (data["policy"] == name).any()]
    colour = alt.Color(
        "policy:N",
        sort=shown,
        scale=alt.Scale(domain=shown, range=theme.colours(shown)),
        legend=alt.Legend(title=None, columns=2, labelLimit=300),
    )
    shape = alt.Shape(
        "policy:N",
        sort=shown,
        scale=alt.Scale(domain=shown, range=[FILLED[i % len(FILLED)] for i in range(len(shown))]),
        legend=None,
    )
    up = alt.Y(
        "ratio:Q",
        scale=alt.Scale(type="log", nice=False, padding=8),
        axis=alt.Axis(title="surprisal over random", values=[0.25, 0.5, 0.7, 1, 1.4, 2, 4], format=".2~f"),
    )
    cells = []
    for name, title in PANELS.items():
        log = name in ("room", "distinct")
        values = {"room": [1, 1.4, 2, 3, 4], "distinct": [2, 5, 10, 20, 40]}.get(name)
        scale = alt.Scale(type="log", nice=False, padding=8) if log else alt.Scale(nice=False, padding=8)
        axis = alt.Axis(title=title, labelFlush=False, **({"values": values} if values else {"tickCount": 5}))
        across = alt.X(f"{name}:Q", scale=scale, axis=axis)
        part = alt.Chart(data[data[name].notna()])
        marks = part.mark_point(size=28, opacity=0.6).encode(
            x=across, y=up, color=colour, shape=shape, tooltip=["policy:N", "task:N", "seed:Q", "step:Q", "ratio:Q"]
        )
        rule = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
        layers: list[alt.Chart] = [rule.encode(y=alt.Y("one:Q", title=None)), marks]
        if name == "room" and len(data):
            ends = pd.DataFrame({"x": [1.0, float(data["room"].max())], "y": [1.0, float(data["room"].max())]})
            bound = alt.Chart(ends).mark_line(color=theme.MUTED, strokeWidth=1)
            layers.append(bound.encode(x="x:Q", y="y:Q"))
        cells.append(alt.layer(*layers).properties(width=205, height=165))
    return alt.concat(*cells, columns=2, spacing=18)


def together(frame: pd.DataFrame) -> pd.DataFrame:
    """Counts for sentences: groups, with anything correct, with one distinct candidate, with a choice; runs, tasks."""
    distinct = frame["distinct"]
    return pd.DataFrame(
        [
            {
                "groups": len(frame),
                "none": int((distinct == 0).sum()),
                "one": int((distinct == 1).sum()),
                "choice": len(open_groups(frame)),
                "runs": frame["run"].nunique(),
                "tasks": frame["task"].nunique(),
            }
        ]
    )
