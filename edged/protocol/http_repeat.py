"""Requests over HTTP that differ in tensors and id only: read once, then known by their bytes.

A client asks one model for the same tensors again and again, so its head and JSON repeat to the
byte, and what they say with them: they say how long the request is and where its tensors lie. What
was read of the first is used for the others, and so is the head of the answer. An id may be another
one of the same length, and comes back in the answer. Everything unusual goes the long way through
``http_reader`` and ``oip_request``. No socket, clock or thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol import oip
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import BINARY, JOIN_BYTES, encode_answer
from edged.protocol.http_reader import HttpRequest
from edged.protocol.lane import Binds
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_answer import Labels, encode_response
from edged.protocol.oip_request import Asked
from edged.protocol.repeated import Field, Repeated, RepeatedLane, bytes_of, is_plain
from edged.tensors import TensorSpec

REPEAT_BYTES: Final = 64 << 10
"""What is larger takes longer to read than to understand."""
_HEAD_ENDS: Final = b"\r\n\r\n"


class Same(NamedTuple):
    """What requests of one kind begin with.

    Args:
        begin: all of it, up to the id where they have one each.
        rest: behind that.
        hole: where the id lies.
    """

    begin: bytes
    rest: bytes = b""
    hole: tuple[int, int] = (0, 0)

    @property
    def size(self) -> int:
        """How long it is with an id."""
        return max(len(self.begin), self.hole[1]) + len(self.rest)


def same_part(request: HttpRequest, asked: Asked) -> Same | None:
    """What another request would have in common with this one; None where it has no like.

    Args:
        request: with what it arrived as.
        asked: what was read of it.
    """
    data, body = request.whole, request.body
    given = request.headers.get(oip.HEADER_LENGTH)
    if given is None:
        return None  # all of it is JSON, whatever its length
    size = sum(array.nbytes for array in asked.inputs.values())
    # A tensor of the JSON is none of the bytes behind it, and each byte of a bool is looked at.
    if not size or len(data) > REPEAT_BYTES or size != len(body) - int(given):
        return None
    # Empty lines may follow a request, of which the parser tells nothing.
    if data.find(_HEAD_ENDS) + len(_HEAD_ENDS) + len(body) != len(data):
        return None
    arrays = asked.inputs.values()
    if asked.sequence is not None or any(a.dtype.kind not in "iuf" or not a.size for a in arrays):
        return None
    if not all(one.is_binary and not one.classes and one.place is None for one in asked.outputs):
        return None
    if not (asked.outputs or asked.is_binary):
        return None
    return _around_id(data[:-size], len(data) - len(body), asked.id)


def _around_id(data: bytes, json_at: int, request_id: str) -> Same:
    """What an id lies in; one whose place is not sure is part of what is always the same."""
    quoted = b'"%s"' % request_id.encode()
    at = data.find(quoted, json_at) + 1
    end = at + len(quoted) - 2
    # Where nothing is written otherwise than it is meant, the one text that reads so is the id; two
    # may share a quotation mark.
    is_sure = at > 0 and data.rfind(quoted) + 1 == at and data.find(b"\\", json_at) < 0
    if not request_id or not is_sure or not is_plain(data[at:end]):
        return Same(data)
    return Same(data[:at], data[end:], (at, end))


class HttpRepeat(Repeated):
    """What is known of requests that begin like one that was read.

    Args:
        same: its ``same_part``.
        asked: what it asks for.
    """

    def __init__(self, same: Same, asked: Asked) -> None:
        self.same = same
        self._begin, self._rest, hole = same
        fields, offset = [], same.size
        for name, array in asked.inputs.items():
            fields.append(Field(name, array.dtype, array.shape, array.size, offset))
            offset += array.nbytes
        super().__init__(fields, offset, asked, hole)
        self.tensor_bytes = offset - same.size
        self._head: tuple[bytes, ...] = ()
        self._headed: object = None

    def fits(self, data: bytes) -> bool:
        """Whether these bytes are one such request, and nothing else."""
        if len(data) != self.size or not data.startswith(self._begin):
            return False
        end = self.id_end
        return not end or (data.startswith(self._rest, end) and is_plain(data[self.id_at : end]))

    def head(self, answer: list[Buffer], size: int) -> tuple[bytes, ...]:
        """What is the same in all answers, but their ids; see ``around``.

        Args:
            answer: to the request that was read, in one piece.
            size: of its tensors.
        """
        return self.around(bytes(answer[0])[:-size], b'"id":"')

    def answer(self, response: InferResponse, data: bytes) -> list[Buffer]:
        """The whole answer to one of them; ``response`` is without an error.

        Args:
            response: to it.
            data: the request.

        Raises:
            InvalidRequestError: an output that was asked for has no such form.
        """
        names = [one.name for one in self.asked.outputs] or list(response.outputs)
        arrays = [response.outputs[name] for name in names]
        kind = (response.release, [(array.dtype, array.shape) for array in arrays])
        if self._headed == kind:
            pieces: list[Buffer] = [*self._head, *[array.tobytes() for array in arrays]]
            return [b"".join(self.filled(pieces, data))]
        buffers = whole_answer(self.asked_by(data), response, {})
        size = sum(array.nbytes for array in arrays)
        is_dense = all(array.dtype.isnative and array.dtype.kind in "biuf" for array in arrays)
        if len(buffers) == 1 and size and is_dense:
            with suppress(InvalidRequestError):
                self._head = self.head(whole_answer(self.asked, response, {}), size)
                self._headed = kind
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
        releases: who may answer.

    Raises:
        InvalidRequestError: there is no lane for such requests, nor ever will be.
    """

    def __init__(
        self,
        repeat: HttpRepeat,
        call: Binds,
        outputs: tuple[TensorSpec, ...],
        model: str,
        releases: Iterable[int],
    ) -> None:
        super().__init__(repeat, outputs, min(COPY_BYTES, JOIN_BYTES))
        made = self.outputs
        names = [one.name for one in repeat.asked.outputs] or list(made)
        answers: dict[int, list[Buffer]] = {}
        for release in releases:
            answer = whole_answer(repeat.asked, InferResponse(model, release, 0, made), {})
            head = repeat.head(answer, self.output_bytes)
            answers[release] = [*head, *[bytes_of(made[name]) for name in names]]
        self.bind(call, answers)
