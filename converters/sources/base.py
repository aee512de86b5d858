"""What the throw-away process is asked, and what every source gives back. Words only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from converters import elements
from converters.errors import ConversionError, UnsupportedModelError
from converters.samples import UNNAMED
from converters.targets.table import DEFAULT_OPSET, DEFAULT_TARGET
from edged.specs import WordColumn
from edged.tensors import Array

__all__ = ["DEFAULT_OPSET", "Exported", "Remedy", "SourceJob", "SourceResult"]
CHUNK_ROWS = 64
"""Rows of one framework call: bounds the memory of a large network on 4096 samples."""


class SourceJob(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One conversion, as the throw-away process is told it (``job.json``).

    Args:
        framework: which source file converts it.
        source: absolute path, or ``module:factory``.
        weights: absolute path of the state dict, for ``module:factory``.
        opset: the operator set wanted; None for the source's own choice.
        batch: ``rows`` or ``none``, as in the recipe.
        free_axes: by input, further axes of any length and their names.
        columns: the names of the samples' columns where known.
        words: of the samples' columns that hold words, by column; their numbers in the table count
            in it, and NaN is none.
        import_from: where ``module`` and a pickle's own classes are looked for.
        cpu_seconds: processor time that the process allows itself.
        target: the device that it is for; ``converters.targets.table.find_target`` knows it.
        generate: how many rows to make where there are no samples (``samples.generate``).
    """

    framework: str
    source: str
    weights: str | None = None
    opset: int | None = None
    batch: str = "rows"
    free_axes: dict[str, dict[int, str]] = msgspec.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    import_from: str = ""
    cpu_seconds: int = 3600
    target: str = DEFAULT_TARGET
    generate: int = 0


class Remedy(Struct, frozen=True, forbid_unknown_fields=True):
    """A known trap of a framework or exporter, and how it was repaired; for people.

    It ends up in the bundle's manifest, so it must be the same on every machine: no paths, no
    counters of the process.

    Args:
        trap: a short name, as in ``scaler-division``; tests and readers look for it.
        what: one sentence: what would have gone wrong, and what was done instead.
        where: the step, layer or operator it was found at; may be empty.
    """

    trap: str
    what: str
    where: str = ""


class SourceResult(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What came of it, beside the model and the tensors (``result.json``)."""

    framework: dict[str, str] = msgspec.field(default_factory=dict)
    reference: str = ""
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    words: dict[int, WordColumn] = msgspec.field(default_factory=dict)
    label_of: dict[str, str] = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    edges: tuple[str, ...] = ()
    isolation: str = ""
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    error: str = ""
    error_kind: str = ""


@dataclass
class Exported:
    """A converted model beside the framework's own numbers.

    Args:
        model: an onnx.ModelProto, weights inside; inputs and outputs in the order of the two
            dicts below.
        inputs: the samples as the framework got them, by name.
        outputs: what the framework gave for them, by name; axis 0 is the rows'.
        framework: names and versions of what took part.
        reference: how the framework was called, for the report.
        labels: names of the last axis of the first output, where the framework knows them.
        columns: names of the input's columns, where the framework knows them.
        words: the columns that hold words, by place in the only input.
        made_edges: edge cases of the source's own, beside or instead of the made ones.
        label_of: outputs that are the best class of another output.
        warnings: what the framework had to say.
        remedies: known traps that were met and repaired.
        call: the framework on any rows (input arrays by name to output arrays by name, axis 0 the
            rows'); with it the gate asks for edge cases of its own. It may raise for rows that the
            framework refuses.
    """

    model: Any
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    framework: dict[str, str]
    reference: str
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    words: dict[int, WordColumn] = field(default_factory=dict)
    made_edges: dict[str, dict[str, Array]] = field(default_factory=dict)
    label_of: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    remedies: list[Remedy] = field(default_factory=list)
    call: Callable[[dict[str, Array]], dict[str, Array]] | None = None


def match_inputs(
    samples: Mapping[str, Array], names: Sequence[str], owner: str
) -> dict[str, Array]:
    """Give the samples the model's input names: by name, or the only one to the only one.

    Raises:
        ConversionError: the names do not match; lists both.
    """
    if not samples:
        raise ConversionError(
            f"no --samples were given, and no rows can be made for {owner} ({', '.join(names)}): "
            "it does not say its shapes, or has no row axis (--batch none); bring real inputs, "
            "which also prove more"
        )
    if len(names) == 1 and len(samples) == 1:
        return {names[0]: next(iter(samples.values()))}
    if set(names) == set(samples):
        return {name: samples[name] for name in names}
    got = ", ".join(name for name in samples if name != UNNAMED) or "one unnamed array"
    raise ConversionError(
        f"{owner} takes the inputs {', '.join(names)}; the samples hold {got}; "
        "save them with numpy.savez(file, NAME=array, ...)"
    )


def run_in_rows(
    call: Callable[[dict[str, Array]], dict[str, Array]],
    inputs: Mapping[str, Array],
    batch: str,
) -> dict[str, Array]:
    """Call the framework on all samples, CHUNK_ROWS at a time when rows are independent.

    Raises:
        UnsupportedModelError: an output does not have one entry a row.
    """
    if batch == "none":
        return call(dict(inputs))
    rows = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, rows, CHUNK_ROWS):
        part = {name: array[start : start + CHUNK_ROWS] for name, array in inputs.items()}
        outputs = call(part)
        check_rows(outputs, len(next(iter(part.values()))))
        parts.append(outputs)
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as exc:
        raise UnsupportedModelError(
            f"the framework's outputs change their shape from rows to rows ({exc}); "
            "bundles carry outputs whose other axes do not depend on the values"
        ) from exc


def run_model(
    call: Callable[[dict[str, Array]], dict[str, Array]],
    inputs: Mapping[str, Array],
    batch: str,
    say: Callable[[Exception], str],
) -> dict[str, Array]:
    """``run_in_rows``, where the framework's own errors mean that the samples do not fit.

    Args:
        call: the framework.
        inputs: all samples.
        batch: as in the job.
        say: one line for an error of the framework's.

    Raises:
        UnsupportedModelError: an output does not have one entry a row.
        ConversionError: the framework fails; says on which shapes.
    """
    try:
        return run_in_rows(call, inputs, batch)
    except ConversionError:
        raise
    except Exception as exc:
        shapes = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in inputs.items())
        raise ConversionError(
            f"the model itself fails on the samples (rows of {shapes}): {say(exc)}"
        ) from exc


def check_rows(outputs: Mapping[str, Array], rows: int) -> None:
    """Refuse an output without one entry a row."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise UnsupportedModelError(
                f'output "{name}" has shape {list(array.shape)} for {rows} rows: axis 0 must be '
                "the row axis; change the model to keep it, or say --batch none"
            )


def fit_dtype(array: Array, wanted: str, name: str) -> Array:
    """Bring a sample array to the dtype that the model takes, without losing anything but bits.

    Raises:
        ConversionError: whole numbers are wanted and the samples are not whole, or one of them is
            text and the other is not.
    """
    if wanted in elements.SPECIAL or elements.is_special(array):
        array = elements.fit_special(array, wanted, name)
        if wanted in elements.SPECIAL:
            return array
    cast = array.astype(wanted)
    if cast.dtype.kind in "iu" and not np.array_equal(cast.astype(array.dtype), array):
        raise ConversionError(
            f'samples: input "{name}" takes {wanted}, the samples hold other values ({array.dtype})'
        )
    return cast


def name_outputs(values: Iterable[Array], names: Sequence[str] = ()) -> dict[str, Array]:
    """Name outputs without names of their own ``output``, or ``output_0``, ``output_1``, …."""
    arrays = list(values)
    if len(names) != len(arrays):
        many = len(arrays) > 1
        names = [f"output_{index}" if many else "output" for index in range(len(arrays))]
    return dict(zip(names, arrays, strict=True))
