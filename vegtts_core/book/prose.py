"""Numbers in sentences: how they are written, and how a notebook hands them to its prose.

It knows nothing of where a number comes from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

Format = str | Callable[[Any], str]
"""A format spec (``.1%``), a template (``{:.2f}×``) or a function."""

MISSING = "–"

#: Halves are rounded away from zero, as the paper's are, whatever a sum's last bits on this processor.
_UP = 1 + 1e-12


def number(value: Any, fmt: Format = "") -> str:
    """``value`` as the book writes it: NaN and None are a dash, minus is a minus.

    An estimate (anything with ``estimate``, ``low``, ``high``: ``vegtts_core.statistics.Interval``) brings its bounds.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if all(hasattr(value, name) for name in ("estimate", "low", "high")):
        return interval(value.estimate, value.low, value.high, fmt)
    if isinstance(value, str) and not callable(fmt):
        return value
    if callable(fmt):
        return fmt(value)
    if isinstance(value, float) and re.search(r"\.\d", fmt):
        value *= _UP
    if fmt.endswith("d") and isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with a gap in it holds its counts as floats
    text = fmt.format(value) if "{" in fmt else format(value, fmt)
    return re.sub(r"^-(?=[\d.])", "−", text)


def interval(value: float, low: float, high: float, fmt: Format = ".2f") -> str:
    """``0.53 [0.41, 0.66]``, or ``0.53 (no interval)`` where there are no bounds."""
    if math.isnan(low) or math.isnan(high):
        return f"{number(value, fmt)} (no interval)"
    return f"{number(value, fmt)} [{number(low, fmt)}, {number(high, fmt)}]"


def glue(name: str, value: Any, fmt: Format = "") -> str:
    """Hand ``value`` to the prose of this chapter under ``name``, where ``{glue:text}`` picks it up; returns the text.

    In JupyterLab, which does not know ``{glue:text}``, the name and the text are shown under the cell.
    """
    from IPython.display import display
    from myst_nb import glue as hand_over

    text = number(value, fmt)
    # As a string: its quotation marks keep MyST-NB from reading 1,234 as a pair of numbers.
    hand_over(name, text, display=False)
    display({"text/plain": f"{name} = {text}"}, metadata={"vegtts": {"kind": "notebook-only"}}, raw=True)
    return text


def plain(text: str) -> str:
    """MyST ``text`` without its markup: roles, emphasis and dollar signs, for screen readers and terminals."""
    text = re.sub(r"\{cite:?\w*\}`([^`]*)`", r"[\1]", text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)(?:\s*<[^>]*>)?`", r"\1", text)
    return re.sub(r"[*`$]", "", text).strip()


def listed(parts: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    texts = list(parts)
    return " and ".join(([", ".join(texts[:-1])] if texts[:-1] else []) + texts[-1:])
