"""Turns the outputs of ``figures``, ``tables`` and ``boxes`` into numbered parts of the built book (a MyST-NB plugin).

The output's metadata says what it is; outputs of anyone else are left to MyST-NB. It runs inside Sphinx and knows
nothing of runs or numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer

from vegtts_core.book.figures import METADATA
from vegtts_core.book.theme import VEGALITE_MIME

SCRIPT = "vegtts-charts.js"
"""The bundled chart script in ``_static``; pages with a chart load it, others do not."""

Nodes = list[nodes.Element]


class BookOutput:
    """Entry point ``myst_nb.mime_renderers``."""

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = ()

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> Nodes | None:
        """The nodes of an output of ours; [] for mime types the book does not use; None for others' outputs."""
        mark = data.output_metadata.get(METADATA)
        if mark is None or inline:
            return None
        match mark["kind"], data.mime_type:
            case "figure", "image/svg+xml":
                return [_figure(renderer, data, mark)]
            case "table", "text/markdown":
                return _table(renderer, data, mark)
            case "box", "text/markdown":
                return _myst(renderer, data.string, data.line)
            case _:
                return []


def _myst(renderer: NbElementRenderer, text: str, line: int | None) -> Nodes:
    holder = nodes.Element()
    with renderer.renderer.current_node_context(holder):
        renderer.renderer.nested_render_text(text, line or 0)
    return list(holder.children)  # type: ignore[arg-type]


def _inline(renderer: NbElementRenderer, text: str, line: int | None) -> Nodes:
    """The children of the one paragraph in ``text``."""
    blocks = _myst(renderer, text, line)
    return list(blocks[0].children) if blocks else []  # type: ignore[arg-type]


def _figure(renderer: NbElementRenderer, data: MimeData, mark: dict[str, Any]) -> nodes.figure:
    document = renderer.renderer.document
    figure = nodes.figure("", classes=["vegtts-figure"])
    figure.source, figure.line = document["source"], data.line
    figure["names"].append(nodes.fully_normalize_name(mark["name"]))
    document.note_explicit_target(figure, figure)
    spec = json.dumps(_spec(renderer, data), separators=(",", ":")).replace("</", "<\\/")
    html = (
        f'<div class="vegtts-chart" tabindex="0"><div class="vegtts-picture">{data.string}</div>'
        f'<script type="application/json">{spec}</script></div>'
    )
    figure += nodes.raw("", html, format="html")
    caption = nodes.caption("", "", *_inline(renderer, mark["caption"], data.line))
    caption.source, caption.line = document["source"], data.line
    figure += caption
    renderer.add_js_file("vegtts-charts", SCRIPT, {"defer": "defer"})
    return figure


def _spec(renderer: NbElementRenderer, data: MimeData) -> dict[str, Any]:
    """The Vega-Lite spec that came in the same output as the picture."""
    _, outputs = renderer.renderer.nb_client.code_cell_outputs(data.cell_index or 0)
    return outputs[data.output_index or 0]["data"][VEGALITE_MIME]


def _table(renderer: NbElementRenderer, data: MimeData, mark: dict[str, Any]) -> Nodes:
    made = _myst(renderer, data.string, data.line)
    for table in (found for node in made for found in node.findall(nodes.table)):
        table["classes"].append("vegtts-table")
        if mark["groups"]:
            _group_headings(renderer, table, mark, data.line)
    return made


def _group_headings(renderer: NbElementRenderer, table: nodes.table, mark: dict[str, Any], line: int | None) -> None:
    """Markdown has one row of headings, each with its group's name in front: put the groups in a row above instead."""
    head = next(iter(table.findall(nodes.thead)))
    for entry, heading in zip(head[0], mark["headings"], strict=True):
        entry.children = []
        entry += nodes.paragraph("", "", *_inline(renderer, heading, line))
    row = nodes.row()
    for name, span in mark["groups"]:
        entry = nodes.entry(classes=["group"] if name else [])
        if span > 1:
            entry["morecols"] = span - 1
        entry += nodes.paragraph("", name)
        row += entry
    head.insert(0, row)
