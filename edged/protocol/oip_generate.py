"""The generate extension: a JSON object of names and values in, another one out, or several.

Decides which names an object may have and what tensors they are; a value needs no shape or
datatype, for the model has them. Models that make texts have the words of the extension
(``text_input``, ``text_output``) and of those who serve such models. Nothing else is taken: a name
that nobody knows is refused, not passed over, so that a misspelt one is noticed.
Source: Triton's ``extension_generate.md``, KServe's ``generate_rest.yaml``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from edged.errors import DecodeError, InvalidRequestError
from edged.generating import FINISH, REQUEST, TEXT, TOKENS, Ask, read_request, text_of
from edged.messages import InferResponse, SequenceStep
from edged.protocol.oip_answer import outputs_of
from edged.protocol.oip_request import Asked, Parameter, sequence_of, timeout_us_of
from edged.protocol.oip_tensor import Room, least_values, read_values
from edged.strings import check_count, strings
from edged.tensors import ALL_DTYPES, Array, DType, TensorSpec

_ID, _PARAMETERS = "id", "parameters"
_PARAMETERS_BYTES: Final = 64 << 10
"""Options are short; a table of a million names would take a gigabyte."""
_ID_CHARACTERS: Final = 1024
_OF_REQUEST: Final = ("timeout", "priority", "sequence_id", "sequence_start", "sequence_end")
_OPTIONS: Final = {name: name for name in Ask.__struct_fields__} | {
    "text_input": "prompt",
    "max_tokens": "max_new_tokens",
    "random_seed": "seed",
    "stop_words": "stop",
}
"""What a text is asked for by, under our names and those that clients have from elsewhere."""
_IDLE: Final = {
    "stream": (b"true", b"false"),  # which of the two is asked for, the path says
    "exclude_input_in_output": (b"true",),
    "bad_words": (b'""', b"[]"),
}
"""Options that clients send along and that change nothing, with the values for which that holds."""
_NO_STOP: Final = b'""'
_Raws = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Generate:
    """A request, decoded.

    Args:
        id: echoed in each answer; empty for none.
        inputs: tensors by name.
        makes_text: whether the model makes texts.
        timeout_us: how long it may wait and run, microseconds; 0 for no limit.
        sequence: which sequence it belongs to.
    """

    id: str
    inputs: dict[str, Array]
    makes_text: bool
    timeout_us: int = 0
    sequence: SequenceStep | None = None


def decode_generate(
    body: bytes | bytearray, specs: Sequence[TensorSpec], cap: int, *, makes_text: bool
) -> Generate:
    """Read a body.

    Args:
        body: the JSON.
        specs: the model's inputs.
        cap: most bytes of all tensors together; JSON grows when it becomes tensors.
        makes_text: whether the model makes texts.

    Raises:
        InvalidRequestError: says which name, and what was expected.
    """
    names = (*_OPTIONS, *_IDLE) if makes_text else tuple(spec.name for spec in specs)
    found = _members(body, names)
    request_id = found.pop(_ID) if _ID in found and _ID not in names else None
    options: _Raws = {}
    if _PARAMETERS in found and _PARAMETERS not in names:
        options = _parameters(found.pop(_PARAMETERS))
    of_request = {name: options.pop(name) for name in _OF_REQUEST if name in options}
    parameters: dict[str, Parameter] = {
        name: _decoded(raw, Parameter, f"{_PARAMETERS}.{name}") for name, raw in of_request.items()
    }
    if makes_text:
        inputs = {REQUEST: _text_request([*found.items(), *options.items()])}
    else:
        room = Room(cap)
        inputs = {
            spec.name: _tensor(spec, bytes(found[spec.name]), room)
            for spec in specs
            if spec.name in found
        }
    return Generate(
        "" if request_id is None else _request_id(request_id),
        inputs,
        makes_text,
        timeout_us_of(parameters),
        sequence_of(parameters),
    )


def encode_generated(asked: Generate, response: InferResponse) -> bytes:
    """One answer.

    Args:
        asked: the request.
        response: without an error.

    Raises:
        InvalidRequestError: an output has no form in JSON.
    """
    document: dict[str, Any] = {_ID: asked.id} if asked.id else {}
    document["model_name"] = response.model
    document["model_version"] = str(response.release)
    if asked.makes_text:
        outputs = response.outputs
        document["text_output"] = text_of(outputs[TEXT])
        document[TOKENS] = outputs[TOKENS].tolist()
        if finish := text_of(outputs[FINISH]) if FINISH in outputs else "":
            document[FINISH] = finish
        return msgspec.json.encode(document)
    for entry in outputs_of(Asked("", {}, (), is_binary=False), response, {}, []):
        document[entry["name"]] = _unpacked(entry["data"], math.prod(entry["shape"]))
    return msgspec.json.encode(document)


def _unpacked(data: Any, count: int) -> Any:
    """One value stands for itself, as in Triton's answers."""
    if count != 1:
        return data
    return msgspec.Raw(bytes(data)[1:-1]) if isinstance(data, msgspec.Raw) else data[0]


@functools.lru_cache(maxsize=64)  # by signatures, of which a daemon has few
def _decoder(names: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], tuple[str, ...]]:
    """Reads an object with no other names, so that nothing is kept of one with a million."""
    known = tuple(dict.fromkeys((*names, _ID, _PARAMETERS)))
    fields = [
        (f"f{index}", msgspec.Raw, msgspec.field(name=name, default=msgspec.Raw()))
        for index, name in enumerate(known)
    ]
    struct = msgspec.defstruct("Members", fields, frozen=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(struct), known


def _members(body: bytes | bytearray, names: tuple[str, ...]) -> _Raws:
    decoder, known = _decoder(names)
    try:
        found = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        listed = ", ".join(f'"{name}"' for name in known)
        raise DecodeError(
            f"Unable to parse the request: {_short(exc)}; expected a JSON object with any of "
            f"{listed}"
        ) from None
    values = zip(known, msgspec.structs.astuple(found), strict=True)
    return {name: raw for name, raw in values if raw}


def _parameters(raw: msgspec.Raw) -> _Raws:
    if memoryview(raw).nbytes > _PARAMETERS_BYTES:
        raise InvalidRequestError(f'"{_PARAMETERS}" may have {_PARAMETERS_BYTES} bytes')
    found: _Raws = _decoded(raw, _Raws, _PARAMETERS)
    return found


def _decoded(raw: msgspec.Raw, wanted: Any, name: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=wanted)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise DecodeError(f'Unable to parse "{name}": {_short(exc)}') from None


def _request_id(raw: msgspec.Raw) -> str:
    found: str = _decoded(raw, str, _ID)
    if len(found) > _ID_CHARACTERS:
        raise InvalidRequestError(f'"{_ID}" may have {_ID_CHARACTERS} characters')
    return found


def _short(exc: Exception) -> str:
    """Without all of a name that goes on and on."""
    text = str(exc)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _text_request(given: Iterable[tuple[str, msgspec.Raw]]) -> Array:
    """What a model that makes texts takes, see ``generating``."""
    options: dict[str, Any] = {}
    for name, raw in given:
        value = bytes(raw)
        if name in _IDLE:
            if value not in _IDLE[name]:
                served = " or ".join(one.decode() for one in _IDLE[name])
                raise InvalidRequestError(f'"{name}" is served as {served} only')
            continue
        option = _OPTIONS.get(name)
        if option is None:
            raise InvalidRequestError(
                f'no option "{name[:64]}"; there are: {", ".join((*_OPTIONS, *_IDLE))}'
            )
        if option in options:
            raise InvalidRequestError(f'"{name}": "{option}" is given twice')
        options[option] = raw if option != "stop" else _stops(value)
    data = msgspec.json.encode(options)
    read_request(data)  # says what is wrong before anything waits
    return np.frombuffer(data, np.uint8)


def _stops(value: bytes) -> msgspec.Raw:
    """A list; one text alone is a list of one, and an empty one of none."""
    if value == _NO_STOP:
        return msgspec.Raw(b"[]")
    return msgspec.Raw(b"[" + value + b"]" if value[:1] == b'"' else value)


def _tensor(spec: TensorSpec, text: bytes, room: Room) -> Array:
    """An input; a value alone is a list of one."""
    dtype, rank = ALL_DTYPES[spec.dtype], len(spec.shape)
    if text[:1] != b"[":
        text = b"[" + text + b"]"
    _check_size(spec.name, dtype, text, room)
    array, depth = read_values(spec.name, dtype, text, str(spec), rank)
    if array.ndim != depth:
        raise DecodeError(f'input "{spec.name}": Unable to parse data: rows of different lengths')
    shape = array.shape if depth == rank else _shape(spec, array.size)
    if dtype.name == "string":
        array = strings([one.encode() for one in array.reshape(-1).tolist()], shape)
        room.check(spec.name, array.nbytes, dtype.oip)
    return room.take(array.reshape(shape))


def _check_size(name: str, dtype: DType, text: bytes, room: Room) -> None:
    """Refuse a list that would take too much, before anything is made of it."""
    count = least_values(text, dtype)
    if dtype.name == "string":
        check_count((count,), f'input "{name}"', room.strings_left)
    else:
        room.check(name, count * dtype.size_bytes, dtype.oip)
    room.count_json(name, text, count)


def _shape(spec: TensorSpec, count: int) -> tuple[int, ...]:
    """Of a flat list: what is free is 1, but for the last free axis, which has the rest."""
    free = [at for at, axis in enumerate(spec.shape) if isinstance(axis, str)]
    found = [axis if isinstance(axis, int) else 1 for axis in spec.shape]
    if free:
        row = math.prod(found)
        found[free[-1]] = count // row if row else 0
    if math.prod(found) != count:
        raise InvalidRequestError(
            f'input "{spec.name}" is {spec}; {count} values do not fill it, nor whole rows of it'
        )
    return tuple(found)
