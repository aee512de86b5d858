"""The worker's side of a text that is asked for piece by piece.

One PART for each token, and a RESULT or ERROR that ends it. Whatever the parent sends meanwhile
(that it wants no more, or its end) ends the text after the token that is being made.
"""

from __future__ import annotations

import contextlib
import socket
from typing import cast

from edged.device.memory import hand_back
from edged.errors import CancelledError, InvalidRequestError
from edged.generating import CAPS, FINISH, REQUEST, Caps, read_request, tensors
from edged.messages import InferResponse
from edged.protocol import native, streams
from edged.protocol.frames import Buffer, Frame, Limits
from edged.runtimes.base import Session, TextSession


def make_text(sock: socket.socket, session: Session, frame: Frame, limits: Limits) -> list[Buffer]:
    """Make a text and send its pieces, all but the last.

    Args:
        sock: to the parent; blocking.
        session: of a model that makes texts.
        frame: STREAM.
        limits: of frames.

    Returns:
        The frame that ends it.

    Raises:
        EdgedError: the request is none, or the model failed.
        CancelledError: the parent wants no more.
    """
    if not hasattr(session, "generate"):
        raise InvalidRequestError("this model makes no texts")
    inputs = streams.decode_stream(frame, limits)[0].inputs
    ask, caps = read_request(inputs[REQUEST].tobytes()), Caps(*inputs[CAPS].tolist())
    text, number = cast("TextSession", session).generate(ask, caps), frame.request_id
    with contextlib.ExitStack() as ends:
        ends.callback(hand_back)  # second: what the text kept is free by then
        pieces = ends.enter_context(contextlib.closing(text))
        for index, piece in enumerate(pieces):
            outputs = tensors((piece,))
            if piece.finish:
                return native.encode_response(number, InferResponse("", 0, 0, outputs))
            del outputs[FINISH]
            sock.sendall(
                b"".join(streams.encode_part(number, InferResponse("", 0, 0, outputs), index))
            )
            if _is_spoken_to(sock):
                break
    raise CancelledError("withdrawn")


def _is_spoken_to(sock: socket.socket) -> bool:
    """Whether the parent has said something, or closed its end."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True
