"""MLflow's signature and input example: names and types of columns, and a few rows to run."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import ConversionError
from converters.registries.files import file_inside, read_json, read_text
from converters.registries.resolved import Place, mapping_of
from edged.tensors import Array

MAX_EXAMPLE_BYTES = 64 << 20
"""An example is a handful of rows; a batch of pictures as JSON numbers still fits."""
MIN_ROWS = 2
"""One row proves nothing."""
NUMERIC = {"boolean", "integer", "long", "float", "double"}


@dataclass(frozen=True)
class Signature:
    """What MLmodel says about the inputs.

    Args:
        columns: names of a table's columns in order; empty for tensors.
        is_numeric: no column is text, a date or nested.
        tensors: dtype by name for tensors; the name is empty where MLflow has none.
    """

    columns: tuple[str, ...] = ()
    is_numeric: bool = True
    tensors: tuple[tuple[str, str], ...] = ()


def read_signature(values: dict[str, Any]) -> Signature:
    """Read ``signature.inputs``, which is JSON text inside YAML.

    Raises:
        ConversionError: it is not what MLflow writes.
    """
    text = mapping_of(values, "signature", "MLmodel").get("inputs")
    if text is None:
        return Signature()
    where = "MLmodel: signature.inputs"
    entries = read_json(text, where) if isinstance(text, str) else text
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConversionError(f"{where}: expected a list of columns or tensors")
    if any(entry.get("type") == "tensor" for entry in entries):
        tensors = []
        for entry in entries:
            spec = mapping_of(entry, "tensor-spec", where)
            tensors.append((str(entry.get("name") or ""), str(spec.get("dtype"))))
        return Signature(tensors=tuple(tensors))
    names = [entry.get("name") for entry in entries]
    return Signature(
        columns=tuple(str(name) for name in names) if all(names) else (),
        is_numeric=all(entry.get("type") in NUMERIC for entry in entries),
    )


def read_example(
    folder: Path, values: dict[str, Any], signature: Signature, place: Place
) -> Path | None:
    """Write the input example as a samples file; None when there is none, or too few rows.

    Raises:
        ConversionError: it is there and cannot be used; says why.
    """
    info = mapping_of(values, "saved_input_example_info", "MLmodel")
    name = info.get("artifact_path")
    if not isinstance(name, str):
        return None
    where = f'input example "{name}"'
    path = file_inside(folder, name, "saved_input_example_info")
    value = read_json(read_text(path, MAX_EXAMPLE_BYTES), where)
    if info.get("type") == "dataframe":
        return _write_table(value, where, place)
    if info.get("type") in ("ndarray", "json_object") or isinstance(value, list):
        return _write_arrays(value, signature, where, place)
    raise ConversionError(
        f"{where}: a {info.get('type')} cannot be samples; give --samples with arrays or a table"
    )


def _write_table(value: Any, where: str, place: Place) -> Path | None:
    """A table in pandas' split form, as CSV with its header."""
    columns = value.get("columns") if isinstance(value, dict) else None
    rows = value.get("data") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ConversionError(f'{where}: expected {{"columns": …, "data": [rows]}}')
    if len(rows) < MIN_ROWS:
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if isinstance(columns, list):
        writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if cell is None else _cell(cell, where) for cell in row])
    target = place.folder / "input_example.csv"
    target.write_text(text.getvalue(), "utf-8")
    return target


def _cell(cell: Any, where: str) -> str:
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, int | float | str):
        return repr(cell) if not isinstance(cell, str) else cell
    raise ConversionError(f"{where}: a cell holds {type(cell).__name__}, expected numbers or text")


def _write_arrays(value: Any, signature: Signature, where: str, place: Place) -> Path | None:
    """One array, or several by name."""
    if isinstance(value, dict) and set(value) == {"inputs"}:
        value = value["inputs"]
    dtypes = dict(signature.tensors)
    if isinstance(value, dict):
        arrays = {str(name): _array(item, dtypes.get(str(name)), where)
                  for name, item in value.items()}  # fmt: skip
    else:
        only = next(iter(dtypes.values())) if len(dtypes) == 1 else None
        arrays = {"": _array(value, only, where)}
    if any(array.ndim == 0 or len(array) < MIN_ROWS for array in arrays.values()):
        return None
    if list(arrays) == [""]:
        target = place.folder / "input_example.npy"
        np.save(target, arrays[""], allow_pickle=False)
        return target
    if not arrays or "" in arrays:
        raise ConversionError(f"{where}: has inputs without names")
    target = place.folder / "input_example.npz"
    keywords: dict[str, Any] = dict(arrays)
    np.savez(target, **keywords)
    return target


def _array(value: Any, dtype: str | None, where: str) -> Array:
    """JSON numbers in the dtype of the signature."""
    try:
        array = np.asarray(value)
        array = array.astype(dtype) if dtype is not None else array
    except (ValueError, TypeError) as exc:
        raise ConversionError(f"{where}: cannot become an array of {dtype}: {exc}") from exc
    if array.dtype.kind not in "biuf":
        raise ConversionError(
            f"{where}: holds {array.dtype}, expected numbers; give --samples with arrays of numbers"
        )
    return np.ascontiguousarray(array)
