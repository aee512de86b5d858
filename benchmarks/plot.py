"""Lines over a common axis as an SVG: two panels, one logarithmic axis of time. Pure.

Written by hand, for what a plot of latencies needs is less than any plotting package brings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 400
_PANEL_W, _PANEL_H = 340, 250
_LEFT, _TOP, _APART = 70, 76, 410
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:bold}"
    ".g{stroke:#ddd}.a{stroke:#555}.o{stroke:#c33;stroke-dasharray:2 3}"
)


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Args:
        label: of the legend; the same in all panels.
        colour: as SVG says it.
        is_dashed: so that it differs on paper too.
        points: pairs of x and microseconds.
    """

    label: str
    colour: str
    is_dashed: bool
    points: Sequence[tuple[float, float]]


def draw(title: str, x_label: str, panels: Mapping[str, Sequence[Line]]) -> str:
    """The whole picture.

    Args:
        title: over all.
        x_label: under each panel.
        panels: lines by the panel's own title.

    Returns:
        An SVG document.
    """
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        ),
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text class="t" x="{_LEFT}" y="22">{escape(title)}</text>',
    ]
    first = next(iter(panels.values()))
    for index, line in enumerate(first):
        x = _LEFT + index * 190
        parts.append(_stroke(line, f"M{x} 40h26"))
        parts.append(f'<text x="{x + 32}" y="44">{escape(line.label)}</text>')
    for index, (name, lines) in enumerate(panels.items()):
        parts += _panel(_LEFT + index * _APART, name, x_label, lines)
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: float, name: str, x_label: str, lines: Sequence[Line]) -> Iterator[str]:
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    most = math.ceil(max(xs) * 4 - 1e-9) / 4
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)

    def across(x: float) -> float:
        return left + _PANEL_W * x / most

    def down(y: float) -> float:
        return _TOP + _PANEL_H * (1 - (math.log10(y) - low) / (high - low))

    bottom = _TOP + _PANEL_H
    yield f'<text x="{left}" y="{_TOP - 10}">{escape(name)}</text>'
    for decade in range(low, high + 1):
        y = down(10.0**decade)
        yield f'<path class="g" d="M{left} {y:.1f}h{_PANEL_W}"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_time(decade)}</text>'
    for step in range(int(most * 4) + 1):
        x = across(step / 4)
        kind = "o" if step == 4 else "g"
        yield f'<path class="{kind}" d="M{x:.1f} {_TOP}v{_PANEL_H}"/>'
        if step % 2 == 0:
            yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{step / 4:g}</text>'
    yield f'<path class="a" d="M{left} {bottom}h{_PANEL_W}" fill="none"/>'
    middle = left + _PANEL_W / 2
    yield f'<text x="{middle:.0f}" y="{bottom + 40}" text-anchor="middle">{escape(x_label)}</text>'
    for line in lines:
        path = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in line.points)
        yield _stroke(line, f"M{path}")


def _stroke(line: Line, path: str) -> str:
    dashes = ' stroke-dasharray="5 4"' if line.is_dashed else ""
    return f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dashes}/>'


def _time(decade: int) -> str:
    for unit, power in (("s", 6), ("ms", 3), ("µs", 0)):
        if decade >= power:
            return f"{10 ** (decade - power)} {unit}"
    return f"{10.0**decade:g} µs"
