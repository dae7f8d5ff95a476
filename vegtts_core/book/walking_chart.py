"""A chart of timed calls: pairs, what the sound protocol makes of them, and the published point. It draws only."""

from __future__ import annotations

import altair as alt

from vegtts_core.book import theme, walking
from vegtts_core.book.charts import Axis
from vegtts_core.book.walking import Walk

PAIRS = "one pair of calls"
_KINDS = [PAIRS, "sound", "published"]
_ROW = 62


def timing_chart(walks: list[Walk]) -> alt.VConcatChart:
    """One panel per device: a row per rewarded candidate with its pairs, its interval and the published estimate."""
    panels = [_panel(walk, titled=len(walks) > 1) for walk in walks]
    return alt.vconcat(*panels)


def _panel(walk: Walk, titled: bool) -> alt.LayerChart:
    pairs = walking.call_ratios(walk).assign(kind=PAIRS)
    found = walking.estimates(walk).rename(columns={"protocol": "kind"})
    names = list(dict.fromkeys(found["candidate"]))
    value = Axis("speedup", "reference time / candidate time", ".2~f")
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=_KINDS, range=theme.colours(_KINDS)),
        legend=alt.Legend(title=None, symbolOpacity=1),
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=_KINDS, range=["circle", "square", "diamond"]), legend=None)
    place = {
        "y": alt.Y("candidate:N", sort=names, axis=alt.Axis(title=None, labelLimit=220)),
        "yOffset": alt.YOffset("kind:N", scale=alt.Scale(domain=_KINDS), sort=_KINDS),
        "color": colour,
    }
    said = [alt.Tooltip("candidate:N"), alt.Tooltip("kind:N", title="what")]
    calls = (
        alt.Chart(pairs)
        .mark_point(size=28, opacity=0.55)
        .encode(x=alt.X("ratio:Q", scale=value.scale(), axis=value.axis()), shape=shape, **place)
        .encode(tooltip=[*said, Axis("ratio", "ratio", ".3f").tooltip()])
    )
    bounds = (
        alt.Chart(found.dropna(subset=["low"]))
        .mark_rule()
        .encode(x=alt.X("low:Q", scale=value.scale(), axis=value.axis()), x2="high:Q", **place)
    )
    points = (
        alt.Chart(found)
        .mark_point()
        .encode(x=alt.X("speedup:Q", scale=value.scale(), axis=value.axis()), shape=shape, **place)
        .encode(tooltip=[*said, Axis("speedup", "speedup", ".3f").tooltip()])
    )
    one = alt.Chart(alt.Data(values=[{"at": 1}])).mark_rule(color=theme.MUTED, strokeDash=[4, 3], strokeWidth=1)
    panel = alt.layer(one.encode(x="at:Q"), calls, bounds, points)
    panel = panel.properties(width=theme.WIDTH - 30, height=_ROW * max(1, len(names)))
    return panel.properties(title=walk.processor) if titled else panel
