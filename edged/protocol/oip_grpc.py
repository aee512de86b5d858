"""Inference over gRPC: from ModelInferRequest to tensors, from answers to ModelInferResponse.

Tensors of ``raw_input_contents`` are views of the message. Answers always have
``raw_output_contents``, which is all that Triton's clients read.
Source: KServe ``open_inference_grpc.proto``; Triton's ``grpc_service.proto``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.messages import InferResponse
from edged.protocol.frames import Buffer
from edged.protocol.oip_answer import Labels, outputs_of
from edged.protocol.oip_messages import INFER_REQUEST, INFER_RESPONSE, STREAM_RESPONSE
from edged.protocol.oip_request import (
    Asked,
    Parameter,
    RequestedOutput,
    sequence_of,
    timeout_us_of,
    wanted_of,
)
from edged.protocol.oip_shared import OFFSET, REGION, SIZE, Memory, Place, needed, place_of
from edged.protocol.oip_tensor import Room, Shape, check_size, dtype_named, read_bytes, read_place
from edged.protocol.protobuf import Kind, decode, encode, few, numbers, varint
from edged.strings import strings
from edged.tensors import Array, DType

_MOST_TENSORS, _RANK_CAP = 64, 8
_NAME_CHARACTERS, _ID_CHARACTERS = 256, 1024
_MOST_TYPED: Final = 1 << 23
"""Values of one input's typed contents: unpacking them takes the event loop 10 ns each and more."""
_ASKS_END: Final = "triton_enable_empty_final_response"
_IS_END: Final = "triton_final_response"
_RAW: Final = INFER_RESPONSE.tags["raw_output_contents"]
_CONTENTS: Final = {
    "bool": ("bool_contents", Kind.BOOL),
    "int8": ("int_contents", Kind.INT),
    "int16": ("int_contents", Kind.INT),
    "int32": ("int_contents", Kind.INT),
    "int64": ("int64_contents", Kind.INT),
    "uint8": ("uint_contents", Kind.UINT),
    "uint16": ("uint_contents", Kind.UINT),
    "uint32": ("uint_contents", Kind.UINT),
    "uint64": ("uint64_contents", Kind.UINT),
    "float32": ("fp32_contents", Kind.FLOAT),
    "float64": ("fp64_contents", Kind.DOUBLE),
    "string": ("bytes_contents", Kind.BYTES),
}
"""Which typed contents a dtype comes in; float16 and bfloat16 have none."""


class Inference(NamedTuple):
    """A request, decoded.

    Args:
        model: the model's name.
        release: None for the model's route.
        asked: the rest.
        wants_end: whether a stream is to say that a request has had its last answer, also where
            that brings nothing else.
        raw: the bytes of each input, views of the message; none of typed contents.
    """

    model: str
    release: int | None
    asked: Asked
    wants_end: bool = False
    raw: Sequence[Buffer] = ()


def decode_infer(message: Buffer, cap: int, memory: Memory | None = None) -> Inference:
    """Read a ModelInferRequest.

    Args:
        message: all of it.
        cap: most bytes of all tensors together; packed numbers grow when they become tensors.
        memory: the client's regions; None where there is no memory by name.

    Raises:
        InvalidRequestError: says which field or tensor, and what was expected.
        DeniedError, NotFoundError: of memory by name.
    """
    found = decode(INFER_REQUEST, message)
    inputs = found.get("inputs", ())
    raw = found.get("raw_input_contents")
    if len(inputs) > _MOST_TENSORS or len(found.get("outputs", ())) > _MOST_TENSORS:
        raise InvalidRequestError(f"more than {_MOST_TENSORS} inputs or outputs")
    tensors: dict[str, Array] = {}
    room = Room(cap)
    places = [_place(entry) if "parameters" in entry else None for entry in inputs]
    sent = len(inputs) - sum(place is not None for place in places)
    if raw is not None and len(raw) != sent:
        raise InvalidRequestError(
            f"raw_input_contents has {len(raw)} entries for {sent} inputs; expected one for "
            "each that is not in shared memory, in their order"
        )
    left = iter(raw or ())
    for entry, place in zip(inputs, places, strict=True):
        name = _name(entry, "input")
        if name in tensors:
            raise InvalidRequestError(f'input "{name}" is given twice')
        if place is not None:
            tensors[name] = _placed(name, entry, place, room, memory)
        else:
            tensors[name] = _tensor(name, entry, None if raw is None else next(left), room)
    parameters = parameters_of(found)
    if len(request_id := found.get("id", "")) > _ID_CHARACTERS:
        raise InvalidRequestError(f"the id is longer than {_ID_CHARACTERS} characters")
    outputs = _outputs(found)
    asked = Asked(
        request_id,
        tensors,
        outputs,
        is_binary=True,
        timeout_us=timeout_us_of(parameters) if parameters else 0,
        sequence=sequence_of(parameters) if parameters else None,
        memory=needed(memory) if any(one.place is not None for one in outputs) else None,
        parameters=parameters,
    )
    return Inference(
        found.get("model_name", ""),
        release_of(found, "model_version"),
        asked,
        wants_end=parameters.get(_ASKS_END) is True,
        raw=raw or (),
    )


def release_of(found: Mapping[str, Any], field: str = "version") -> int | None:
    """The release that a message names; None where it names none.

    Raises:
        InvalidRequestError: it is no number.
    """
    version = found.get(field, "")
    if not version:
        return None
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise InvalidRequestError(f'{field} is "{version[:64]}"; expected a number, or nothing')
    return int(version)


def parameters_of(found: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters by name, as plain values."""
    parameters = {}
    for name, choice in found.get("parameters", {}).items():
        if not choice:
            raise InvalidRequestError(f'parameters."{name[:64]}" has no value')
        (parameters[name],) = choice.values()
    return parameters


def encode_infer(
    asked: Asked,
    response: InferResponse,
    labels: dict[str, Labels],
    is_end: bool | None = None,
) -> list[Buffer]:
    """Say what a model answered, as a ModelInferResponse.

    Args:
        asked: the request.
        response: without an error.
        labels: of the last axis, by output; for classification.
        is_end: whether it is the last one, where there may be several.
    """
    blobs: list[Buffer] = []
    outputs = outputs_of(asked, response, labels, blobs)
    for entry in outputs:
        said = entry.pop("parameters", {})
        if REGION in said:
            entry["parameters"] = _said(said)
    head: dict[str, Any] = {
        "model_name": response.model,
        "model_version": str(response.release),
        "id": asked.id,
        "outputs": outputs,
    }
    if is_end is not None:
        head["parameters"] = {_IS_END: {"bool": is_end}}
    parts: list[Buffer] = [encode(INFER_RESPONSE, head)]
    for blob in blobs:
        parts += (_RAW + varint(memoryview(blob).nbytes), blob)
    return parts


def in_stream(parts: list[Buffer]) -> list[Buffer]:
    """A ModelInferResponse as a ModelStreamInferResponse."""
    size = sum(memoryview(part).nbytes for part in parts)
    return [STREAM_RESPONSE.tags["infer_response"] + varint(size), *parts]


def stream_error(text: str, request_id: str) -> list[Buffer]:
    """What went wrong with one request of a stream that goes on."""
    document: dict[str, Any] = {"error_message": text}
    if request_id:
        document["infer_response"] = {"id": request_id}
    return [encode(STREAM_RESPONSE, document)]


def _name(entry: Mapping[str, Any], what: str) -> str:
    name: str = entry.get("name", "")
    if not 0 < len(name) <= _NAME_CHARACTERS:
        text = f"has a name of {len(name)} characters; expected 1 to {_NAME_CHARACTERS}"
        raise InvalidRequestError(f"an {what} {text}")
    return name


def _tensor(name: str, entry: Mapping[str, Any], raw: Buffer | None, room: Room) -> Array:
    dtype = dtype_named(name, entry.get("datatype", ""))
    shape = _shape(name, entry)
    size = check_size(name, dtype, shape, room)
    contents = entry.get("contents", {})
    if raw is None:
        return room.take(_typed(name, contents, dtype, shape))
    if any(map(len, contents.values())):
        raise InvalidRequestError(
            f'input "{name}" has contents, and there are raw_input_contents; expected one of them'
        )
    if size is not None and len(raw) != size:
        raise InvalidRequestError(
            f'input "{name}": {len(raw)} bytes in raw_input_contents, but {dtype.oip} of shape '
            f"{list(shape)} takes {size}"
        )
    return read_bytes(name, dtype, shape, raw, room)


def _place(entry: Mapping[str, Any]) -> Place | None:
    return place_of(parameters_of(entry), f'input "{_name(entry, "input")}"')


def _placed(
    name: str, entry: Mapping[str, Any], place: Place, room: Room, memory: Memory | None
) -> Array:
    """A copy of a tensor in the client's memory; it may not be sent as well."""
    if any(map(len, entry.get("contents", {}).values())):
        raise InvalidRequestError(
            f'input "{name}" has contents, and parameters.{REGION}; expected one of them'
        )
    dtype, shape = dtype_named(name, entry.get("datatype", "")), _shape(name, entry)
    check_size(name, dtype, shape, room)
    return read_place(name, dtype, shape, (place, needed(memory)), room)


def _said(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Where an output was written to."""
    found: dict[str, Any] = {REGION: {"string": parameters[REGION]}}
    for name in (SIZE, OFFSET):
        if name in parameters:
            found[name] = {"int64": parameters[name]}
    return found


def _shape(name: str, entry: Mapping[str, Any]) -> tuple[int, ...]:
    try:
        shape = tuple(few(entry.get("shape", b""), _RANK_CAP))
    except DecodeError as exc:
        raise DecodeError(f'input "{name}": shape: {exc.message}') from None
    if any(not 0 <= axis <= 1 << 31 for axis in shape):
        raise InvalidRequestError(f'input "{name}": shape {list(shape)} has an axis out of range')
    return shape


def _typed(name: str, contents: Mapping[str, Any], dtype: DType, shape: Shape) -> Array:
    """Elements of the contents that are there for this dtype; no others may be sent."""
    count = math.prod(shape)
    known = _CONTENTS.get(dtype.name)
    if known is None:
        raise InvalidRequestError(
            f'input "{name}": {dtype.oip} has no typed contents; send it as raw_input_contents'
        )
    field, kind = known
    if others := [other for other in contents if other != field and len(contents[other])]:
        raise InvalidRequestError(
            f'input "{name}": {dtype.oip} comes in contents.{field}, not in {others[0]}'
        )
    if count > _MOST_TYPED:
        raise TooLargeError(
            f'input "{name}": {count} values in typed contents, the most taken are {_MOST_TYPED}; '
            "send it as raw_input_contents"
        )
    if kind is Kind.BYTES:
        texts = contents.get(field, ())
        if len(texts) != count:
            raise InvalidRequestError(
                f'input "{name}": {len(texts)} strings in contents.{field}; its shape '
                f"{list(shape)} has {count}"
            )
        return strings([bytes(one) for one in texts], shape)
    try:
        found: Array = numbers(contents.get(field, b""), dtype.numpy, kind, count).reshape(shape)
        return found
    except DecodeError as exc:
        raise DecodeError(
            f'input "{name}": Unable to parse contents.{field} as {dtype.oip}: {exc.message}'
        ) from None


def _outputs(found: Mapping[str, Any]) -> Any:
    outputs = found.get("outputs")
    if not outputs:
        return ()
    return wanted_of(
        [RequestedOutput(_name(one, "output"), parameters_of(one)) for one in outputs],
        is_binary=True,
    )
