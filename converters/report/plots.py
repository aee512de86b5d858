"""Plots as inline SVG: bars and nothing else. Pure: numbers in, text out, nothing fetched.

Colours are the page's own variables, so that a plot follows light and dark; every bar has its
number in words, so that nothing hangs on colour or on measuring with the eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 640
_CHARACTER = 6.6
"""Width of a character at the size used, for room beside bars; a little too much is harmless."""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        label: under it, or left of it.
        value: its length.
        text: its number in words.
        is_bad: drawn in the colour of failure.
    """

    label: str
    value: float
    text: str
    is_bad: bool = False


def columns(
    bars: Sequence[Bar], *, title: str, x_label: str, height: int = 180, marks_last: str = ""
) -> str:
    """Standing bars.

    Args:
        bars: from left to right.
        title: what a screen reader says.
        x_label: under the axis.
        height: of the plot in pixels.
        marks_last: draws a line before the last bar, with these words.
    """
    top, bottom, left = 26, 44, 10
    most = max((bar.value for bar in bars), default=0) or 1
    step = (WIDTH - 2 * left) / max(1, len(bars))
    base = height - bottom
    parts = [_open(height, title)]
    for index, bar in enumerate(bars):
        x = left + index * step
        tall = (base - top) * bar.value / most
        middle = x + step / 2
        if bar.value:
            # A bar of one row beside one of thousands must still be seen.
            tall = max(tall, 2)
            kind = "bad" if bar.is_bad else "bar"
            parts.append(
                f'<rect class="{kind}" x="{x + step * 0.1:.1f}" y="{base - tall:.1f}" '
                f'width="{step * 0.8:.1f}" height="{tall:.1f}" rx="2"/>'
            )
            parts.append(_text(middle, base - tall - 5, bar.text, "middle"))
        parts.append(_text(middle, base + 15, bar.label, "middle", "dim"))
    parts.append(f'<line class="axis" x1="{left}" y1="{base}" x2="{WIDTH - left}" y2="{base}"/>')
    if marks_last:
        x = left + (len(bars) - 1) * step
        parts.append(f'<line class="limit" x1="{x:.1f}" y1="{top - 12}" x2="{x:.1f}" y2="{base}"/>')
        parts.append(_text(x - 5, top - 3, marks_last, "end", "dim"))
    parts.append(_text(WIDTH / 2, height - 8, x_label, "middle", "dim"))
    return "".join([*parts, "</svg>"])


def rows(bars: Sequence[Bar], *, title: str) -> str:
    """Lying bars, each with its label before and its number behind."""
    line = 26
    before = max((len(bar.label) for bar in bars), default=0) * _CHARACTER + 14
    behind = max((len(bar.text) for bar in bars), default=0) * _CHARACTER + 14
    room = max(60.0, WIDTH - before - behind)
    most = max((bar.value for bar in bars), default=0) or 1
    parts = [_open(line * len(bars) + 6, title)]
    for index, bar in enumerate(bars):
        y = index * line + 4
        long = max(room * bar.value / most, 2) if bar.value else 0
        kind = "bad" if bar.is_bad else "bar"
        parts.append(_text(before - 8, y + 14, bar.label, "end"))
        parts.append(
            f'<rect class="{kind}" x="{before:.1f}" y="{y}" width="{long:.1f}" height="18" rx="2"/>'
        )
        parts.append(_text(before + long + 7, y + 14, bar.text, "start", "dim"))
    return "".join([*parts, "</svg>"])


def _open(height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
