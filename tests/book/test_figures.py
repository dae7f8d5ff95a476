"""Figures: the same bytes each time, on the page's terms, in colours that can be told apart."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import altair as alt
import numpy as np
import pandas as pd
import pytest

from vegtts_core.book import theme
from vegtts_core.book.charts import Axis, grouped_intervals, point_interval, scaling_curve, strips
from vegtts_core.book.figures import METADATA, Figure, draw, round_floats, specification
from vegtts_core.errors import UserError
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.selection import STRATEGIES

RATES = pd.DataFrame(
    {
        "strategy": [strategy.name for strategy in STRATEGIES],
        "rate": [1.0, 0.9, 0.6, 0.5, 0.4],
        "low": [0.9, 0.7, 0.4, 0.3, np.nan],
        "high": [1.0, 1.0, 0.8, 0.7, np.nan],
        "source": "paper",
    }
)
CURVE = pd.DataFrame({"protocol": "sound", "k": [1, 2, 4], "p": [0.5, 0.7, 0.9], "low": 0.4, "high": 1.0})
SAMPLES = pd.DataFrame({"task": ["4", "4", "5"], "surprisal": [0.1, 0.5, 0.3], "speedup": [0.5, 1.2, 1.0 / 3]})

CHARTS = {
    "points": lambda: point_interval(RATES, "strategy", Axis("rate", "rate", ".0%"), "low", "high", reference=0.5),
    "groups": lambda: grouped_intervals(RATES, "strategy", "source", Axis("rate", "rate"), "low", "high"),
    "curve": lambda: scaling_curve(
        CURVE, Axis("k", "K"), Axis("p", "pass@K"), "low", "high", "protocol", {"TTT": 0.35}
    ),
    "strips": lambda: strips(SAMPLES, "task", Axis("surprisal", "nats"), Axis("speedup", "speedup", log=True)),
}


@pytest.mark.parametrize("kind", CHARTS)
def test_equal_charts_give_equal_bytes(kind):
    first, second = (draw(specification(CHARTS[kind]()), "fig-x") for _ in range(2))
    assert first == second
    root = ElementTree.fromstring(first)
    assert float(root.attrib["width"]) > 100
    assert set(re.findall(r'font-family="([^"]*)"', first)) == {theme.FONT}
    assert all(name.startswith("fig-x-") for name in re.findall(r'\bid="([^"]*)"', first))
    assert "NaN" not in first


def test_another_process_gives_the_same_bytes():
    code = (
        "import pandas as pd, altair as alt\n"
        "from vegtts_core.book.figures import draw, specification\n"
        "frame = pd.DataFrame({'x': [1, 2], 'y': [0.1, 0.2]})\n"
        "print(draw(specification(alt.Chart(frame).mark_point(clip=True).encode(x='x', y='y')), 'p'))\n"
    )
    frame = pd.DataFrame({"x": [1, 2], "y": [0.1, 0.2]})
    for _ in range(3):  # counters of this process have moved on
        here = draw(specification(alt.Chart(frame).mark_point(clip=True).encode(x="x", y="y")), "p")
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.rstrip("\n") == here.rstrip("\n")


def test_bundle_of_a_figure():
    data, metadata = Figure(CHARTS["points"](), "fig-rates", "Rates {cite:p}`chen2021`, *all*.")._repr_mimebundle_()
    assert set(data) == {theme.VEGALITE_MIME, "image/svg+xml", "text/plain"}
    assert metadata[METADATA]["name"] == "fig-rates"
    assert 'aria-label="Rates [chen2021], all."' in data["image/svg+xml"]
    assert data[theme.VEGALITE_MIME]["$schema"] == theme.VEGALITE_SCHEMA


def test_large_data_is_refused():
    frame = pd.DataFrame({"x": range(5000), "y": range(5000)})
    with pytest.raises(UserError, match="5000 rows"):
        specification(alt.Chart(frame).mark_point().encode(x="x", y="y"))


def test_last_bits_do_not_move_a_figure():
    assert round_floats({"a": [0.1 + 0.2, 3, "t"]}) == {"a": [0.3, 3, "t"]}


def test_fixed_colours_cover_protocols_and_strategies():
    assert set(theme.PROTOCOL_COLOURS) == {name.value for name in ProtocolName}
    assert set(theme.STRATEGY_COLOURS) == {strategy.name for strategy in STRATEGIES}


def test_a_name_keeps_its_colour_in_any_company():
    paper, sound, other = theme.colours(["paper", "here, sound", "something else"])
    assert sound == theme.PROTOCOL_COLOURS["sound"] and paper == theme.SOURCE_COLOURS["paper"]
    assert len({paper, sound, other}) == 3


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast_on_white(colour: str) -> float:
    return 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_contrast():
    marks = {*theme.PROTOCOL_COLOURS.values(), *theme.STRATEGY_COLOURS.values(), *theme.CATEGORY_COLOURS}
    assert {colour for colour in marks if contrast_on_white(colour) < 3} == set()
    assert contrast_on_white(theme.TEXT) > 7


# Machado, Oliveira, Fernandes (2009), full severity; linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("palette", ["PROTOCOL_COLOURS", "STRATEGY_COLOURS", "SOURCE_COLOURS"])
def test_colours_stay_apart(palette, deficiency):
    seen = [lab(np.array(DEFICIENCIES[deficiency]) @ linear(c)) for c in getattr(theme, palette).values()]
    distances = [float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 15


def test_last_bits_of_the_data_change_nothing():
    nudged = RATES.assign(rate=RATES["rate"] * (1 + 2**-52))
    charts = (point_interval(rates, "strategy", Axis("rate", "rate"), "low", "high") for rates in (RATES, nudged))
    first, second = map(specification, charts)
    assert first == second and "data-" not in str(first)
    assert round_floats([-3e-18, 1e-9]) == [0.0, 1e-9]
