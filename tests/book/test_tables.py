"""Tables, boxes and numbers in sentences."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.book.boxes import Comparison, Takeaway
from vegtts_core.book.prose import interval, number, plain
from vegtts_core.book.tables import Column, Table, side_by_side
from vegtts_core.statistics import Interval

PUBLISHED = pd.DataFrame({"k": ["1", "2"], "rate": [0.533, 0.724], "std": [0.032, 0.041]})
HERE = pd.DataFrame({"k": ["2", "4"], "rate": [Interval(0.5, 0.41, 0.66, 5), Interval(1.0, math.nan, math.nan, 1)]})


def two_sided() -> Table:
    columns = {"rate": Column("pass@K", ".1%"), "std": Column("std", ".1%")}
    return side_by_side(PUBLISHED, HERE, "k", "tab-k", "Rates, *both*.", Column("K"), columns)


@pytest.mark.parametrize(
    ("value", "fmt", "text"),
    [
        (0.533, ".1%", "53.3%"),
        (None, ".1%", "–"),
        (math.nan, "", "–"),
        (-0.047, ".2f", "−0.05"),
        (859.8, "{:.1f}×", "859.8×"),
        ("as it is", ".2f", "as it is"),
        (3, lambda value: "i" * value, "iii"),
        (Interval(0.53, 0.41, 0.66, 5), ".2f", "0.53 [0.41, 0.66]"),
        (Interval(0.53, math.nan, math.nan, 1), ".2f", "0.53 (no interval)"),
    ],
)
def test_number(value, fmt, text):
    assert number(value, fmt) == text


def test_interval():
    assert interval(-0.1, -0.2, 0.05) == "−0.10 [−0.20, 0.05]"


def test_two_sides_line_up():
    assert two_sided().rows == [
        ["1", "53.3%", "3.2%", "–"],
        ["2", "72.4%", "4.1%", "50.0% [41.0%, 66.0%]"],
        ["4", "–", "–", "100.0% (no interval)"],
    ]
    assert two_sided().groups == [("", 1), ("published", 2), ("measured here", 1)]


class Balance(HTMLParser):
    """Counts columns per row and complains of unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.columns: list[int] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        attributes = dict(attrs)
        assert not {"id", "style"} & set(attributes)
        if tag == "tr":
            self.columns.append(0)
        elif tag in ("td", "th"):
            self.columns[-1] += int(attributes.get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_balanced_and_scoped():
    parser = Balance()
    parser.feed(two_sided().html())
    assert parser.open == []
    assert set(parser.columns) == {4}
    assert "<b>" in Table(PUBLISHED, "t", "c", {"k": Column("K")}, emphasis=(0,)).html()


def test_the_same_bytes_twice():
    assert two_sided()._repr_mimebundle_() == two_sided()._repr_mimebundle_()


def test_markdown_is_a_myst_table():
    text = two_sided().markdown()
    assert text.startswith(":::{table} Rates, *both*.\n:name: tab-k\n\n| K | published: pass@K |")
    assert "| :--- | ---: | ---: | ---: |" in text


def test_pipes_do_not_split_cells():
    frame = pd.DataFrame({"a": ["x | y"]})
    assert r"x \| y" in Table(frame, "t", "c", {"a": Column("a")}).markdown()


@given(st.text(alphabet="ab<>&\"'", max_size=8))
def test_cells_are_escaped(text):
    html = Table(pd.DataFrame({"a": [text]}), "t", "c", {"a": Column("a")}).html()
    parser = Balance()
    parser.feed(html)
    assert parser.open == []


def test_plain():
    assert plain("see {numref}`fig-x`, {term}`rollouts <rollout>` {cite:p}`chen2021` and **$K$**") == (
        "see fig-x, rollouts [chen2021] and K"
    )


def test_boxes_carry_both_sides():
    data, _ = Comparison("Claim", "30%", "0.5 [0.4, 0.6]", "Not shown.")._repr_mimebundle_()
    for text in data.values():
        assert "30%" in text and "0.5 [0.4, 0.6]" in text and "Not shown." in text
    assert "Remember" in Takeaway("Remember.")._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize("noise", [-1e-16, 0.0, 1e-16])
def test_halves_are_rounded_as_the_paper_rounds_them_on_any_processor(noise):
    assert [number(each + noise, ".1%") for each in (0.3625, 0.2625, 0.1625)] == ["36.3%", "26.3%", "16.3%"]
    assert number(-0.0375 - noise, ".1%") == "−3.8%" and number(0.5, ".0%") == "50%"
