"""A plot of latencies: what is drawn is where it belongs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from benchmarks.plot import Line, draw

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*points: tuple[float, float]) -> ET.Element:
    lines = [Line("one & all", "#123456", True, points)]
    text = draw("A <title>", "load", {"left": lines, "right": lines})
    return ET.fromstring(text)


def coordinates(root: ET.Element) -> list[tuple[float, float]]:
    (path, _) = (
        one.get("d", "")
        for one in root.iter(f"{SVG}path")
        if one.get("stroke") == "#123456" and "L" in one.get("d", "")
    )
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_time_is_logarithmic_and_load_is_not():
    (x0, y0), (x1, y1), (x2, y2) = coordinates(drawn((0.5, 100), (1.0, 1000), (1.5, 10_000)))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2, "longer is higher up"


def test_words_are_there_and_escaped():
    texts = [one.text for one in drawn((0.1, 150.0), (1.5, 90_000.0)).iter(f"{SVG}text")]
    assert {"A <title>", "one & all", "left", "right"} <= set(texts)
    assert {"100 µs", "1 ms", "10 ms", "100 ms"} <= set(texts)
    assert {"0", "0.5", "1", "1.5"} <= set(texts)


def test_one_flat_line_can_be_drawn():
    points = coordinates(drawn((0.5, 1000.0), (1.0, 1000.0)))
    assert points[0][1] == points[1][1]
