"""A numbered figure: an Altair chart with a name and a caption, drawn the same on every machine.

The picture is an SVG made here, so it shows with scripts off and with no network; the Vega-Lite spec travels with it,
so JupyterLab and the book's own script can make it interactive. It knows nothing of Sphinx: ``mime.py`` turns the
output into a figure of the built book, with its number.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import altair as alt
import vl_convert

from vegtts_core.book import theme
from vegtts_core.book.prose import plain
from vegtts_core.errors import UserError

#: Key of the output metadata that tells ``mime.py`` what an output is.
METADATA = "vegtts"

MAX_ROWS = 3000
SIGNIFICANT_DIGITS = 6
#: Less than this is what sums that are zero leave, on one processor or another.
_NOTHING = 1e-15


def round_floats(value: Any, digits: int = SIGNIFICANT_DIGITS) -> Any:
    """``value`` with every float rounded to ``digits`` significant digits, so that last bits move nothing."""
    if isinstance(value, float):
        return 0.0 if abs(value) < _NOTHING else float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: round_floats(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [round_floats(item, digits) for item in value]
    return value


def specification(chart: alt.TopLevelMixin | dict[str, Any], max_rows: int = MAX_ROWS) -> dict[str, Any]:
    """The Vega-Lite spec of ``chart`` under the book's theme, equal for equal charts.

    Raises ``UserError`` if a data set has more than ``max_rows`` rows: a figure carries its data with it.
    """
    if isinstance(chart, dict):
        spec = chart
    else:
        with alt.data_transformers.enable("default", max_rows=None):
            spec = chart.to_dict()
    for rows in spec.get("datasets", {}).values():
        if len(rows) > max_rows:
            raise UserError(f"A figure would carry {len(rows)} rows of data: aggregate them to at most {max_rows}.")
    spec = round_floats({**spec, "$schema": theme.VEGALITE_SCHEMA, "config": theme.config()})
    # Altair numbers views by a counter of the process and names data by all their bits: count both by place instead.
    text = json.dumps(spec)
    for pattern, called in ((r"view_\d+", "panel"), (r"data-[0-9a-f]{32}", "table")):
        for index, name in enumerate(dict.fromkeys(re.findall(rf"\b{pattern}\b", text))):
            text = re.sub(rf"\b{name}\b", f"{called}_{index}", text)
    return json.loads(text)


def draw(spec: dict[str, Any], prefix: str, label: str = "") -> str:
    """``spec`` as SVG text, byte-identical for equal specs.

    ``prefix`` makes element ids unique among the pictures of a page; ``label`` is what a screen reader says.
    """
    svg = vl_convert.vegalite_to_svg(spec, vl_version=theme.VEGALITE_VERSION)
    # Vega numbers clip paths and gradients by a counter of the process.
    for index, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg))):
        svg = re.sub(rf'(\bid="|url\(#|href="#){re.escape(name)}(?=["\)])', rf"\g<1>{prefix}-{index}", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label, quote=True)}" ', 1)


def bundle(chart: alt.TopLevelMixin | dict[str, Any], prefix: str, label: str = "") -> dict[str, Any]:
    """The mime bundle of a chart: the spec, the picture and a line of text."""
    spec = specification(chart)
    return {theme.VEGALITE_MIME: spec, "image/svg+xml": draw(spec, prefix, label), "text/plain": label}


@dataclass(frozen=True)
class Figure:
    """A chart with a name (``fig-…``, for ``{numref}``) and a caption (MyST, one paragraph).

    ``alt`` says in words what the picture shows; without it, the caption is used.
    """

    chart: alt.TopLevelMixin
    name: str
    caption: str
    alt: str = ""

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        label = self.alt or plain(self.caption)
        metadata = {METADATA: {"kind": "figure", "name": self.name, "caption": self.caption}}
        return bundle(self.chart, self.name, label), metadata

    def _ipython_display_(self) -> None:
        """The picture, then its caption: JupyterLab has no place of its own for one, the built book moves it."""
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
        note = {"text/markdown": f"**Figure** `{self.name}`: {self.caption}", "text/plain": plain(self.caption)}
        display(note, metadata={METADATA: {"kind": "notebook-only"}}, raw=True)
