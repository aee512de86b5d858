"""The picture of a document of ``report``: bars on a logarithmic scale, written as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, _ROW, _TOP, _BELOW = 860, 34, 84, 36
_PANEL_W, _NAMES, _APART = 320, 110, 375
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:bold}"
    ".g{stroke:#ddd}.a{stroke:#555}.n{fill:#777;font-size:11px}"
)
OURS, OTHERS = ("#1663b0", "#8db8e0"), ("#777", "#bbb")


@dataclass(frozen=True)
class Panel:
    """One scale with a group of bars for each server.

    Args:
        title: over it, with what a longer bar means.
        bars: key of the document, and field of it, by the words of the legend; the first is dark.
        unit: ``/s`` or ``us``.
    """

    title: str
    bars: Mapping[str, tuple[str, str]]
    unit: str


PANELS = (
    Panel(
        "requests/s over HTTP (more is better, logarithmic)",
        {"16 connections": ("http-16", "per_s"), "1 connection": ("http-1", "per_s")},
        "/s",
    ),
    Panel(
        "p50 at 1 connection (less is better, logarithmic)",
        {"HTTP": ("http-1", "p50_us"), "gRPC": ("grpc-1", "p50_us")},
        "us",
    ),
)


def draw(document: Mapping[str, Any], title: str) -> str:
    """The whole picture: the servers in the order of their requests/s at 16 connections."""
    sides = sorted(document["sides"], key=lambda side: -_value(side, "http-16", "per_s"))
    height = _TOP + _ROW * len(sides) + _BELOW
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img">'
        ),
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="t" x="20" y="24">{escape(title)}</text>',
    ]
    for index, side in enumerate(sides):
        y = _TOP + _ROW * index + _ROW / 2 + 4
        parts.append(
            f'<text x="{_NAMES}" y="{y:.0f}" text-anchor="end">{escape(side["name"])}</text>'
        )
    for index, panel in enumerate(PANELS):
        parts += _panel(_NAMES + 10 + index * _APART, panel, sides)
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: float, panel: Panel, sides: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    keys = list(panel.bars.values())
    values = [value for side in sides for key in keys if (value := _value(side, *key))]
    low = math.floor(math.log10(0.7 * min(values, default=1)))  # the least is a bar too
    high = max(math.ceil(math.log10(max(values, default=10))), low + 1)

    def across(value: float) -> float:
        return (_PANEL_W - 50) * (math.log10(value) - low) / (high - low)

    bottom = _TOP + _ROW * len(sides)
    yield f'<text x="{left}" y="{_TOP - 32}">{escape(panel.title)}</text>'
    for index, words in enumerate(panel.bars):
        x = left + index * 130
        yield f'<rect x="{x}" y="{_TOP - 20}" width="12" height="9" fill="{OTHERS[index]}"/>'
        yield f'<text class="n" x="{x + 17}" y="{_TOP - 12}">{escape(words)}</text>'
    for decade in range(low, high + 1):
        x = left + across(10.0**decade)
        yield f'<path class="g" d="M{x:.1f} {_TOP}V{bottom}"/>'
        label = escape(_words(10.0**decade, panel.unit))
        yield f'<text class="n" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
    for row, side in enumerate(sides):
        colours = OURS if side["name"].startswith("edged") else OTHERS
        for index, key in enumerate(keys):
            if not (value := _value(side, *key)):
                continue
            y = _TOP + _ROW * row + 4 + index * 13
            width = max(across(value), 1)
            yield (
                f'<rect x="{left}" y="{y}" width="{width:.1f}" height="12" '
                f'fill="{colours[index]}"/>'
            )
            label = escape(_words(value, panel.unit))
            yield f'<text class="n" x="{left + width + 4:.1f}" y="{y + 10}">{label}</text>'
    yield f'<path class="a" d="M{left} {_TOP}V{bottom}"/>'


def _value(side: Mapping[str, Any], key: str, field: str) -> float:
    return float(side.get(key, {}).get(field, 0))


def _words(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value:,.0f}"
    for name, size in (("s", 1e6), ("ms", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} \u00b5s"
