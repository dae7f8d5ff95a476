"""Chapter 10: ranking before evaluation, policy by policy; what ``vegtts_core.ranking`` computes, as tables and charts.

Sentences are in ``beyond_words``. Everything here is under the sound protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from vegtts_core import metrics, ranking
from vegtts_core.book import study, theme
from vegtts_core.book.prose import number
from vegtts_core.book.selecting_words import signed
from vegtts_core.book.tables import Column
from vegtts_core.metrics import GROUP
from vegtts_core.ranking import Order, Unit
from vegtts_core.runs import Run
from vegtts_core.statistics import Effect, Interval, cluster_weights, mean_effect

PROTOCOL = "sound"
Views = Mapping[str, pd.DataFrame]
"""A protocol's view (``metrics.under``) by the policy's letter."""

BUDGETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EARLY = 4
"""The budget that the table shows: what a rule must be good at is the start."""

ORDER_COLOURS = {
    Order.RANDOM: theme.STRATEGY_COLOURS["random-correct"],
    Order.SURPRISAL: theme.STRATEGY_COLOURS["surprisal-guided"],
    Order.CONFIDENCE: theme.STRATEGY_COLOURS["confidence-guided"],
    Order.SHORTEST: "#00795c",
    Order.LONGEST: "#8e44ad",
    Order.MAJORITY: "#1a1a1a",
}

RULES = tuple(order for order in Order if order is not Order.RANDOM)


def views(searches: Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    """Each search's view under the sound protocol, by the searches' names."""
    return {name: metrics.under(run.samples, PROTOCOL) for name, run in searches.items()}


def letters(searches: Mapping[str, Run], adaptations: Mapping[str, Run]) -> dict[str, str]:
    """A letter for every policy, ``A`` … by ``study.label``: those of the searches first, in their order."""
    labels = dict.fromkeys([*searches, *(study.label(run) for run in adaptations.values())])
    return {label: chr(ord("A") + i) if i < 26 else f"A{i}" for i, label in enumerate(labels)}


def legend(names: Mapping[str, str]) -> str:
    """``A: SmolLM2-135M, forward, T = 0.25, CPU; B: …``."""
    return "; ".join(f"{letter}: {label}" for label, letter in names.items())


def titles(names: Mapping[str, str]) -> dict[str, str]:
    """What a panel or a legend calls each letter: ``A: 135M, forward, T = 0.25, CPU``."""
    return {
        letter: f"{letter}: {label.replace('Qwen2.5-Coder-', '').replace('SmolLM2-', '')}"
        for label, letter in names.items()
    }


def facts(searches: Mapping[str, Run]) -> dict[str, str]:
    """Numbers of the chapter's sentences: searches, groups, samples, distinct candidates, refused texts."""
    tables = [metrics.under(run.samples, PROTOCOL) for run in searches.values()]
    found = [ranking.items(view) for view in tables]
    samples = sum(len(view) for view in tables)
    return {
        "searches": str(len(searches)),
        "samples": f"{samples:,}",
        "groups": str(sum(view.groupby(GROUP).ngroups for view in tables)),
        "candidates": f"{sum(len(items) for items in found):,}",
        "refused": number(sum(int(view["fingerprint"].isna().sum()) for view in tables) / samples, ".0%"),
        "early": str(EARLY),
    }


def budgets(views: Views) -> list[int]:
    """The evaluations that charts show: powers of two up to the smallest run's samples per group, and that number."""
    most = max(int(view.groupby(GROUP).size().max()) for view in views.values())
    return sorted({m for m in BUDGETS if m <= most} | {most})


def curves(views: Views, seed: int = 0) -> pd.DataFrame:
    """Each order's mean over tasks after m evaluations, with the bootstrap over tasks and seeds.

    Columns policy, unit, order, m, then for ``solved`` and ``reached`` (a speedup) the value with ``_low``, ``_high``.
    """
    rows = []
    shown = budgets(views)
    for label, view in views.items():
        for unit in Unit:
            found = ranking.curves(view, unit)
            found = found[found["m"].isin(shown)]
            for order, part in found.groupby("order", sort=False):
                wide = part.pivot(index=GROUP, columns="m", values=["solved", "log_reached"])
                weights, draws = cluster_weights(wide.index.get_level_values("task"), seed=seed)
                for m in wide["solved"].columns:
                    row = {"policy": label, "unit": str(unit), "order": order, "m": int(m)}
                    for name, source in (("solved", "solved"), ("reached", "log_reached")):
                        values = wide[source][m].to_numpy(dtype=float)
                        ends = np.quantile(draws @ values, [0.025, 0.975]) if len(draws) else [np.nan] * 2
                        three = [float(weights @ values), float(ends[0]), float(ends[1])]
                        three = [float(np.exp(v)) for v in three] if name == "reached" else three
                        row |= dict(zip((name, f"{name}_low", f"{name}_high"), three, strict=True))
                    rows.append(row)
    return pd.DataFrame(rows)


BANDS = (str(Order.RANDOM), str(Order.SURPRISAL))


def figure(frame: pd.DataFrame, measure: str, title: str, called: Mapping[str, str]) -> alt.VConcatChart:
    """``curves`` as lines: one row per policy, distinct candidates on the left, samples on the right.

    ``called``: `titles`. Bands for random order and surprisal only: six would hide each other.
    """
    names = [str(order) for order in Order]
    colour = alt.Color(
        "order:N",
        sort=names,
        scale=alt.Scale(domain=names, range=[ORDER_COLOURS[order] for order in Order]),
        legend=alt.Legend(title=None, columns=6, symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3),
    )
    ticks = sorted(int(m) for m in frame["m"].unique())
    rows = []
    for policy, part in frame.groupby("policy", sort=False):
        cells = []
        ends = part[[measure, f"{measure}_low", f"{measure}_high"]].to_numpy(dtype=float)
        domain = [0.0, max(0.1, float(np.nanmax(ends)))]
        if measure == "reached":
            domain = [min(0.99, float(np.nanmin(ends))), max(1.05, float(np.nanmax(ends)))]
        fmt = ".0%" if measure == "solved" else ".2f"
        for unit in Unit:
            data = part[part["unit"] == str(unit)][["order", "m", measure, f"{measure}_low", f"{measure}_high"]]
            axis = alt.Axis(title=f"evaluations of {unit}", values=ticks, format="d", labelFlush=False)
            across = alt.X("m:Q", scale=alt.Scale(type="log", base=2, nice=False, padding=6), axis=axis)
            up = alt.Axis(title=title if unit is Unit.CANDIDATES else None, format=fmt, tickCount=5)
            base = alt.Chart(data).encode(x=across, color=colour)
            band = base.transform_filter(alt.FieldOneOfPredicate(field="order", oneOf=list(BANDS))).mark_area(
                opacity=0.14
            )
            scale = alt.Scale(domain=domain, nice=False)
            low = alt.Y(f"{measure}_low:Q", scale=scale, axis=up)
            height = alt.Y(f"{measure}:Q", scale=scale, axis=up)
            line = base.mark_line(strokeWidth=1.8).encode(y=height)
            tooltip = ["order:N", "m:Q", alt.Tooltip(f"{measure}:Q", format=".3")]
            points = base.mark_point(size=14, filled=True).encode(y=height, tooltip=tooltip)
            shown = [band.encode(y=low, y2=f"{measure}_high:Q")] if data[f"{measure}_low"].notna().any() else []
            cells.append(alt.layer(*shown, line, points).properties(width=225, height=150))
        both = alt.hconcat(*cells, spacing=14).resolve_scale(y="shared")
        rows.append(both.properties(title=called[str(policy)]))
    return alt.vconcat(*rows, spacing=16).resolve_scale(color="shared")


def _paired(frame: pd.DataFrame, value: str, order: Order) -> pd.Series:
    wide = frame.pivot(index=GROUP, columns="order", values=value)
    return wide[str(order)] - wide[str(Order.RANDOM)]


def _effect(difference: pd.Series) -> Effect:
    return mean_effect(difference.to_numpy(dtype=float), difference.index.get_level_values("task"))


def ratio(effect: Effect) -> Interval:
    """A mean difference of logarithms as a ratio, with the wider of the bootstrap's and the t-interval's bounds."""
    low, high = np.exp(effect.low), np.exp(effect.high)
    return Interval(float(np.exp(effect.interval.estimate)), float(low), float(high), effect.n)


def points(effect: Effect) -> Interval:
    """A mean difference of shares in percentage points, bounds as in `ratio`."""
    return Interval(100 * effect.interval.estimate, 100 * effect.low, 100 * effect.high, effect.n)


def effects(views: Views, orders: Sequence[Order] = RULES, early: int = EARLY) -> pd.DataFrame:
    """Each order against random, over distinct candidates: one row per (policy, order), with Effects.

    ``solved``: difference after ``early`` evaluations; ``reached``: log ratio of speedups then; ``first_fast`` and
    ``fastest``: log ratio of the evaluations needed for the first fast candidate and for the fastest, over groups that
    have one: below 0 evaluations are saved. ``tasks``: those with a fast candidate.
    """
    rows = []
    for label, view in views.items():
        found = ranking.curves(view, most=max(early, 1))
        found = found[found["m"] == early]
        waits = ranking.waiting(view)
        waits[["first_fast", "fastest"]] = np.log(waits[["first_fast", "fastest"]])
        for order in orders:
            row: dict[str, object] = {"policy": label, "order": str(order)}
            row |= {"solved": _effect(_paired(found, "solved", order))}
            row |= {"reached": _effect(_paired(found, "log_reached", order))}
            row |= {name: _effect(_paired(waits, name, order)) for name in ("first_fast", "fastest")}
            rows.append(row | {"tasks": row["first_fast"].n})  # type: ignore[attr-defined]
    return pd.DataFrame(rows)


def table(found: pd.DataFrame) -> pd.DataFrame:
    """`effects` as shown: policy (on its first row), order, differences and ratios."""
    shown = pd.DataFrame({"order": found["order"], "tasks": found["tasks"]})
    again = found["policy"].duplicated()
    shown.insert(0, "policy", found["policy"].where(~again, ""))
    shown["solved"] = [points(e) for e in found["solved"]]
    for name in ("reached", "first_fast", "fastest"):
        shown[name] = [ratio(e) for e in found[name]]
    return shown


TABLE_COLUMNS = {
    "policy": Column(""),
    "order": Column("order"),
    "solved": Column("solved, points", lambda value: signed(value, "+.0f"), group=f"after {EARLY} evaluations"),
    "reached": Column("speedup, ratio", ".2f", group=f"after {EARLY} evaluations"),
    "first_fast": Column("first fast", ".2f", group="evaluations needed, ratio"),
    "tasks": Column("n", "d", group="evaluations needed, ratio"),
    "fastest": Column("the fastest", ".2f", group="evaluations needed, ratio"),
}
