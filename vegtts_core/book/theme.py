"""How every chart of the book looks: one font, one palette, fixed sizes. It knows nothing of what is drawn.

The protocols and the selection strategies have the same colour in every chart. The palette keeps apart under the
common colour deficiencies (a test simulates them) and every mark has a contrast of at least 3:1 on white, text 7:1.
"""

from __future__ import annotations

from typing import Any

#: Liberation Sans is what the SVG is laid out with (vl-convert carries it); the others share its metrics or are near.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

#: Vega-Lite version of every spec: the newest one that JupyterLab 4.6 draws; SVG and web script use the same.
VEGALITE_VERSION = "5.21"
VEGALITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.21.0.json"
VEGALITE_MIME = "application/vnd.vegalite.v5+json"

#: Pixels. ``WIDTH`` is the plotting area of a single chart, ``SMALL`` of one small multiple.
WIDTH = 470
HEIGHT = 280
SMALL = 150

TEXT = "#1f2328"
MUTED = "#57606a"
GRID = "#e5e7eb"

#: One colour per evaluation protocol (``vegtts_core.evaluator.types.ProtocolName``).
PROTOCOL_COLOURS = {"published": "#8e44ad", "sound": "#00795c"}

#: One colour per selection strategy (paper, section 4.5): blues for surprisal, orange for confidence, greys for bounds.
STRATEGY_COLOURS = {
    "best-correct": "#1a1a1a",
    "surprisal-guided-top3": "#003f6b",
    "surprisal-guided": "#2a86cf",
    "random-correct": "#8a8a8a",
    "confidence-guided": "#d55e00",
}

#: The paper's own numbers beside ours.
SOURCE_COLOURS = {"paper": "#8a8a8a", "measured here": "#00795c"}

#: For anything else, in this order.
CATEGORY_COLOURS = ("#2a86cf", "#d55e00", "#00795c", "#8e44ad", "#1a1a1a", "#8a8a8a", "#9a6a00")

#: Marker shapes go with the colours, so that a print in grey can still be read.
SHAPES = ("circle", "diamond", "square", "triangle-up", "triangle-down", "cross", "stroke")


def colours(names: list[str]) -> list[str]:
    """One colour per name: its fixed one if it is a protocol (also ``here, sound``), strategy or source, else the next
    category's that is not in use.
    """
    here = {f"here, {name}": colour for name, colour in PROTOCOL_COLOURS.items()}
    fixed = {**PROTOCOL_COLOURS, **here, **STRATEGY_COLOURS, **SOURCE_COLOURS}
    used = {fixed[name] for name in names if name in fixed}
    spare = [colour for colour in CATEGORY_COLOURS if colour not in used]
    others = {name: spare[i % len(spare)] for i, name in enumerate(name for name in names if name not in fixed)}
    return [fixed.get(name) or others[name] for name in names]


def config() -> dict[str, Any]:
    """The Vega-Lite ``config`` block of the theme."""
    label = {"labelFont": FONT, "labelColor": TEXT, "labelFontSize": 12}
    title = {"titleFont": FONT, "titleColor": TEXT, "titleFontSize": 12, "titleFontWeight": "bold"}
    return {
        "background": "#ffffff",
        "font": FONT,
        "view": {"continuousWidth": WIDTH, "continuousHeight": HEIGHT, "stroke": None},
        "axis": {**label, **title, "gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED, "titlePadding": 8},
        "axisBand": {"grid": False},
        "legend": {**label, **title, "orient": "top", "direction": "horizontal", "symbolSize": 90, "columns": 3},
        "header": {**label, **title, "labelFontWeight": "bold"},
        "title": {"font": FONT, "color": TEXT, "fontSize": 13, "anchor": "start", "fontWeight": "bold"},
        "text": {"font": FONT, "fontSize": 12, "color": TEXT},
        "point": {"filled": True, "size": 70, "opacity": 1},
        "line": {"strokeWidth": 2},
        "rule": {"strokeWidth": 2},
        "area": {"opacity": 0.18, "line": False},
        "range": {"category": list(CATEGORY_COLOURS), "symbol": list(SHAPES)},
    }


def enable() -> None:
    """Let a bare Altair chart, shown in JupyterLab while one tries things, look and travel like the book's figures."""
    import altair as alt

    from vegtts_core.book.figures import bundle

    alt.theme.register("vegtts", enable=True)(lambda: alt.theme.ThemeConfig({"config": config()}))
    alt.renderers.register("vegtts", lambda spec, **_: bundle(spec, prefix="chart"))
    alt.renderers.enable("vegtts")
