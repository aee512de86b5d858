"""The form of a result, and the files and the table made of them.

Every ``make bench-…`` writes a list of ``{name, value, unit, bar, holds, raw}``. A row that could
not be measured has no value, says why, and holds nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NOT_MEASURED = "NOT MEASURED"
_BAR = re.compile(r"(<=|>=|==) (-?[0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        name: stable; ``--only`` takes it or its beginning.
        value: what was measured; None when nothing was.
        unit: of value and bar; ``x`` for ratios.
        bar: ``<= 2.0``, ``>= 0.5`` or ``== 0``; empty for a figure without one.
        holds: whether the value is within the bar; None without value or bar.
        raw: what the value was made of, and what was said about it.
    """

    name: str
    value: float | None
    unit: str
    bar: str
    holds: bool | None
    raw: dict[str, Any] = field(default_factory=dict)


def measured(name: str, value: float, unit: str, bar: str, raw: dict[str, Any]) -> Row:
    """A row with a value, judged by its bar."""
    return Row(name, float(f"{value:.6g}"), unit, bar, holds(value, bar), raw)


def not_measured(name: str, unit: str, bar: str, why: str) -> Row:
    """A row without a value; it holds nothing."""
    return Row(name, None, unit, bar, None, {"why": why})


def holds(value: float, bar: str) -> bool | None:
    """Whether a value is within a bar; None when there is no bar."""
    if not bar:
        return None
    match = _BAR.fullmatch(bar)
    if match is None:
        raise ValueError(f'bar "{bar}": expected "<= N", ">= N" or "== N"')
    limit = float(match[2])
    return {"<=": value <= limit, ">=": value >= limit, "==": value == limit}[match[1]]


def merge(old: Iterable[dict[str, Any]], new: Sequence[Row]) -> list[dict[str, Any]]:
    """What a file holds after some of its rows were measured again."""
    fresh = {row.name: asdict(row) for row in new}
    kept = [fresh.pop(row["name"], row) for row in old]
    return [*kept, *fresh.values()]


def write(path: Path, rows: Sequence[Row], *, keep: bool = False) -> None:
    """Write a results file as a whole.

    Args:
        path: ``results.json`` or ``results-NAME.json``.
        rows: what was measured.
        keep: keep the rows of the file that were not measured now.
    """
    old = json.loads(path.read_text()) if keep and path.exists() else []
    path.write_text(json.dumps(merge(old, rows), indent=1) + "\n")


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    lines = [("what", "value", "unit", "bar", "holds")]
    words = {True: "yes", False: "NO", None: "-"}
    for row in rows:
        value = NOT_MEASURED if row.value is None else f"{row.value:.4g}"
        lines.append((row.name, value, row.unit, row.bar or "-", words[row.holds]))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    reasons = [f"{r.name}: {r.raw['why']}" for r in rows if r.value is None and "why" in r.raw]
    return "\n".join([text, *(["", *reasons] if reasons else [])])
