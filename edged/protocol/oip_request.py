"""An inference request of the Open Inference Protocol: JSON, and tensors behind it or inside.

Decides whether a body is well formed and within its caps; whether tensors are the model's is the
dataplane's. Binary tensors are views of the body. Numbers in JSON become the dtype that the request
says, and one that does not fit is refused, not bent.
Source: KServe ``inference_rest.md``; Triton's ``extension_binary_data.md``, ``..._parameters.md``,
``..._classification.md``, ``..._sequence.md``, ``..._schedule_policy.md``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.messages import SequenceStep
from edged.protocol.oip import BY_OIP
from edged.tensors import DTYPES, Array, DType, TensorSpec

Parameter = bool | int | float | str
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Axis = Annotated[int, Meta(ge=0, le=2**31)]
_RANK_CAP: Final = 8
_KINDS: Final[dict[str, type]] = {"b": bool, "i": int, "u": int, "f": float}
_SHARED: Final = "shared_memory_region"
_OWN: Final = frozenset({"triton_enable_empty_final_response"})
"""Keys with a reserved prefix that are taken all the same."""


class _Input(Struct, frozen=True):
    name: _Name
    shape: Annotated[tuple[_Axis, ...], Meta(max_length=_RANK_CAP)]
    datatype: str
    parameters: dict[str, Parameter] = {}
    data: msgspec.Raw = msgspec.Raw()


class RequestedOutput(Struct, frozen=True):
    """One output as it was asked for, on the wire."""

    name: _Name
    parameters: dict[str, Parameter] = {}


class _Request(Struct, frozen=True):
    inputs: Annotated[tuple[_Input, ...], Meta(min_length=1, max_length=64)]
    id: Annotated[str, Meta(max_length=1024)] = ""
    parameters: dict[str, Parameter] = {}
    outputs: Annotated[tuple[RequestedOutput, ...], Meta(max_length=64)] | None = None


_decoder = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output as it was asked for.

    Args:
        name: of the output.
        is_binary: whether its bytes follow the JSON.
        classes: how many of its largest entries are wanted instead of it; 0 for the tensor.
    """

    name: str
    is_binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, decoded.

    Args:
        id: echoed in the answer; empty for none.
        inputs: tensors by name, views of the body where they were binary.
        outputs: those wanted, in this order; empty for all.
        is_binary: how outputs are sent that were not named.
        timeout_us: how long it may wait and run, microseconds; 0 for no limit.
        sequence: which sequence it belongs to.
    """

    id: str
    inputs: dict[str, Array]
    outputs: tuple[Wanted, ...]
    is_binary: bool
    timeout_us: int = 0
    sequence: SequenceStep | None = None


def decode_request(body: bytes | bytearray, json_bytes: int | None, cap: int) -> Asked:
    """Read a body.

    Args:
        body: JSON, and raw tensors behind it.
        json_bytes: length of the JSON; None where all of it is JSON.
        cap: most bytes of all tensors together; JSON grows when it becomes tensors.

    Raises:
        InvalidRequestError: says which member or tensor, and what was expected.
    """
    view = memoryview(body)
    text = view if json_bytes is None else view[:json_bytes]
    try:
        document = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise DecodeError(f"Unable to parse the request: {exc}") from None
    blobs = _Blobs(view[len(text) :])
    inputs: dict[str, Array] = {}
    for entry in document.inputs:
        if entry.name in inputs:
            raise InvalidRequestError(f'input "{entry.name}" is given twice')
        inputs[entry.name], cap = _tensor(entry, blobs, cap)
    blobs.check_end()
    parameters = document.parameters
    is_binary = _flag(parameters, "binary_data_output")
    return Asked(
        document.id,
        inputs,
        wanted_of(document.outputs or (), is_binary=is_binary),
        is_binary,
        timeout_us_of(parameters) if parameters else 0,
        sequence_of(parameters) if parameters else None,
    )


def decode_raw(body: bytes | bytearray, specs: Sequence[TensorSpec]) -> Asked:
    """Read a body that is nothing but one tensor; its only free axis follows from its length.

    Args:
        body: the tensor, row-major and little-endian.
        specs: the model's inputs.

    Raises:
        InvalidRequestError: the model has several inputs or free axes, or the length fits none.
    """
    if len(specs) != 1:
        raise InvalidRequestError(
            f"a body without JSON is for models with one input; this one has {len(specs)}"
        )
    (spec,) = specs
    dtype = DTYPES[spec.dtype]
    free = [axis for axis in spec.shape if isinstance(axis, str)]
    row = dtype.size_bytes * math.prod(axis for axis in spec.shape if isinstance(axis, int))
    if len(free) > 1:
        raise InvalidRequestError(
            f'input "{spec.name}" has the free axes {", ".join(free)}: a body without JSON leaves '
            "room for one"
        )
    length, over = divmod(len(body), row)
    if over or not length or (not free and length != 1):
        raise InvalidRequestError(
            f'input "{spec.name}" is {spec}; {len(body)} bytes are no whole number of {row}'
        )
    shape = tuple(length if isinstance(axis, str) else axis for axis in spec.shape)
    array = np.frombuffer(body, dtype.numpy).reshape(shape)
    return Asked("", {spec.name: array}, (), is_binary=True)


class _Blobs:
    """The bytes behind the JSON, taken in the order of the inputs that have some."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int, name: str) -> memoryview:
        left = len(self._data) - self._at
        if size > left:
            raise InvalidRequestError(
                f'input "{name}": binary_data_size is {size}, but {left} bytes are left behind the '
                "JSON (Inference-Header-Content-Length says where they begin)"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def check_end(self) -> None:
        if left := len(self._data) - self._at:
            raise InvalidRequestError(f"{left} bytes follow the last tensor and belong to no input")


def _tensor(entry: _Input, blobs: _Blobs, cap: int) -> tuple[Array, int]:
    """One input, and what is left of the cap."""
    dtype = dtype_of(entry.name, entry.datatype)
    count = math.prod(entry.shape)
    size = count * dtype.size_bytes
    if size > cap:
        raise TooLargeError(
            f'input "{entry.name}": {size} bytes as {entry.datatype}; the tensors of one request '
            f"may still take {cap} (limits.max_request)"
        )
    declared = entry.parameters.get("binary_data_size")
    if _SHARED in entry.parameters:
        raise InvalidRequestError(
            f'input "{entry.name}": shared memory is not served here; send the tensor itself'
        )
    if (declared is None) == (not entry.data):
        raise InvalidRequestError(
            f'input "{entry.name}": expected exactly one of data and parameters.binary_data_size'
        )
    if declared is None:
        return _from_json(entry, dtype, count), cap - size
    if type(declared) is not int or declared < 0:
        raise InvalidRequestError(
            f'input "{entry.name}": binary_data_size is {declared!r}; expected a number of bytes'
        )
    if declared != size:
        raise InvalidRequestError(
            f'input "{entry.name}": binary_data_size is {declared}, but {entry.datatype} of shape '
            f"{list(entry.shape)} takes {size} bytes"
        )
    array = np.frombuffer(blobs.take(size, entry.name), dtype.numpy).reshape(entry.shape)
    if dtype.name == "bool" and array.size and array.view(np.uint8).max() > 1:
        raise InvalidRequestError(f'input "{entry.name}": a BOOL byte is 0 or 1')
    return array, cap - size


def dtype_of(name: str, datatype: str) -> DType:
    """An input's type, by the protocol's name for it; raises InvalidRequestError."""
    dtype = BY_OIP.get(datatype)
    if dtype is None:
        raise InvalidRequestError(
            f'input "{name}": datatype "{datatype[:32]}" is not served; there are: '
            + ", ".join(BY_OIP)
        )
    return dtype


def _from_json(entry: _Input, dtype: DType, count: int) -> Array:
    """Numbers of a flat list, or of one nested as the shape says."""
    if dtype.name == "float16":
        raise InvalidRequestError(
            f'input "{entry.name}": FP16 has no form in JSON; send it as binary data'
        )
    text = bytes(entry.data)
    depth = _depth(text)
    if depth not in (1, len(entry.shape)):
        raise InvalidRequestError(
            f'input "{entry.name}": Unable to parse data: nested {depth} deep; expected a flat '
            f"list, or one nested as its shape {list(entry.shape)}"
        )
    try:
        values = _list_decoder(_KINDS[dtype.numpy.kind], depth).decode(text)
        array = _array(values, dtype)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise DecodeError(
            f'input "{entry.name}": Unable to parse data as {entry.datatype}: {exc}'
        ) from None
    if array.size != count or (depth > 1 and array.shape != entry.shape):
        raise InvalidRequestError(
            f'input "{entry.name}": data has {array.size} elements of shape {list(array.shape)}; '
            f"its shape {list(entry.shape)} has {count}"
        )
    return array.reshape(entry.shape)


def _depth(text: bytes) -> int:
    """How many lists the first element is in."""
    depth = 0
    for character in text[: 4 * _RANK_CAP + 64]:
        if character == 0x5B:
            depth += 1
        elif character not in b" \t\r\n":
            break
    return depth


@functools.lru_cache(maxsize=64)
def _list_decoder(kind: type, depth: int) -> msgspec.json.Decoder[Any]:
    wanted: Any = kind
    for _ in range(depth):
        wanted = list[wanted]
    return msgspec.json.Decoder(wanted)


def _array(values: list[Any], dtype: DType) -> Array:
    """Raises ValueError or OverflowError for what the dtype cannot hold."""
    if dtype.numpy.kind == "f":
        with np.errstate(over="ignore"):
            array = np.array(values, dtype.numpy)
        if not np.isfinite(array).all():
            raise ValueError("a number is out of range")
        return array
    wide = "?" if dtype.numpy.kind == "b" else "u8" if dtype.numpy.kind == "u" else "i8"
    array = np.array(values, wide)
    if dtype.numpy.kind != "b" and array.size:
        info = np.iinfo(dtype.numpy)
        if array.min() < info.min or array.max() > info.max:
            raise ValueError(f"a number is out of the range {info.min} to {info.max}")
    return array.astype(dtype.numpy)


def wanted_of(outputs: Sequence[RequestedOutput], *, is_binary: bool) -> tuple[Wanted, ...]:
    """What is wanted of the outputs; ``is_binary`` is meant where one does not say."""
    if not outputs:
        return ()
    found: dict[str, Wanted] = {}
    for entry in outputs:
        parameters = entry.parameters
        if entry.name in found:
            raise InvalidRequestError(f'output "{entry.name}" is asked for twice')
        if _SHARED in parameters:
            raise InvalidRequestError(
                f'output "{entry.name}": shared memory is not served here; the answer brings it'
            )
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InvalidRequestError(
                f'output "{entry.name}": classification is {classes!r}; expected how many'
            )
        has_own = "binary_data" in parameters
        binary = _flag(parameters, "binary_data") if has_own else is_binary
        found[entry.name] = Wanted(entry.name, binary, classes)
    return tuple(found.values())


def _flag(parameters: dict[str, Parameter], name: str) -> bool:
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise InvalidRequestError(f"parameters.{name} is {value!r}; expected true or false")
    return value


def _number(parameters: dict[str, Parameter], name: str) -> int:
    value = parameters.get(name, 0)
    # Some clients send every parameter as a string.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidRequestError(f"parameters.{name} is {value!r}; expected a number from 0")
    return value


def timeout_us_of(parameters: dict[str, Parameter]) -> int:
    """How long a request may wait and run; 0 for no limit. Refuses reserved parameters."""
    for name in parameters:
        if name.startswith("triton_") and name not in _OWN:
            raise InvalidRequestError(f'parameters."{name[:64]}": names with triton_ are reserved')
    _number(parameters, "priority")  # which class a request has is the operator's to say
    return _number(parameters, "timeout")


def sequence_of(parameters: dict[str, Parameter]) -> SequenceStep | None:
    """Which sequence a request belongs to, if any."""
    given = parameters.get("sequence_id", 0)
    if type(given) not in (int, str) or (isinstance(given, int) and given < 0):
        raise InvalidRequestError(
            f"parameters.sequence_id is {given!r}; expected a number from 0 or a string"
        )
    if not given:
        return None
    start, end = (_flag(parameters, f"sequence_{name}") for name in ("start", "end"))
    return SequenceStep(given if isinstance(given, str) else int(given), start, end)
