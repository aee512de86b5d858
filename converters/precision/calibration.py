"""Calibration rows: matched with the model's inputs, checked, and given a few at a time.

Decides whether a file is fit to calibrate with: its names, shapes and dtypes before a row is read,
its numbers as they pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from converters.errors import ConversionError
from converters.precision.stored import StoredArray, open_arrays
from converters.precision.table import open_table
from converters.samples import UNNAMED, pick_columns, spread
from converters.sources.base import fit_dtype
from edged.manifest import TensorEntry
from edged.tensors import Array

MIN_ROWS = 8
"""Fewer tell nothing of the range that a value has."""
MAX_ROWS = 2048
"""Evenly spread over the file: more of them hardly move a range, and each is run once or twice."""
CHUNK_ROWS = 8
"""Rows of one run: eight pictures of 224x224 take some hundred megabytes inside a deep network."""


class Rows(Protocol):
    """What ranges are taken from, whatever it is kept in."""

    @property
    def row_bytes(self) -> int:
        """Of one row, about."""
        ...

    def chunks(self, rows: int) -> Iterator[dict[str, Array]]:
        """The rows, at most so many at a time, in the model's dtypes; each time the same."""
        ...

    def told(self) -> str:
        """How much of it is used, in words."""
        ...

    def facts(self) -> dict[str, object]:
        """The same for the manifest, once all chunks were taken."""
        ...


@dataclass(frozen=True)
class Calibration:
    """A file of arrays to calibrate with, by the model's input names.

    Args:
        arrays: what each input gets.
        entries: the model's inputs.
        rows: rows in the file.
        picks: column numbers that make up an input of a CSV; empty takes all.
    """

    arrays: Mapping[str, StoredArray]
    entries: tuple[TensorEntry, ...]
    rows: int
    picks: tuple[int, ...] = ()

    @property
    def used(self) -> int:
        """How many rows ``chunks`` gives."""
        return len(spread(self.rows, MAX_ROWS))

    @property
    def row_bytes(self) -> int:
        """As the file has it, or as the model takes it if that is more."""
        return sum(
            int(np.prod(self.arrays[entry.name].shape[1:]))
            * max(self.arrays[entry.name].dtype.itemsize, np.dtype(entry.dtype).itemsize)
            for entry in self.entries
        )

    def told(self) -> str:
        """How many rows are used."""
        return f"{self.used} of {self.rows} rows"

    def facts(self) -> dict[str, object]:
        """The same for the manifest."""
        return {"rows": self.rows, "rows_used": self.used}

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[dict[str, Array]]:
        """The rows, at most so many at a time, in the model's dtypes.

        Raises:
            ConversionError: a number that is not finite; names input and row.
        """
        wanted = np.zeros(self.rows, dtype=bool)
        wanted[spread(self.rows, MAX_ROWS)] = True
        streams = [self.arrays[entry.name].read(rows) for entry in self.entries]
        for start, parts in zip(range(0, self.rows, rows), zip(*streams, strict=True), strict=True):
            kept = np.flatnonzero(wanted[start : start + rows])
            if len(kept):
                yield {
                    entry.name: self._fit(entry, part, kept, start)
                    for entry, part in zip(self.entries, parts, strict=True)
                }

    def _fit(self, entry: TensorEntry, part: Array, kept: Array, start: int) -> Array:
        part = part[kept][:, list(self.picks)] if self.picks else part[kept]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            bad = ~np.isfinite(part).reshape(len(part), -1).all(axis=1)
            row = start + int(kept[np.flatnonzero(bad)[0]])
            raise ConversionError(
                f'calibration: input "{entry.name}", row {row}: expected finite numbers, got NaN '
                "or infinity; leave such rows out, a range cannot be told from them"
            )
        return np.ascontiguousarray(fit_dtype(part, entry.dtype, entry.name))


def open_calibration(
    path: Path,
    names: Sequence[str],
    entries: Sequence[TensorEntry],
    *,
    features: Sequence[str] = (),
    truth: str = "",
) -> Calibration:
    """Match a file with the model's inputs.

    Args:
        path: a .npz, .npy or .csv file.
        names: the source's own input names, by which the samples are called too.
        entries: the inputs under their final names, in the same order.
        features: columns of a CSV that make up the only input.
        truth: the array or column that holds the right answers: no input.

    Raises:
        ConversionError: other names, shapes or dtypes, or too few rows; says expected and got.
    """
    arrays, columns = _open(path)
    picks: tuple[int, ...] = ()
    if columns:
        picks = pick_columns(columns, [c for c in features or columns if c != truth])
    elif truth:
        arrays.pop(truth, None)
    given = _match(path.name, arrays, names, entries)
    for entry in entries:
        _check(path.name, entry, given[entry.name], len(picks))
    lengths = {name: array.shape[0] for name, array in given.items()}
    rows = next(iter(lengths.values()))
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f'"{name}" {length}' for name, length in lengths.items())
        raise ConversionError(
            f'calibration "{path.name}": every array needs the same number of rows, got {listed}'
        )
    if rows < MIN_ROWS:
        raise ConversionError(
            f'calibration "{path.name}": expected at least {MIN_ROWS} rows, got {rows}; some '
            "hundred that look like what the device will see are better"
        )
    return Calibration(given, tuple(entries), rows, picks)


def _open(path: Path) -> tuple[dict[str, StoredArray], tuple[str, ...]]:
    """The arrays of a file by name, and the columns of a CSV; like ``samples.load_samples``."""
    if path.suffix.lower() == ".csv":
        table, columns = open_table(path)
        return {UNNAMED: table}, columns
    return open_arrays(path), ()


def _match(
    file: str,
    arrays: Mapping[str, StoredArray],
    names: Sequence[str],
    entries: Sequence[TensorEntry],
) -> dict[str, StoredArray]:
    if len(entries) == 1 and len(arrays) == 1:
        return {entries[0].name: next(iter(arrays.values()))}
    found = {}
    for name, entry in zip(names, entries, strict=True):
        array = arrays.get(name, arrays.get(entry.name))
        if array is None:
            got = ", ".join(n for n in arrays if n != UNNAMED) or "one unnamed array"
            raise ConversionError(
                f'calibration "{file}": expected an array "{name}" for that input, got {got}'
            )
        found[entry.name] = array
    return found


def _check(file: str, entry: TensorEntry, array: StoredArray, columns: int) -> None:
    shape = (array.shape[0], columns) if columns else array.shape
    fits = len(shape) == len(entry.shape) and all(
        isinstance(axis, str) or axis == size
        for axis, size in zip(entry.shape[1:], shape[1:], strict=True)
    )
    kinds = {"f": "f", "i": "iuf", "u": "iuf", "b": "b"}[np.dtype(entry.dtype).kind]
    if fits and array.dtype.kind in kinds:
        return
    raise ConversionError(
        f'calibration "{file}": input "{entry.name}" expects {entry.spec()}, got {array.dtype}'
        f"[{','.join(map(str, shape))}]"
        + ("" if fits is False else "; bring the rows as the model gets them, after every scaling")
    )
