"""An inference request of the Open Inference Protocol: JSON, and tensors behind it or inside.

Decides whether a body is well formed and within its caps; whether tensors are the model's is the
dataplane's. Binary tensors are views of the body; what one tensor is, ``oip_tensor.py`` says.
Source: KServe ``inference_rest.md``; Triton's ``extension_binary_data.md``, ``..._parameters.md``,
``..._classification.md``, ``..._sequence.md``, ``..._schedule_policy.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from edged.errors import DecodeError, InvalidRequestError
from edged.messages import InferRequest, SequencedRequest, SequenceStep
from edged.protocol.oip_outline import MOST_TENSORS, check_outline
from edged.protocol.oip_shared import REGION, Memory, Place, needed, place_of
from edged.protocol.oip_tensor import (
    RANK_CAP,
    Room,
    check_size,
    dtype_named,
    read_bytes,
    read_json,
    read_place,
)
from edged.strings import strings
from edged.tensors import ALL_DTYPES, Array, TensorSpec, aligned

Parameter = bool | int | float | str
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Axis = Annotated[int, Meta(ge=0, le=2**31)]
_OWN: Final = frozenset({"triton_enable_empty_final_response"})
"""Keys with a reserved prefix that are taken all the same."""


class _Input(Struct, frozen=True):
    name: _Name
    shape: Annotated[tuple[_Axis, ...], Meta(max_length=RANK_CAP)]
    datatype: str
    parameters: dict[str, Parameter] = {}
    data: msgspec.Raw = msgspec.Raw()


class RequestedOutput(Struct, frozen=True):
    """One output as it was asked for, on the wire."""

    name: _Name
    parameters: dict[str, Parameter] = {}


class _Request(Struct, frozen=True):
    inputs: Annotated[tuple[_Input, ...], Meta(min_length=1, max_length=MOST_TENSORS)]
    id: Annotated[str, Meta(max_length=1024)] = ""
    parameters: dict[str, Parameter] = {}
    outputs: Annotated[tuple[RequestedOutput, ...], Meta(max_length=MOST_TENSORS)] | None = None


_decoder = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output as it was asked for.

    Args:
        name: of the output.
        is_binary: whether its bytes follow the JSON.
        classes: how many of its largest entries are wanted instead of it; 0 for the tensor.
        place: where it is written to instead of into the answer; None for nowhere.
    """

    name: str
    is_binary: bool
    classes: int = 0
    place: Place | None = None


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
        memory: the client's regions, where an output is written to one.
        parameters: those of the request as a whole.
    """

    id: str
    inputs: dict[str, Array]
    outputs: tuple[Wanted, ...]
    is_binary: bool
    timeout_us: int = 0
    sequence: SequenceStep | None = None
    memory: Memory | None = None
    parameters: Mapping[str, Parameter] | None = None

    @property
    def asker(self) -> Mapping[str, Parameter] | None:
        """What the request says of who asks: its parameters, and its id."""
        if not self.id:
            return self.parameters
        return {"id": self.id, **(self.parameters or {})}

    @property
    def wants_labels(self) -> bool:
        """Whether its answer names classes."""
        return any(one.classes for one in self.outputs)

    def request(
        self, model: str, release: int | None, deadline_ns: int | None, origin: str
    ) -> InferRequest:
        """What the dataplane is asked.

        Args:
            model: its name.
            release: which; None for the one that serves.
            deadline_ns: monotonic clock, nanoseconds; None for none.
            origin: who asks, for logs and sequences.
        """
        wanted = tuple([one.name for one in self.outputs])
        what = (model, self.inputs, release, wanted, deadline_ns, origin, self.asker)
        step = self.sequence
        return InferRequest(*what) if step is None else SequencedRequest(*what, sequence=step)


def decode_request(
    body: bytes | bytearray, json_bytes: int | None, cap: int, memory: Memory | None = None
) -> Asked:
    """Read a body.

    Args:
        body: JSON, and raw tensors behind it.
        json_bytes: length of the JSON; None where all of it is JSON.
        cap: most bytes of all tensors together; JSON grows when it becomes tensors.
        memory: the client's regions; None where there is no memory by name.

    Raises:
        InvalidRequestError: says which member or tensor, and what was expected.
        DeniedError, NotFoundError: of memory by name.
    """
    view = memoryview(body)
    text = view if json_bytes is None else view[:json_bytes]
    check_outline(text)
    try:
        document = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise DecodeError(f"Unable to parse the request: {exc}") from None
    blobs, room = _Blobs(view[len(text) :]), Room(cap)
    inputs: dict[str, Array] = {}
    for entry in document.inputs:
        if entry.name in inputs:
            raise InvalidRequestError(f'input "{entry.name}" is given twice')
        inputs[entry.name] = _tensor(entry, blobs, room, memory)
    blobs.check_end()
    parameters = document.parameters
    is_binary = _flag(parameters, "binary_data_output")
    outputs = wanted_of(document.outputs or (), is_binary=is_binary)
    return Asked(
        document.id,
        inputs,
        outputs,
        is_binary,
        timeout_us_of(parameters) if parameters else 0,
        sequence_of(parameters) if parameters else None,
        needed(memory) if any(one.place is not None for one in outputs) else None,
        parameters,
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
    dtype = ALL_DTYPES[spec.dtype]
    if dtype.name == "string":
        return _raw_string(spec, bytes(body))
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
    array = aligned(np.frombuffer(body, dtype.numpy).reshape(shape))
    return Asked("", {spec.name: array}, (), is_binary=True)


def _raw_string(spec: TensorSpec, body: bytes) -> Asked:
    """A body that is one string, without its length."""
    shape = tuple(1 if isinstance(axis, str) else axis for axis in spec.shape)
    if math.prod(shape) != 1:
        raise InvalidRequestError(
            f'input "{spec.name}" is {spec}; a body without JSON is one string'
        )
    return Asked("", {spec.name: strings([body], shape)}, (), is_binary=True)


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


def _tensor(entry: _Input, blobs: _Blobs, room: Room, memory: Memory | None) -> Array:
    name, shape, parameters = entry.name, entry.shape, entry.parameters
    dtype = dtype_named(name, entry.datatype)
    size = check_size(name, dtype, shape, room)
    declared = parameters.get("binary_data_size")
    place = place_of(parameters, f'input "{name}"') if parameters else None
    if (declared is not None) + bool(entry.data) + (place is not None) != 1:
        raise InvalidRequestError(
            f'input "{name}": expected exactly one of data, parameters.binary_data_size and '
            "parameters.shared_memory_region"
        )
    if place is not None:
        return read_place(name, dtype, shape, (place, needed(memory)), room)
    if declared is None:
        return read_json(name, dtype, shape, entry.data, room)
    if type(declared) is not int or declared < 0:
        raise InvalidRequestError(
            f'input "{name}": binary_data_size is {declared!r}; expected a number of bytes'
        )
    if size is not None and declared != size:
        raise InvalidRequestError(
            f'input "{name}": binary_data_size is {declared}, but {entry.datatype} of shape '
            f"{list(shape)} takes {size} bytes"
        )
    return read_bytes(name, dtype, shape, blobs.take(declared, name), room)


def wanted_of(outputs: Sequence[RequestedOutput], *, is_binary: bool) -> tuple[Wanted, ...]:
    """What is wanted of the outputs; ``is_binary`` is meant where one does not say."""
    if not outputs:
        return ()
    found: dict[str, Wanted] = {}
    for entry in outputs:
        parameters = entry.parameters
        if entry.name in found:
            raise InvalidRequestError(f'output "{entry.name}" is asked for twice')
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InvalidRequestError(
                f'output "{entry.name}": classification is {classes!r}; expected how many'
            )
        place = place_of(parameters, f'output "{entry.name}"') if parameters else None
        if place is not None and (classes or parameters.get("binary_data")):
            raise InvalidRequestError(
                f'output "{entry.name}": parameters.{REGION} goes without classification and '
                "binary_data"
            )
        has_own = "binary_data" in parameters
        binary = _flag(parameters, "binary_data") if has_own else is_binary
        found[entry.name] = Wanted(entry.name, binary or place is not None, classes, place)
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
