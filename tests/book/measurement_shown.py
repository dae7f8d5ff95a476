"""A table or figure of chapter 9 as a reader would get it, for tests."""

from vegtts_core.book.figures import draw, specification
from vegtts_core.book.tables import Table


def shown(frame, columns):
    text = Table(frame, "tab-any", "Any.", columns).text()
    assert "nan" not in text and "inf" not in text and "None" not in text
    Table(frame, "tab-any", "Any.", columns).markdown()
    return text


def drawn(chart):
    svg = draw(specification(chart), "fig-any")
    assert "<svg" in svg
    return svg
