"""The script that makes the built book's charts interactive: Vega in one file, made from the pinned vl-convert.

It is made when the book is built and never fetched. Without it (or with scripts off) the pictures stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import vl_convert

from vegtts_core.book.mime import SCRIPT
from vegtts_core.book.theme import VEGALITE_VERSION

#: Each chart is replaced by its interactive self once that has drawn; if drawing fails, the picture stays.
SNIPPET = """
const options = {actions: false, logLevel: 1, renderer: "svg", tooltip: {theme: "book"}};
const awaken = async (chart) => {
  const source = chart.querySelector('script[type="application/json"]');
  const picture = chart.querySelector(".vegtts-picture");
  const live = document.createElement("div");
  live.className = "vegtts-live";
  live.hidden = true;
  chart.append(live);
  try {
    await vegaEmbed(live, JSON.parse(source.textContent), options);
    const drawn = live.querySelector("svg");
    const still = picture.querySelector("svg");
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", still.getAttribute("aria-label") || "");
    live.hidden = false;
    picture.hidden = true;
    chart.dataset.state = "live";
  } catch (problem) {
    live.remove();
    chart.dataset.state = "still";
    console.warn("chart stays still", problem);
  }
};
for (const chart of document.querySelectorAll(".vegtts-chart")) awaken(chart);
"""


def write_script(static: Path) -> Path:
    """Write the bundled script into the folder ``static``; returns its path."""
    path = static / SCRIPT
    bundle = vl_convert.javascript_bundle(SNIPPET, vl_version=VEGALITE_VERSION)
    # In a function of its own: the bundle's one-letter globals are also those of other scripts.
    path.write_text(f"(function () {{\n{bundle}\n}})();\n", encoding="utf-8")
    return path
