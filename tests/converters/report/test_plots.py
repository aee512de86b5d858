import re
from xml.etree import ElementTree as ET

import pytest

from converters.report.plots import WIDTH, Bar, columns, rows

BARS = [Bar("none", 0, "0"), Bar("<few>", 3, "3"), Bar("many", 900, "900 & more", is_bad=True)]


def numbers(svg, name):
    return [float(text) for text in re.findall(rf' {name}="([-0-9.]+)"', svg)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: columns(BARS, title="a <b>", x_label="x", marks_last="limit"),
        lambda: rows(BARS, title="a <b>"),
    ],
)
def test_a_plot_is_well_formed_escaped_and_within_its_frame(draw):
    svg = draw()
    root = ET.fromstring(svg)
    width, height = (float(n) for n in root.attrib["viewBox"].split()[2:])
    assert width == WIDTH
    for mark in root.iter("rect"):
        x, y = float(mark.attrib["x"]), float(mark.attrib["y"])
        assert 0 <= x <= x + float(mark.attrib["width"]) <= width
        assert 0 <= y <= y + float(mark.attrib["height"]) <= height
    texts = [text.text for text in root.iter("text")]
    assert {"<few>", "900 & more"} <= set(texts)
    assert [mark.attrib["class"] for mark in root.iter("rect")][-2:] == ["bar", "bad"]


def test_a_small_bar_beside_a_large_one_is_seen():
    heights = numbers(
        columns([Bar("a", 1, "1"), Bar("b", 10**6, "many")], title="t", x_label="x"), "height"
    )
    assert min(heights) >= 2


@pytest.mark.parametrize("bars", [[], [Bar("a", 0, "0")]])
def test_nothing_to_draw_is_no_error(bars):
    ET.fromstring(columns(bars, title="t", x_label="x"))
    ET.fromstring(rows(bars, title="t"))
