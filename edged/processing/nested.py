"""Nested lists to tensors, for inputs whose columns have no names.

Decides whether the nesting is rectangular and fits the input's shape; one row may be written
without the batch axis.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from edged.errors import DecodeError
from edged.processing.columns import Parse
from edged.processing.json_text import parse_json
from edged.processing.texts import pack_json
from edged.processing.values import array_from_values, check_rows
from edged.tensors import DTYPES, Array, TensorSpec

_BARE = (list, str)
"""What may stand for the only input without its name."""


class NestedCodec:
    """Decodes ``{"inputs": {"a": [[1, 2]]}}``, or the list alone when there is one input.

    Where an input is text, JSON strings stand for its rows: ``{"inputs": {"a": "so"}}``.

    Args:
        specs: every input of the model.
        texts: names of those that are text.
        parse: reads the document.
    """

    is_slow = False

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        texts: Collection[str] = (),
        parse: Parse = parse_json,
    ) -> None:
        self._parse = parse
        self._specs = tuple(specs)
        self._readers = tuple(
            (spec, pack_json if spec.name in texts else _tensor) for spec in self._specs
        )

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Read a payload.

        Returns:
            By input name, in the input's dtype, with the batch axis first.

        Raises:
            DecodeError: no document, an input missing or unknown, ragged, or of another shape.
            TooLargeError: more rows than one message may hold.
        """
        document = self._parse(payload)
        if isinstance(document, _BARE) and len(self._specs) == 1:
            ((spec, read),) = self._readers
            return {spec.name: read(spec, document)}
        inputs = document.get("inputs") if isinstance(document, dict) else None
        if not isinstance(inputs, dict):
            names = ", ".join(f'"{spec.name}"' for spec in self._specs)
            raise DecodeError(f'expected {{"inputs": {{…}}}} with {names}')
        if len(inputs) > len(self._specs):
            unknown = next(iter(inputs.keys() - {spec.name for spec in self._specs}))
            raise DecodeError(f"inputs: the model has no input {unknown[:64]!a}")
        tensors: dict[str, Array] = {}
        for spec, read in self._readers:
            if spec.name not in inputs:
                raise DecodeError(f'inputs: "{spec.name}" is missing; it is {spec}')
            tensors[spec.name] = read(spec, inputs[spec.name])
        return tensors


def _tensor(spec: TensorSpec, value: Any) -> Array:
    shape = _shape(spec, value)
    flat = [value]
    for length in shape:
        if any(not isinstance(part, list) or len(part) != length for part in flat):
            raise DecodeError(f'input "{spec.name}": the lists are ragged; expected {spec}')
        flat = [item for part in flat for item in part]
    array = array_from_values(
        flat, DTYPES[spec.dtype], lambda index: f'input "{spec.name}", value {index}'
    )
    if spec.is_batched and len(shape) == len(spec.shape) - 1:
        shape = [1, *shape]
    fits = len(shape) == len(spec.shape) and all(
        isinstance(wanted, str) or wanted == got
        for wanted, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise DecodeError(f'input "{spec.name}": expected {spec}; got {shape}')
    if spec.is_batched:
        check_rows(shape[0])
    return array.reshape(shape)


def _shape(spec: TensorSpec, value: Any) -> list[int]:
    shape: list[int] = []
    while isinstance(value, list):
        if not value:
            raise DecodeError(f'input "{spec.name}": an empty list holds no rows')
        shape.append(len(value))
        value = value[0]
    return shape
