"""Samples: real inputs from .npz, .npy or .csv, as named arrays of numbers or strings.

Decides which rows are used. Never unpickles: an array of objects is refused.
"""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from converters import elements
from converters.errors import ConversionError
from edged.strings import STRINGS_CAP
from edged.tensors import Array

UNNAMED = "*"
"""The name of the array of a file that holds only one and does not name it."""
GENERATED_ROWS = 64
"""Enough for every batch size that is tried, few enough that nobody takes them for data."""
FREE_AXIS = 16
"""The length of a free axis in made rows: windows of convolutions and a short text both fit."""
SMALL_NUMBERS = 10
"""Made whole numbers are below it: most of them are ids, and the smallest tables have ten."""
MAX_ROWS = 4096
MAX_FILE_BYTES = 8 << 30
"""Unpacked: it is held in memory, and of it MAX_BYTES are used."""
MAX_BYTES = 256 << 20
"""Enough rows to prove numbers on, few enough for a laptop: outputs are held twice."""


def load_samples(path: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Read a samples file.

    Returns:
        Arrays by input name (``*`` where the file has no names), and the column names of a CSV.

    Raises:
        ConversionError: not readable, neither numbers nor strings, or empty.
    """
    readers = {".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConversionError(
            f'samples "{path.name}": expected a .npz, .npy or .csv file; '
            "save yours with numpy.savez(file, INPUT=array)"
        )
    try:
        arrays, columns = reader(path)
    except OSError as exc:
        raise ConversionError(f'samples "{path}": {exc.strerror or exc}') from exc
    except (ValueError, zipfile.BadZipFile, EOFError, csv.Error) as exc:
        raise ConversionError(f'samples "{path.name}": {exc}') from exc
    except MemoryError as exc:
        raise ConversionError(f'samples "{path.name}": more than fits into memory') from exc
    if not arrays:
        raise ConversionError(f'samples "{path.name}": holds no array')
    for name, array in arrays.items():
        _check_elements(path.name, name, array)
    return arrays, columns


def _read_npz(path: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    with zipfile.ZipFile(path) as listing:
        unpacked = sum(info.file_size for info in listing.infolist())
    if unpacked > MAX_FILE_BYTES:
        raise ValueError(f"unpacks to {unpacked} bytes, over {MAX_FILE_BYTES}; bring fewer rows")
    arrays: dict[str, Array] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            array = _unpickled(name, partial(archive.__getitem__, name))
            if not isinstance(array, np.ndarray):
                raise ValueError(f'"{name}" is not an array of numpy')  # noqa: TRY004  (a file)
            plain, held = elements.from_file(array, name)
            if plain in arrays:
                raise ValueError(f'holds "{plain}" twice, once as its bits')
            arrays[plain] = held
    return arrays, ()


def _unpickled(name: str, load: Callable[[], Array]) -> Array:
    """An array of a file; one of objects would have to be unpickled, which can run anything."""
    try:
        return load()
    except ValueError as exc:
        if "Object arrays" not in str(exc):
            raise
        raise ValueError(
            f'array "{name}" holds Python objects, which are not opened; save text as '
            'array.astype("U") or bytes as array.astype("S")'
        ) from None


def _read_npy(path: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    array = _unpickled(UNNAMED, lambda: np.load(path, allow_pickle=False))
    return {UNNAMED: elements.from_file(array, UNNAMED)[1]}, ()


def _read_csv(path: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Rows of numbers; a first line with anything else in it is the header. Empty is NaN."""
    columns, lines = _read_lines(path)
    table, _ = _number_cells(columns, lines, takes_words=False)
    return {UNNAMED: table}, columns


def load_worded(
    path: Path,
) -> tuple[dict[str, Array], tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Read a samples file whose columns may hold words, which only a .csv with a header has.

    Returns:
        As ``load_samples``; and by name of each column with words, its words: in the table stands
        which of them it is, and NaN where the cell is empty.

    Raises:
        ConversionError: as ``load_samples``.
    """
    if path.suffix.lower() != ".csv":
        return *load_samples(path), {}
    try:
        columns, lines = _read_lines(path)
        table, words = _number_cells(columns, lines, takes_words=True)
    except OSError as exc:
        raise ConversionError(f'samples "{path}": {exc.strerror or exc}') from exc
    except (ValueError, csv.Error) as exc:
        raise ConversionError(f'samples "{path.name}": {exc}') from exc
    _check_elements(path.name, UNNAMED, table)
    return {UNNAMED: table}, columns, words


def _read_lines(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header, where the first line is one, and the cells of the other lines."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise ValueError("holds no line")
    columns: tuple[str, ...] = ()
    if not all(map(is_number, lines[0])):
        columns = tuple(cell.strip() for cell in lines.pop(0))
    width = len(columns or lines[0])
    for number, line in enumerate(lines, start=2 if columns else 1):
        if len(line) != width:
            raise ValueError(f"line {number} has {len(line)} cells, expected {width}")
    return columns, lines


def is_number(cell: str) -> bool:
    """Whether a cell of a table holds a number, or nothing."""
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _number_cells(
    columns: tuple[str, ...], lines: list[list[str]], *, takes_words: bool
) -> tuple[Array, dict[str, tuple[str, ...]]]:
    """float64[rows, columns], and the words of the columns in which not every cell is a number."""
    table = np.empty((len(lines), len(columns or (lines or [[]])[0])), dtype=np.float64)
    words: dict[str, tuple[str, ...]] = {}
    for index in range(table.shape[1]):
        cells = [line[index] for line in lines]
        if takes_words and columns and not all(map(is_number, cells)):
            if columns.count(columns[index]) > 1:
                raise ValueError(f'two columns are called "{columns[index]}", and hold words')
            known = {word: code for code, word in enumerate(sorted(set(cells) - {""}))}
            table[:, index] = [known.get(cell, np.nan) for cell in cells]
            words[columns[index]] = tuple(known)
            continue
        for row, cell in enumerate(cells):
            table[row, index] = _number(cell, row + (2 if columns else 1), index, columns)
    return table, words


def _number(cell: str, line: int, index: int, columns: tuple[str, ...]) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        name = columns[index] if columns else f"column {index + 1}"
        raise ValueError(
            f'line {line}, {name}: "{cell[:40]}" is not a number; words are taken only as samples '
            "of a scikit-learn model, from a .csv file with a header: else encode them before"
        ) from None


def _check_elements(file: str, name: str, array: Array) -> None:
    if array.dtype.kind not in "biuf" and not elements.is_special(array):
        raise ConversionError(
            f'samples "{file}", array "{name}": dtype {array.dtype} holds neither numbers nor '
            "strings"
        )
    if array.size == 0:
        raise ConversionError(f'samples "{file}", array "{name}": is empty')


def pick_columns(columns: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """The places of columns in a table.

    Raises:
        ConversionError: some are not there; lists both.
    """
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise ConversionError(
            f"samples: no column {', '.join(missing)}; the file has {', '.join(columns)}"
        )
    return tuple(columns.index(name) for name in wanted)


def take_truth(
    arrays: Mapping[str, Array], columns: tuple[str, ...], name: str
) -> tuple[dict[str, Array], tuple[str, ...], Array]:
    """Part the right answers from the inputs.

    Args:
        arrays: as ``load_samples`` gives them.
        columns: likewise.
        name: the array, or the column of a CSV, that holds them.

    Returns:
        The arrays and columns without it, and int64[rows].

    Raises:
        ConversionError: it is not there, or not one whole number a row.
    """
    rest = dict(arrays)
    if columns:
        (place,) = pick_columns(columns, [name])
        truth = rest[UNNAMED][:, place]
        rest[UNNAMED] = np.delete(rest[UNNAMED], place, axis=1)
        columns = tuple(column for column in columns if column != name)
    elif name in rest and len(rest) > 1:
        truth = rest.pop(name)
    else:
        raise ConversionError(
            f'samples: no array "{name}" beside the inputs; the right answers lie in the .npz file '
            "of the samples, or are a column of a .csv with a header"
        )
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim != 1 or truth.dtype.kind not in "iuf" or not (np.mod(truth, 1) == 0).all():
        raise ConversionError(
            f'samples: "{name}" expects one whole number a row (the class, from 0 on), got '
            f"{truth.dtype} {list(truth.shape)}"
        )
    return rest, columns, truth.astype(np.int64)


def generate(
    signature: Mapping[str, tuple[str, tuple[int | None, ...]]],
    rows: int,
    words: Iterable[bytes] = (),
) -> dict[str, Array]:
    """Rows made from a signature, the same on every machine, where the user brings none.

    They prove that two programs compute the same, not that either answers well on real data.

    Args:
        signature: dtype, and shape without the row axis, by input; None is a free axis.
        rows: how many.
        words: that the model knows, for inputs of strings.

    Raises:
        ConversionError: an input that nothing can be made for.
    """
    made: dict[str, Array] = {}
    for index, (name, (dtype, axes)) in enumerate(signature.items()):
        is_special = dtype in elements.SPECIAL
        kind = np.dtype(object) if is_special else np.dtype(dtype)
        shape = (rows, *(FREE_AXIS if axis is None else axis for axis in axes))
        is_many = dtype == "string" and math.prod(shape) > STRINGS_CAP
        if is_many or math.prod(shape) * kind.itemsize > MAX_BYTES:
            raise ConversionError(
                f'input "{name}": {rows} made rows of {list(axes)} are over '
                + (f"{STRINGS_CAP} strings" if is_many else f"{MAX_BYTES} bytes")
                + "; bring --samples"
            )
        source = np.random.default_rng([7, index])
        if is_special:
            made[name] = elements.make(dtype, shape, words, source)
        elif kind.kind == "f":
            made[name] = source.normal(size=shape).astype(kind)
        elif kind.kind == "b":
            made[name] = source.integers(0, 2, size=shape).astype(kind)
        else:
            made[name] = source.integers(0, SMALL_NUMBERS, size=shape).astype(kind)
    return made


def choose_rows(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Take at most MAX_ROWS rows, MAX_BYTES bytes and STRINGS_CAP strings an array.

    They are evenly spread, and the same on every machine.

    Raises:
        ConversionError: the arrays differ in their number of rows.
    """
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    rows = next(iter(lengths.values()))
    if len(set(lengths.values())) != 1 or rows == 0:
        listed = ", ".join(f'"{name}" {length}' for name, length in lengths.items())
        raise ConversionError(
            f"samples: every array needs the same number of rows on axis 0; got {listed} "
            "(a model without a row axis: --batch none)"
        )
    row_bytes = max(1, sum(array.nbytes for array in arrays.values()) // rows)
    texts = [array.size // rows for array in arrays.values() if elements.is_text(array)]
    most = min(MAX_ROWS, max(8, MAX_BYTES // row_bytes), STRINGS_CAP // max([1, *texts]))
    if most < 1:
        raise ConversionError(
            f"samples: {max(texts)} strings in one row; at most {STRINGS_CAP} are carried at once"
        )
    picked = spread(rows, most)
    return {name: np.ascontiguousarray(array[picked]) for name, array in arrays.items()}


def spread(rows: int, wanted: int) -> list[int]:
    """At most ``wanted`` row numbers below ``rows``, first and last among them, evenly spread."""
    if rows <= wanted:
        return list(range(rows))
    if wanted == 1:
        return [0]
    return sorted({index * (rows - 1) // (wanted - 1) for index in range(wanted)})
