"""Requests over HTTP that differ in their tensors only: read once, then known by their first bytes.

A client asks one model for the same tensors again and again, so its head and JSON repeat to the
byte, and what they say with them: they say how long the request is and where its tensors lie. What
was read of the first is used for the others, and so is the head of the answer. Everything unusual
goes the long way through ``http_reader`` and ``oip_request``. No socket, clock or thread.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol import oip
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import BINARY, JOIN_BYTES, encode_answer
from edged.protocol.http_reader import HttpRequest
from edged.protocol.lane import Binds, LoneRun
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_answer import Labels, encode_response
from edged.protocol.oip_request import Asked
from edged.tensors import DTYPES, Array, TensorSpec, aligned

REPEAT_BYTES: Final = 64 << 10
"""What is larger takes longer to read than to understand."""
_HEAD_ENDS: Final = b"\r\n\r\n"


class _Field(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    elements: int
    offset: int


def same_part(request: HttpRequest, asked: Asked) -> bytes:
    """The bytes that another request would have in common with this one; none where it has no like.

    Args:
        request: with what it arrived as.
        asked: what was read of it.
    """
    data, body = request.whole, request.body
    given = request.headers.get(oip.HEADER_LENGTH)
    if given is None:
        return b""  # all of it is JSON, whatever its length
    size = sum(array.nbytes for array in asked.inputs.values())
    # A tensor of the JSON is none of the bytes behind it, and each byte of a bool is looked at.
    if not size or len(data) > REPEAT_BYTES or size != len(body) - int(given):
        return b""
    # Empty lines may follow a request, of which the parser tells nothing.
    if data.find(_HEAD_ENDS) + len(_HEAD_ENDS) + len(body) != len(data):
        return b""
    arrays = asked.inputs.values()
    if asked.sequence is not None or any(a.dtype.kind not in "iuf" or not a.size for a in arrays):
        return b""
    if not all(one.is_binary and not one.classes and one.place is None for one in asked.outputs):
        return b""
    return data[:-size] if asked.outputs or asked.is_binary else b""


class HttpRepeat:
    """What is known of requests that begin like one that was read.

    Args:
        prefix: its ``same_part``.
        asked: what it asks for.
    """

    def __init__(self, prefix: bytes, asked: Asked) -> None:
        self.prefix = prefix
        self.asked = asked
        fields, offset, specs = [], len(prefix), []
        for name, array in asked.inputs.items():
            fields.append(_Field(name, array.dtype, array.shape, array.size, offset))
            specs.append(TensorSpec(name, array.dtype.name, array.shape))
            offset += array.nbytes
        self.fields: tuple[_Field, ...] = tuple(fields)
        self.size = offset
        self.specs = tuple(specs)
        self._head = b""
        self._headed: object = None

    def fits(self, data: bytes) -> bool:
        """Whether these bytes are one such request, and nothing else."""
        return len(data) == self.size and data.startswith(self.prefix)

    def inputs(self, data: bytes) -> dict[str, Array]:
        """Its tensors, as views where their elements are at addresses of their own size."""
        return {
            name: aligned(np.frombuffer(data, dtype, elements, offset).reshape(shape))
            for name, dtype, shape, elements, offset in self.fields
        }

    def answer(self, response: InferResponse) -> list[Buffer]:
        """The whole answer to one of them; ``response`` is without an error.

        Raises:
            InvalidRequestError: an output that was asked for has no such form.
        """
        names = [one.name for one in self.asked.outputs] or list(response.outputs)
        arrays = [response.outputs[name] for name in names]
        kind = (response.release, [(array.dtype, array.shape) for array in arrays])
        if self._headed == kind:
            return [b"".join((self._head, *[array.tobytes() for array in arrays]))]
        buffers = whole_answer(self.asked, response, {})
        size = sum(array.nbytes for array in arrays)
        is_dense = all(array.dtype.isnative and array.dtype.kind in "biuf" for array in arrays)
        if len(buffers) == 1 and size and is_dense:
            self._head, self._headed = bytes(buffers[0])[:-size], kind
        return buffers


def whole_answer(
    asked: Asked, response: InferResponse, labels: dict[str, Labels], *, keeps_alive: bool = True
) -> list[Buffer]:
    """Head and body of an answer to a request for inference; in one piece when it is small.

    Raises:
        InvalidRequestError: an output that was asked for has no form in JSON.
    """
    body = encode_response(asked, response, labels)
    if not body.json_bytes:
        return encode_answer(body.parts, keeps_alive=keeps_alive)
    header = f"Inference-Header-Content-Length: {body.json_bytes}\r\n"
    return encode_answer(body.parts, 200, BINARY, header, keeps_alive=keeps_alive)


class HttpLane:
    """The shortest way from such a request to its answer, for a client that is alone.

    Args:
        repeat: what is known of the requests.
        call: what they ask, prepared.
        outputs: what answers hold.
        model: as the answers call it.
        release: who answers.

    Raises:
        InvalidRequestError: there is no lane for such requests, nor ever will be.
    """

    def __init__(
        self,
        repeat: HttpRepeat,
        call: Binds,
        outputs: tuple[TensorSpec, ...],
        model: str,
        release: int,
    ) -> None:
        if any(spec.dtype not in DTYPES for spec in outputs):
            raise InvalidRequestError("what has no NumPy numbers is not bound")
        self.inputs = {one.name: np.empty(one.shape, one.dtype) for one in repeat.fields}
        shapes = {spec.name: fixed_shape(spec) for spec in outputs}
        made = {spec.name: np.empty(shapes[spec.name], spec.dtype) for spec in outputs}
        size = sum(array.nbytes for array in made.values())
        if not 0 < size <= min(COPY_BYTES, JOIN_BYTES) or repeat.size > 2 * COPY_BYTES:
            raise InvalidRequestError("what is large is not copied")
        answer = whole_answer(repeat.asked, InferResponse(model, release, 0, made), {})
        names = [one.name for one in repeat.asked.outputs] or list(made)
        self._answer: tuple[Buffer, ...] = (
            bytes(answer[0])[:-size],
            *[bytes_of(made[name]) for name in names],
        )
        self._places = [
            (bytes_of(self.inputs[one.name]), one.offset, one.offset + self.inputs[one.name].nbytes)
            for one in repeat.fields
        ]
        self._run: LoneRun | None = call.bind(self.inputs, made, 0)

    @property
    def is_current(self) -> bool:
        """Whether it may be used again; otherwise another one has to be made."""
        return self._run is not None and self._run.is_current

    def ask(self, data: bytes, origin: str) -> bytes | None:
        """Answer a request that fits, or return None when that has to go the usual way."""
        run = self._run
        if run is None:
            return None
        for memory, start, end in self._places:
            memory[:] = data[start:end]
        return None if run.run(origin) is None else b"".join(self._answer)


def fixed_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an output; raises InvalidRequestError where it is only known after a run."""
    shape = tuple(axis for axis in spec.shape if isinstance(axis, int))
    if len(shape) != len(spec.shape):
        raise InvalidRequestError(f'"{spec.name}" has a free axis')
    return shape


def bytes_of(array: Array) -> memoryview:
    """The memory of one that is dense."""
    return array.reshape(-1).view(np.uint8).data
