"""A Sphinx extension that tidies the scripts of each page: every file once, nothing that could run code elsewhere.

Themes and extensions register some files twice, and sphinx-thebe adds scripts that fetch a kernel client from a CDN on
demand. It knows nothing of the page's content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LAST = 900


def tidy_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Handler of ``html-page-context``."""
    kept: dict[str, Any] = {}
    for script in context["script_files"]:
        attributes = getattr(script, "attributes", {})
        filename = getattr(script, "filename", None) or attributes.get("src") or ""
        what = str(filename or attributes.get("body", script))
        if "thebe" in what.lower():
            continue
        if what not in kept or "defer" in attributes:
            kept[what] = script
    context["script_files"][:] = kept.values()


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("html-page-context", tidy_scripts, priority=LAST)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
