"""Figure 2: every box readable, no arrow in the air, five stages in their order."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest

from vegtts_core.book import theme
from vegtts_core.book.environment_figure import (
    DETAIL_SIZE,
    HEIGHT,
    PAINT,
    TITLE_SIZE,
    WIDTH,
    Box,
    arrows,
    boxes,
    environment_chart,
)
from vegtts_core.book.figures import draw, specification
from vegtts_core.evaluator.types import Stage

BOXES = boxes()
#: An average letter's width over the font's size, for Liberation Sans; bold ones are wider.
LETTER = {"normal": 0.52, "bold": 0.58}


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def touches(point: tuple[float, float], box: Box) -> bool:
    x, y = point
    beside = box.top <= y <= box.bottom and x in (box.left, box.right)
    return beside or (box.left <= x <= box.right and y in (box.top, box.bottom))


@pytest.mark.parametrize("box", BOXES, ids=lambda box: box.title)
def test_words_fit(box: Box) -> None:
    room = box.right - box.left - 8
    assert LETTER["bold"] * TITLE_SIZE * len(box.title) <= room
    assert LETTER["normal"] * DETAIL_SIZE * len(box.detail) <= room
    assert 0 <= box.left < box.right <= WIDTH and 0 <= box.top < box.bottom <= HEIGHT


def test_boxes_lie_apart_or_inside_their_group() -> None:
    for one, other in combinations(BOXES, 2):
        apart = one.right <= other.left or other.right <= one.left or one.bottom <= other.top or other.bottom <= one.top
        inside = one.left < other.left and other.right < one.right and one.top < other.top and other.bottom < one.bottom
        assert apart or (one.is_group and inside), (one.title, other.title)


def test_arrows_go_from_box_to_box_along_the_axes() -> None:
    inner = [box for box in BOXES if not box.is_group]
    for arrow in arrows():
        for end in (arrow.points[0], arrow.points[-1]):
            assert any(touches(end, box) for box in inner), arrow
        assert all(a[0] == b[0] or a[1] == b[1] for a, b in zip(arrow.points, arrow.points[1:], strict=False))


def test_the_five_stages_in_order() -> None:
    trusted = [box for box in BOXES if box.title[0].isdigit()]
    assert [box.title for box in trusted] == [f"{place} {stage}" for place, stage in enumerate(Stage, 1)]
    assert [box.top for box in trusted] == sorted(box.top for box in trusted)


@pytest.mark.parametrize("paint", PAINT)
def test_contrast(paint: str) -> None:
    fill, outline = (luminance(colour) for colour in PAINT[paint])
    assert (fill + 0.05) / (luminance(theme.TEXT) + 0.05) >= 7
    assert (1.05) / (outline + 0.05) >= 3


def test_the_picture_is_the_same_each_time() -> None:
    first, second = (draw(specification(environment_chart()), "fig-x") for _ in range(2))
    assert first == second
    words = " ".join(text for text in ElementTree.fromstring(first).itertext())
    assert all(box.title in words and box.detail in words for box in BOXES)
