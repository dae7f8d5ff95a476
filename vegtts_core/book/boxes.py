"""Boxes: what was published beside what was measured here, and the takeaway that closes a chapter.

A reader who reads only the boxes has the argument. Text is MyST and may hold numbers formatted by ``prose.number``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt

from vegtts_core.book.figures import METADATA
from vegtts_core.book.prose import plain


def _html(text: str) -> str:
    """``text`` as HTML for JupyterLab, which knows no MyST roles: they are shown as their plain text."""
    return MarkdownIt().render("\n\n".join(plain(part) for part in text.split("\n\n")))


@dataclass(frozen=True)
class Comparison:
    """One result of the paper, with its counterpart measured here, and what follows (MyST texts)."""

    claim: str
    published: str
    here: str
    verdict: str = ""

    def markdown(self) -> str:
        """A MyST admonition with two columns."""
        sides = "".join(
            f"::::{{container}} {name}\n**{title}**\n\n{text}\n::::\n\n"
            for name, title, text in (
                ("published", "Published", self.published),
                ("here", "Measured here", self.here),
            )
        )
        verdict = f"::::{{container}} verdict\n{self.verdict}\n::::\n" if self.verdict else ""
        return f":::::{{admonition}} {self.claim}\n:class: comparison\n\n{sides}{verdict}:::::\n"

    def html(self) -> str:
        """A two-column table for JupyterLab."""
        verdict = f'<tr><td colspan="2">{_html(self.verdict)}</td></tr>' if self.verdict else ""
        return (
            f'<table class="vegtts-comparison"><caption><b>{plain(self.claim)}</b></caption>'
            "<thead><tr><th>Published</th><th>Measured here</th></tr></thead>"
            f"<tbody><tr><td>{_html(self.published)}</td><td>{_html(self.here)}</td></tr>{verdict}</tbody></table>"
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        text = f"{self.claim}\npublished: {self.published}\nmeasured here: {self.here}\n{self.verdict}"
        data = {"text/html": self.html(), "text/markdown": self.markdown(), "text/plain": plain(text)}
        return data, {METADATA: {"kind": "box"}}


@dataclass(frozen=True)
class Takeaway:
    """What to remember of a chapter, in a few sentences (MyST)."""

    text: str

    def markdown(self) -> str:
        """A MyST admonition."""
        return f":::{{admonition}} Takeaway\n:class: takeaway\n\n{self.text}\n:::\n"

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        html = f'<div class="vegtts-takeaway"><p><b>Takeaway</b></p>{_html(self.text)}</div>'
        data = {"text/html": html, "text/markdown": self.markdown(), "text/plain": f"Takeaway: {plain(self.text)}"}
        return data, {METADATA: {"kind": "box"}}
