"""A numbered listing: code or text with a caption, taken from where it lives and never typed again.

JupyterLab shows HTML, a terminal plain text, and the built book takes the MyST text, with its number and its
cross-references (``mime.py``). It knows nothing of what the code does.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from vegtts_core.book.figures import METADATA
from vegtts_core.book.prose import plain


def source_of(*functions: Callable[..., Any]) -> str:
    """The source of functions or methods of the library as it stands there, set flush left."""
    return "\n\n".join(textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions) + "\n"


@dataclass(frozen=True)
class Listing:
    """``code`` in a Pygments ``language``, as the listing ``name`` (``lst-…``, for ``{numref}``) under ``caption``.

    ``emphasis``: numbers of the lines that stand out, from 1. ``numbered``: whether lines have their numbers beside
    them.
    """

    code: str
    language: str
    name: str
    caption: str
    emphasis: tuple[int, ...] = ()
    numbered: bool = False

    def markdown(self) -> str:
        """A MyST ``{code-block}`` directive with caption and label."""
        longest = max((len(run) for run in re.findall(r"`{3,}", self.code)), default=2)
        fence = "`" * (longest + 1)
        quoted = self.caption.replace("'", "''")
        options = [f":name: {self.name}", f":caption: '{quoted}'"]
        if self.numbered:
            options.append(":linenos:")
        if self.emphasis:
            options.append(f":emphasize-lines: {','.join(map(str, self.emphasis))}")
        return "\n".join([f"{fence}{{code-block}} {self.language}", *options, "", self.code.rstrip("\n"), fence, ""])

    def html(self) -> str:
        """The code in a ``pre``, its emphasised lines bold."""
        lines = [escape(line) for line in self.code.rstrip("\n").split("\n")]
        shown = [f"<b>{line}</b>" if place in self.emphasis else line for place, line in enumerate(lines, 1)]
        caption = f"<p><b>Listing</b> {escape(self.name)}: {escape(plain(self.caption))}</p>"
        return f'<div class="vegtts-listing">{caption}<pre>{chr(10).join(shown)}</pre></div>'

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        text = f"{plain(self.caption)}\n{self.code}"
        data = {"text/html": self.html(), "text/markdown": self.markdown(), "text/plain": text}
        return data, {METADATA: {"kind": "box"}}
