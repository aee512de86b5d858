"""Rows to prove numbers on: Triton's warm-up requests, as far as they hold data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import ConversionError
from converters.registries.files import file_inside
from converters.registries.triton_model import TritonModel, dtype_of
from edged.tensors import Array

MAX_ROWS = 256
MAX_FILE_BYTES = 256 << 20
"""A warm-up is one request; a batch of large pictures still fits."""


def write_warmup(model: TritonModel, batched: bool, target: Path) -> bool:
    """Write the warm-up's rows as a samples file.

    Args:
        model: whose warm-up it is.
        batched: whether inputs have a batch axis in front of ``dims``.
        target: the ``.npz`` to write.

    Returns:
        Whether there was anything in it: requests of zeros alone prove nothing.

    Raises:
        ConversionError: a data file is missing, leads out of the folder, or has another size.
    """
    rows: dict[str, list[Array]] = {}
    names = {entry.name for entry in model.config.input}
    holds_data = False
    for request in model.config.model_warmup:
        if set(request.inputs) != names:
            continue
        holds_data |= any(not entry.zero_data for entry in request.inputs.values())
        count = min(request.batch_size or 1, MAX_ROWS) if batched else 1
        for name in sorted(request.inputs):
            made = _array(model, name, request.inputs[name], count)
            rows.setdefault(name, []).append(made if batched else made[0])
    if not holds_data or (not batched and len(model.config.model_warmup) > 1):
        return False
    try:
        arrays: dict[str, Any] = {
            name: np.concatenate(parts) if batched else parts[0] for name, parts in rows.items()
        }
    except ValueError:
        return False  # requests of several shapes: no one array holds them
    if batched and len(next(iter(arrays.values()))) < 2:
        return False
    np.savez(target, **arrays)
    return True


def _array(model: TritonModel, name: str, entry: Any, count: int) -> Array:
    """``count`` rows; a file holds one row, or all of them."""
    where = f'model_warmup, input "{name}"'
    dims = [int(size) for size in entry.dims]
    if any(size < 1 for size in dims):
        raise ConversionError(f"{where}: dims {dims}; expected sizes")
    dtype = np.dtype(dtype_of(entry) or "float32")
    size = int(np.prod(dims)) * dtype.itemsize
    if size * count > MAX_FILE_BYTES:
        raise ConversionError(f"{where}: {count} rows of {dims} are over {MAX_FILE_BYTES} bytes")
    if entry.HasField("input_data_file"):
        path = file_inside(model.folder, f"warmup/{entry.input_data_file}", where)
        if path.stat().st_size not in (size, size * count):
            raise ConversionError(
                f"{where}: {path.name} has {path.stat().st_size} bytes, expected {size} for dims "
                f"{dims}"
            )
        data = np.frombuffer(path.read_bytes(), dtype).reshape(-1, *dims)
        return np.ascontiguousarray(np.resize(data, (count, *dims)))
    if entry.zero_data:
        return np.zeros((count, *dims), dtype)
    source = np.random.default_rng(7)
    if dtype.kind == "f":
        return source.normal(size=(count, *dims)).astype(dtype)
    return source.integers(0, 2, size=(count, *dims)).astype(dtype)
