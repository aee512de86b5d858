"""Native protocol, upper half: frames to messages and back. No socket, clock, thread or file.

Decides what a frame means and whether its tensors add up. Never runs anything, and never lets a
peer choose a class: heads are fixed msgpack structures, errors come from a closed table.
Full description: docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from edged.errors import (
    BusyError,
    EdgedError,
    InvalidRequestError,
    LocalProtocolError,
    RemoteProtocolError,
    TensorMismatchError,
    TooLargeError,
    error_from_wire,
)
from edged.messages import InferRequest, InferResponse
from edged.protocol.frames import Buffer, Frame, Kind, Limits, encode_frame, padding
from edged.protocol.keys import check_key
from edged.strings import STRINGS_CAP, decode_strings, encode_strings
from edged.tensors import ALL_DTYPES, DTYPES, Array, DType, dtype_of, size_bytes

NAME_CAP = 256
T = TypeVar("T")
H = TypeVar("H", bound="TensorHead")
"""A tensor in the head of a request: as it is written, or as it is read."""


Read = Callable[[str, int, int, int], bytes]
"""Copies out of memory that the client lends: what for, the region, the offset, the bytes."""


class TensorHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One tensor of a body; they follow one another, each padded to 8 bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class AskedHead(TensorHead, array_like=True, frozen=True, gc=False):
    """One tensor of a request, which may lie in lent memory instead: the region and the offset."""

    place: tuple[int, int] | None = None


class InferHead(msgspec.Struct, Generic[H], array_like=True, frozen=True, gc=False):
    """Head of INFER. ``timeout_us`` is the time the answer is still useful; 0 means no limit."""

    model: str
    release: int | str | None
    tensors: list[H]
    outputs: tuple[str, ...] = ()
    timeout_us: int = 0


class KeyedHead(InferHead[H], array_like=True, frozen=True, gc=False):
    """Head of INFER of who wants the same answerer again: by this text, in a rollout."""

    key: str | None = None


class ResultHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of RESULT."""

    release: int
    generation: int
    tensors: list[TensorHead]
    queue_ns: int = 0
    run_ns: int = 0
    batch_rows: int = 0


class ErrorHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of ERROR. Request id 0 means the connection itself; it is closed after that."""

    code: str
    name: str
    message: str
    retry_after_ns: int = 0
    release: int = 0
    generation: int = 0


class CallHead(msgspec.Struct, array_like=True, frozen=True):
    """Head of CALL: a verb such as ``status`` with plain arguments."""

    verb: str
    arguments: dict[str, Any] = {}


_encoder = msgspec.msgpack.Encoder()
_infer_decoder = msgspec.msgpack.Decoder(KeyedHead[AskedHead])
_result_decoder = msgspec.msgpack.Decoder(ResultHead)
_error_decoder = msgspec.msgpack.Decoder(ErrorHead)
_call_decoder = msgspec.msgpack.Decoder(CallHead)
_document_decoder = msgspec.msgpack.Decoder()


def encode_infer(request_id: int, request: InferRequest, timeout_us: int = 0) -> list[Buffer]:
    """An INFER frame; the request's ``deadline_ns`` is not sent, ``timeout_us`` is."""
    tensors, body = pack(request.inputs)
    what = (request.model, request.release, tensors, request.outputs, timeout_us)
    key = request.asker
    # Without a key the head is what it always was.
    head = KeyedHead(*what, key) if isinstance(key, str) else InferHead(*what)
    return encode_frame(Kind.INFER, request_id, encode_head(head), body)


def decode_infer(
    frame: Frame, limits: Limits, read: Read | None = None
) -> tuple[InferRequest, int]:
    """Read an INFER frame; ``read`` is None where no memory is lent.

    Returns:
        The request, without deadline and origin, and the timeout in microseconds (0 = none).

    Raises:
        InvalidRequestError: the head is malformed or the tensors do not add up to the body.
    """
    head = decode_head(_infer_decoder, frame)
    check_release(head.release)
    if head.timeout_us < 0:
        raise InvalidRequestError(f"timeout {head.timeout_us} us: expected 0 (none) or more")
    if head.key is not None:
        check_key(head.key)
    inputs = unpack(head.tensors, frame.body, limits, read)
    request = InferRequest(head.model, inputs, head.release, head.outputs, asker=head.key)
    return request, head.timeout_us


def encode_response(request_id: int, response: InferResponse) -> list[Buffer]:
    """A RESULT frame, or an ERROR frame when the response carries one."""
    if response.error is not None:
        return encode_error(request_id, response.error, response.release, response.generation)
    tensors, body = pack(response.outputs)
    head = ResultHead(
        response.release,
        response.generation,
        tensors,
        response.queue_ns,
        response.run_ns,
        response.batch_rows,
    )
    return encode_frame(Kind.RESULT, request_id, _encoder.encode(head), body)


def decode_response(frame: Frame, model: str, limits: Limits) -> InferResponse:
    """Read a RESULT or ERROR frame; ``model`` is what the request named."""
    if frame.kind == Kind.ERROR:
        error = decode_head(_error_decoder, frame)
        return InferResponse(
            model,
            error.release,
            error.generation,
            error=error_from_wire(error.code, error.name, error.message, error.retry_after_ns),
        )
    if frame.kind != Kind.RESULT:
        raise RemoteProtocolError(f"expected a RESULT or ERROR frame, got kind {frame.kind}")
    head = decode_head(_result_decoder, frame)
    outputs = unpack(head.tensors, frame.body, limits)
    return InferResponse(
        model,
        head.release,
        head.generation,
        outputs,
        queue_ns=head.queue_ns,
        run_ns=head.run_ns,
        batch_rows=head.batch_rows,
    )


def encode_error(
    request_id: int, error: EdgedError, release: int = 0, generation: int = 0
) -> list[Buffer]:
    """An ERROR frame."""
    retry_ns = error.retry_after_ns if isinstance(error, BusyError) else 0
    head = ErrorHead(
        error.code.value, type(error).__name__, error.message, retry_ns, release, generation
    )
    return encode_frame(Kind.ERROR, request_id, _encoder.encode(head), [])


def encode_call(request_id: int, verb: str, arguments: dict[str, Any]) -> list[Buffer]:
    """A CALL frame; arguments are plain values."""
    return encode_frame(Kind.CALL, request_id, encode_head(CallHead(verb, arguments)), [])


def decode_call(frame: Frame) -> CallHead:
    """Read a CALL frame."""
    return decode_head(_call_decoder, frame)


def encode_reply(request_id: int, document: Any) -> list[Buffer]:
    """A REPLY frame: the document is in the body, since it may be larger than a head."""
    data = _encoder.encode(document)
    return encode_frame(Kind.REPLY, request_id, b"", [data])


def decode_reply(frame: Frame) -> Any:
    """Read a REPLY frame, or raise what an ERROR frame in its place says."""
    if frame.kind == Kind.ERROR:
        error = decode_head(_error_decoder, frame)
        raise error_from_wire(error.code, error.name, error.message, error.retry_after_ns)
    if frame.kind != Kind.REPLY:
        raise RemoteProtocolError(f"expected a REPLY or ERROR frame, got kind {frame.kind}")
    try:
        return _document_decoder.decode(frame.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise RemoteProtocolError(f"a REPLY that is not msgpack: {exc}") from exc


def check_release(release: int | str | None) -> None:
    """Refuse a number that no release has."""
    if isinstance(release, int) and release < 1:
        raise InvalidRequestError(f"release {release}: expected a number from 1 or an alias")


def encode_head(head: msgspec.Struct) -> bytes:
    """The bytes of a head.

    Raises:
        LocalProtocolError: it holds something that msgpack has not.
    """
    try:
        return _encoder.encode(head)
    except (TypeError, OverflowError) as exc:
        raise LocalProtocolError(
            f"the head of a request takes plain values and numbers of 64 bits: {exc}"
        ) from exc


def decode_head(decoder: msgspec.msgpack.Decoder[T], frame: Frame) -> T:
    """Read a head.

    Raises:
        InvalidRequestError: it is not what the frame's kind asks for.
    """
    try:
        return decoder.decode(frame.head)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"malformed head of a frame of kind {frame.kind}: {exc}") from exc


def pack(tensors: Mapping[str, Array]) -> tuple[list[TensorHead], list[Buffer]]:
    """Describe tensors and lay out their bytes, without copying contiguous ones.

    Raises:
        LocalProtocolError: a dtype that the protocol does not carry.
    """
    heads: list[TensorHead] = []
    body: list[Buffer] = []
    for name, array in tensors.items():
        dtype = DTYPES.get(array.dtype.name)
        if dtype is None:
            special, data = _pack_special(name, array)
            heads.append(TensorHead(name, special, array.shape))
            body += (data, bytes(padding(len(data))))
            continue
        dense = np.ascontiguousarray(array, dtype=dtype.numpy)
        heads.append(TensorHead(name, dtype.name, array.shape))
        size = dense.nbytes
        # A copy of little costs less than a view; and an empty array cannot be cast as one.
        body.append(dense.tobytes() if size <= 4096 else dense.data.cast("B"))
        if size % 8:
            body.append(bytes(padding(size)))
    return heads, body


def unpack(
    heads: Sequence[TensorHead], body: memoryview, limits: Limits, read: Read | None = None
) -> dict[str, Array]:
    """View a body as named tensors; those that lie in lent memory are copied out of it.

    Raises:
        TensorMismatchError: an unknown dtype, a negative axis, a name twice, a bool that is neither
            0 nor 1, or sizes that do not add up to the body exactly.
        EdgedError: of a place in lent memory.
    """
    if len(heads) > limits.tensors:
        raise InvalidRequestError(f"{len(heads)} tensors; the limit is {limits.tensors}")
    tensors: dict[str, Array] = {}
    offset, strings_left, lent_left = 0, STRINGS_CAP, limits.body_bytes
    for head in heads:
        name, shape = head.name, head.shape
        dtype = ALL_DTYPES.get(head.dtype)
        if len(name) > NAME_CAP or name in tensors:
            raise TensorMismatchError(f'"{name[:64]}": the name occurs twice or is too long')
        if dtype is None:
            raise TensorMismatchError(
                f'"{name}": unknown dtype "{head.dtype[:32]}"; expected one of '
                + ", ".join(ALL_DTYPES)
            )
        if len(shape) > limits.rank or any(axis < 0 for axis in shape):
            raise TensorMismatchError(
                f'"{name}": shape {list(shape[:16])}; expected at most {limits.rank} axes, '
                "none negative"
            )
        if isinstance(head, AskedHead) and head.place is not None:
            data = _read_place(head, head.place, lent_left, read)
            lent_left -= len(data)
            tensors[name] = _view(name, dtype, shape, memoryview(data))
            continue
        if head.dtype == "string":
            tensors[name], size = decode_strings(body[offset:], shape, f'"{name}"', strings_left)
            strings_left -= tensors[name].size
            offset += size + padding(size)
            continue
        size = size_bytes(head.dtype, shape)
        if size > len(body) - offset:
            raise TensorMismatchError(
                f'"{name}": {head.dtype}{list(shape)} needs {size} bytes; '
                f"the body has {len(body) - offset} left"
            )
        tensors[name] = _view(name, dtype, shape, body[offset : offset + size])
        offset += size + padding(size)
    if offset != len(body):
        raise TensorMismatchError(
            f"the body has {len(body)} bytes; its tensors (each padded to 8) take {offset}"
        )
    return tensors


def _read_place(head: TensorHead, place: tuple[int, int], left: int, read: Read | None) -> bytes:
    """A copy of what lies in lent memory; of all tensors no more than a body may have."""
    name = head.name
    if read is None:
        raise TensorMismatchError(f'"{name}" names a place in memory; none is lent here')
    if head.dtype == "string":
        raise TensorMismatchError(f'"{name}": strings come in the body')
    size = size_bytes(head.dtype, head.shape)
    if size > left:
        raise TooLargeError(
            f'"{name}": {head.dtype}{list(head.shape)} needs {size} bytes of memory; the tensors '
            f"of one request may still take {left} of it (limits.max_request)"
        )
    return read(f'"{name}"', *place, size)


def _pack_special(name: str, array: Array) -> tuple[str, bytes]:
    """The dtype and the bytes of what NumPy has no numbers for."""
    dtype = dtype_of(array)
    if dtype is None:
        raise LocalProtocolError(
            f'"{name}" has dtype {array.dtype}; the protocol carries {", ".join(ALL_DTYPES)}'
        )
    if dtype.name == "string":
        try:
            return dtype.name, encode_strings(array)
        except LocalProtocolError as exc:
            raise LocalProtocolError(f'"{name}": {exc.message}') from exc
    return dtype.name, array.tobytes()


def _view(name: str, dtype: DType, shape: tuple[int, ...], data: memoryview) -> Array:
    if not data:
        try:
            return np.empty(shape, dtype.numpy)
        except ValueError as exc:
            # An axis of length 0 makes the size 0 whatever the others are.
            raise TensorMismatchError(f'"{name}": shape {list(shape)}: {exc}') from exc
    if dtype.name == "bool" and np.frombuffer(data, np.uint8).max() > 1:
        # Reading such a byte as a bool is undefined in the C++ of every runtime.
        raise TensorMismatchError(f'"{name}": a byte of bool{list(shape)} is not one of 0 and 1')
    return np.frombuffer(data, dtype.numpy).reshape(shape)


def encode_cancel(request_id: int) -> list[Buffer]:
    """A CANCEL frame for a request that was sent before; it has no answer of its own."""
    return encode_frame(Kind.CANCEL, request_id, b"", [])
