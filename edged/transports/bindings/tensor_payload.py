"""Tensors as an MQTT payload: a line of JSON, and behind it their bytes.

The JSON is that of the Open Inference Protocol over HTTP with binary data; a line end stands where
HTTP has a header with the JSON's length, so that a shell can write it and any MQTT version carry
it. Decides nothing of a tensor: ``oip_request.py`` and ``oip_answer.py`` do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edged.errors import DecodeError, DeniedError, InvalidRequestError, TooLargeError
from edged.messages import InferResponse
from edged.protocol.oip_answer import encode_response
from edged.protocol.oip_request import Asked, Wanted, decode_request
from edged.tensors import Array

TENSOR = "application/x-edged-tensor"
HEAD_BYTES = 4 << 20
"""Of the line; as for other JSON, since tensors may stand in it as numbers."""
_MOST_BYTES = 64 << 20
"""Of tensors that stood in the line as numbers; bytes are bounded by the payload."""


class TensorCodec:
    """Decodes such a payload; whether the tensors are the model's, the dataplane says."""

    is_slow = False

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Read a payload.

        Raises:
            InvalidRequestError: says which member or tensor, and what was expected.
        """
        end = payload.find(b"\n", 0, HEAD_BYTES + 1)
        if end < 0 and len(payload) > HEAD_BYTES:
            raise TooLargeError(f"no line end within {HEAD_BYTES} bytes: the JSON takes one line")
        if not end:
            raise DecodeError("the first line is empty; expected JSON with inputs")
        body = payload if end < 0 else payload[:end] + payload[end + 1 :]
        try:
            return decode_request(body, None if end < 0 else end, _MOST_BYTES).inputs
        except DeniedError as exc:
            raise InvalidRequestError("shared memory means nothing in a message") from exc


def encode_tensors(response: InferResponse, shown: tuple[str, ...]) -> bytes:
    """An answer of the same form.

    Args:
        response: without an error.
        shown: the outputs, in order; empty for all.
    """
    wanted = tuple(Wanted(name, is_binary=True) for name in shown)
    body = encode_response(Asked("", {}, wanted, is_binary=True), response, {})
    return b"".join([body.parts[0], b"\n", *body.parts[1:]])


def encode_raw(outputs: Mapping[str, Array], name: str) -> bytes:
    """The little-endian bytes of one output."""
    array = outputs[name]
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
