"""A CSV file of numbers, read a few rows at a time, however long it is.

Decides the same as ``samples`` about headers, empty cells and what is a number; holds no more than
the rows that were asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters.errors import ConversionError
from converters.precision.stored import StoredArray
from converters.samples import is_number
from edged.tensors import Array

LINE_CAP = 4 << 20
"""Characters of one line: a picture of 3x224x224 as text has 2.7 million."""


def open_table(path: Path) -> tuple[StoredArray, tuple[str, ...]]:
    """The table, and the names of its columns where the first line is a header.

    Raises:
        ConversionError: not readable, no rows, or lines of another length.
    """
    columns: tuple[str, ...] = ()
    width = rows = 0
    for number, cells in _lines(path):
        if not width:
            width = len(cells)
            if not all(map(is_number, cells)):
                columns = tuple(cell.strip() for cell in cells)
                continue
        if len(cells) != width:
            raise _wrong(path, f"line {number} has {len(cells)} cells, expected {width}")
        rows += 1
    if not rows:
        raise _wrong(path, "holds no row")

    def read(at_once: int) -> Iterator[Array]:
        lines = _lines(path)
        if columns:
            next(lines)
        part: list[list[float]] = []
        for number, cells in lines:
            part.append(_numbers(path, number, cells, columns))
            if len(part) == at_once:
                yield np.array(part, np.float64)
                part = []
        if part:
            yield np.array(part, np.float64)

    return StoredArray(np.dtype(np.float64), (rows, width), read), columns


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines that hold something, in cells, by number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(iter(lambda: _capped(path, file.readline(LINE_CAP)), ""))
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as exc:
        raise ConversionError(f'calibration "{path}": {exc.strerror or exc}') from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise _wrong(path, str(exc)) from exc


def _capped(path: Path, line: str) -> str:
    if len(line) == LINE_CAP:
        raise _wrong(path, f"a line of over {LINE_CAP} characters; bring a .npz file")
    return line


def _numbers(path: Path, number: int, cells: list[str], columns: tuple[str, ...]) -> list[float]:
    try:
        return [float(cell or "nan") for cell in cells]
    except ValueError:
        at = next(index for index, cell in enumerate(cells) if not is_number(cell))
        name = columns[at] if columns else f"column {at + 1}"
        raise _wrong(
            path,
            f'line {number}, {name}: "{cells[at][:40]}" is not a number; int8 takes no words: '
            "encode them before the model",
        ) from None


def _wrong(path: Path, reason: str) -> ConversionError:
    return ConversionError(f'calibration "{path.name}": {reason}')
