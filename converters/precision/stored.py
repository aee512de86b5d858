"""Arrays of numbers on disk, read a few rows at a time: ``.npz`` and ``.npy``.

Never holds more of a NumPy file than the rows that were asked for, and never unpickles.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from converters.errors import ConversionError
from converters.samples import UNNAMED
from edged.tensors import Array

ROW_CAP_BYTES = 256 << 20
"""Of one row: a picture of 4096x4096 in float32 has 200 MB."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class StoredArray:
    """One array of a file.

    Args:
        dtype: of its numbers.
        shape: axis 0 is the rows.
        read: rows from the first on, at most so many at a time.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    read: Callable[[int], Iterator[Array]]


def open_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file by name; one without a name is ``samples.UNNAMED``.

    Raises:
        ConversionError: not readable, not numbers, or in an order of which rows cannot be read.
    """
    kind = path.suffix.lower()
    if kind not in (".npz", ".npy"):
        raise ConversionError(
            f'calibration "{path.name}": expected a .npz, .npy or .csv file, a folder of pictures, '
            "or a recording of MQTT messages (.jsonl)"
        )
    try:
        if kind == ".npy":
            return {UNNAMED: _open_npy(path.name, UNNAMED, lambda: path.open("rb"))}
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
        arrays = {
            name.removesuffix(".npy"): _open_npy(
                path.name, name.removesuffix(".npy"), _Member(path, name)
            )
            for name in names
        }
    except OSError as exc:
        raise ConversionError(f'calibration "{path}": {exc.strerror or exc}') from exc
    except (ValueError, zipfile.BadZipFile, EOFError) as exc:
        raise ConversionError(f'calibration "{path.name}": {exc}') from exc
    if not arrays:
        raise ConversionError(f'calibration "{path.name}": holds no array')
    return arrays


@dataclass(frozen=True)
class _Member:
    """Opens one file of a zip archive."""

    path: Path
    name: str

    def __call__(self) -> IO[bytes]:
        return zipfile.ZipFile(self.path).open(self.name)


def _open_npy(file: str, name: str, opened: Callable[[], IO[bytes]]) -> StoredArray:
    with opened() as stream:
        shape, dtype = _read_header(stream, f'calibration "{file}", array "{name}"')

    def read(rows: int) -> Iterator[Array]:
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        with opened() as stream:
            _read_header(stream, file)
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                data = stream.read(count * row_bytes)
                if len(data) != count * row_bytes:
                    raise ConversionError(
                        f'calibration "{file}", array "{name}": ends after {start} of {shape[0]} '
                        "rows; the file is cut short"
                    )
                yield np.frombuffer(data, dtype).reshape(count, *shape[1:])

    return StoredArray(dtype, shape, read)


def _read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ConversionError(f"{where}: NumPy format {version} does not hold plain numbers")
    shape, by_columns, dtype = _HEADERS[version](stream)
    if dtype.kind not in "biuf" or not shape or 0 in shape:
        raise ConversionError(f"{where}: expected rows of numbers, got {dtype} {list(shape)}")
    if dtype.itemsize * int(np.prod(shape[1:], dtype=np.float64)) > ROW_CAP_BYTES:
        raise ConversionError(
            f"{where}: one row of {list(shape[1:])} is over {ROW_CAP_BYTES} bytes"
        )
    if by_columns and len(shape) > 1:
        raise ConversionError(
            f"{where}: is stored by columns (Fortran order), so rows cannot be read one after "
            "another; save numpy.ascontiguousarray(array)"
        )
    return shape, dtype
