"""Requests over HTTP that differ in their tensors only: read once, then known by their first bytes.

A client asks one model for the same tensors again and again, so its head and JSON repeat to the
byte, and what they say with them: they say how long the request is and where its tensors lie. What
was read of the first is used for the others, and so is the head of the answer. Everything unusual
goes the long way through ``http_reader`` and ``oip_request``. No socket, clock or thread.
"""

from __future__ import annotations

from typing import Final

from edged.messages import InferResponse
from edged.protocol import oip
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import BINARY, JOIN_BYTES, encode_answer
from edged.protocol.http_reader import HttpRequest
from edged.protocol.lane import Binds
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_answer import Labels, encode_response
from edged.protocol.oip_request import Asked
from edged.protocol.repeated import Field, Repeated, RepeatedLane, bytes_of
from edged.tensors import TensorSpec

REPEAT_BYTES: Final = 64 << 10
"""What is larger takes longer to read than to understand."""
_HEAD_ENDS: Final = b"\r\n\r\n"


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


class HttpRepeat(Repeated):
    """What is known of requests that begin like one that was read.

    Args:
        prefix: its ``same_part``.
        asked: what it asks for.
    """

    def __init__(self, prefix: bytes, asked: Asked) -> None:
        self.prefix = prefix
        self.asked = asked
        fields, offset = [], len(prefix)
        for name, array in asked.inputs.items():
            fields.append(Field(name, array.dtype, array.shape, array.size, offset))
            offset += array.nbytes
        super().__init__(fields, offset)
        self._head = b""
        self._headed: object = None

    def fits(self, data: bytes) -> bool:
        """Whether these bytes are one such request, and nothing else."""
        return len(data) == self.size and data.startswith(self.prefix)

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


class HttpLane(RepeatedLane):
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
        super().__init__(repeat, outputs, min(COPY_BYTES, JOIN_BYTES))
        made = self.outputs
        answer = whole_answer(repeat.asked, InferResponse(model, release, 0, made), {})
        names = [one.name for one in repeat.asked.outputs] or list(made)
        head = bytes(answer[0])[: -self.output_bytes]
        self.bind(call, (head, *[bytes_of(made[name]) for name in names]))
