"""Objects to table rows: each column of an input comes from a path in the object.

Decides which value belongs in which column. A path is dotted (``imu.accel.0``; numbers index
lists); a key that is spelled like the whole path wins. ``null`` counts as absent. Words become the
numbers that the bundle gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edged.errors import DecodeError, FieldError
from edged.processing.json_text import parse_json
from edged.processing.values import array_from_values, check_rows
from edged.processing.words import ABSENT, Vocabulary
from edged.specs import FieldSpec, WordColumn
from edged.tensors import DTYPES, Array, TensorSpec

Parse = Callable[[bytes], Any]
"""A payload to a document of what JSON holds."""


_FLOATS = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: where its value stands, and what it is when absent (None: an error)."""

    path: str
    default: float | None
    steps: tuple[str, ...]

    @classmethod
    def from_field(cls, field: str | FieldSpec) -> Column:
        """From the configuration's word or the bundle's column name."""
        if isinstance(field, str):
            return cls(field, None, tuple(field.split(".")))
        return cls(field.path, field.default, tuple(field.path.split(".")))

    def find(self, document: dict[str, Any]) -> Any:
        """The value, or the default; ABSENT where there is neither."""
        value = document.get(self.path, ABSENT)
        if value is ABSENT and len(self.steps) > 1:
            value = follow(document, self.steps)
        if value is None or value is ABSENT:
            return ABSENT if self.default is None else self.default
        return value


def follow(value: Any, steps: tuple[str, ...]) -> Any:
    """What stands at the end of a path, else ABSENT."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, ABSENT)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 10:
            index = int(step)
            value = value[index] if index < len(value) else ABSENT
        else:
            return ABSENT
    return value


@dataclass(frozen=True, slots=True)
class _Table:
    """One input, the columns that fill it, and which of them hold words."""

    spec: TensorSpec
    columns: tuple[Column, ...]
    words: tuple[tuple[int, Vocabulary], ...] = ()

    def values(self, rows: list[dict[str, Any]]) -> list[Any]:
        """One for each column of each row, in order; ABSENT where there is none."""
        columns = self.columns
        if len(rows) == 1:
            get = rows[0].get
            found = [get(column.path) for column in columns]
            if None not in found:  # as nearly always: all are there, by their whole names
                return found
        return [column.find(row) for row in rows for column in columns]


class ColumnsCodec:
    """Decodes ``{"ax": 1, …}`` to one row, or a list of such objects to as many.

    Args:
        tables: each input with its fields, one for each column, in order.
        words: the columns that hold words, by input and place.
        parse: reads the document; raises InvalidRequestError, nothing else.

    Raises:
        FieldError: an input's shape cannot hold that many columns, or a column of words has a
            number for its default.
    """

    is_slow = False

    def __init__(
        self,
        tables: Sequence[tuple[TensorSpec, Sequence[str | FieldSpec]]],
        words: Mapping[str, Mapping[int, WordColumn]] = MappingProxyType({}),
        parse: Parse = parse_json,
    ) -> None:
        self._parse = parse
        self._tables = tuple(
            _Table(
                spec,
                tuple(Column.from_field(field) for field in fields),
                tuple((at, Vocabulary(one)) for at, one in words.get(spec.name, {}).items()),
            )
            for spec, fields in tables
        )
        for table in self._tables:
            _check_shape(table)
        self._paths = tuple(column.path for column in self._tables[0].columns)

    @property
    def only_table(self) -> _Table | None:
        """The input, where there is just one, of rows of nothing but floats.

        Else None, and ``quick`` is not to be asked.
        """
        table = self._tables[0]
        is_plain = len(self._tables) == 1 and not table.words and len(table.spec.shape) == 2
        is_plain = is_plain and table.spec.is_batched and table.spec.dtype in _FLOATS
        return table if is_plain else None

    def quick(self, payload: bytes) -> list[Any] | None:
        """What stands for the columns of a payload that is one row, read and not yet looked at.

        None where one is missing, and for all other payloads; raises DecodeError for some of them.
        """
        document = self._parse(payload)
        if type(document) is not dict:
            return None
        get = document.get
        found = [get(path) for path in self._paths]
        return None if None in found else found

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Read a payload.

        Returns:
            By input name, dtype of the input, shape [rows, columns] (or as the input's shape says).

        Raises:
            DecodeError: no document, no object or list of objects, or a value that does not fit;
                names the row and the field.
        """
        document = self._parse(payload)
        rows = document if isinstance(document, list) else [document]
        if not rows:
            raise DecodeError("the payload is an empty list; expected at least one row")
        check_rows(len(rows))
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                where = f"row {number}" if isinstance(document, list) else "the payload"
                raise DecodeError(f"{where}: expected an object with the fields as keys")
        return {table.spec.name: _fill(table, rows) for table in self._tables}


def _fill(table: _Table, rows: list[dict[str, Any]]) -> Array:
    columns = table.columns
    values = table.values(rows)
    name_of = _namer(columns)
    for place, vocabulary in table.words:
        for index in range(place, len(values), len(columns)):
            values[index] = vocabulary.code(values[index], name_of(index))
    if ABSENT in values:
        raise DecodeError(f"{name_of(values.index(ABSENT))}: is missing and has no default")
    array = array_from_values(values, DTYPES[table.spec.dtype], name_of)
    shape = table.spec.shape
    if not table.spec.is_batched and len(shape) > 0:
        wanted = shape[0] if len(shape) > 1 else 1
        if isinstance(wanted, int) and len(rows) != wanted:
            raise DecodeError(f"{len(rows)} rows; the model takes exactly {wanted} at a time")
    if len(shape) == 2:
        return array.reshape(len(rows), len(columns))
    return array


def _namer(columns: tuple[Column, ...]) -> Any:
    def name_of(index: int) -> str:
        row, column = divmod(index, len(columns))
        return f'row {row}, field "{columns[column].path}"'

    return name_of


def _check_shape(table: _Table) -> None:
    spec, count = table.spec, len(table.columns)
    for index, _ in table.words:
        if index < count and table.columns[index].default is not None:
            raise FieldError(
                f"fields[{index}].default",
                f'column "{table.columns[index].path}" holds words; the bundle itself says what a '
                "missing one is",
            )
    for index, column in enumerate(table.columns):
        if column.default is not None:
            where = f"fields[{index}].default"
            try:
                array_from_values([column.default], DTYPES[spec.dtype], lambda _: "it")
            except DecodeError as exc:
                raise FieldError(where, exc.message) from exc
    if len(spec.shape) == 2:
        wanted = spec.shape[1]
    elif len(spec.shape) == 1:
        wanted = 1 if spec.is_batched else spec.shape[0]
    else:
        raise FieldError("fields", f'input "{spec.name}" is {spec}, which is no table of columns')
    if isinstance(wanted, int) and wanted != count:
        raise FieldError(
            "fields", f'{count} fields for input "{spec.name}", which is {spec}: expected {wanted}'
        )
