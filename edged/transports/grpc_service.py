"""The Open Inference Protocol over gRPC: every method that is served, whoever carries the calls.

Decides which methods there are and what a failure is to the client; satisfies
``protocol.grpc_call.Service``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from edged.errors import EdgedError, RuntimeFailureError
from edged.protocol import oip_messages as messages
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import (
    Head,
    Incoming,
    OnReply,
    Outgoing,
    Reply,
    Shape,
    Withdrawal,
)
from edged.protocol.oip_grpc import release_of
from edged.protocol.protobuf import Schema, decode, encode
from edged.transports.grpc_infer import Inferences, failure
from edged.transports.http_door import Door, Pages

log = logging.getLogger("edged.grpc")

OIP = "/inference.GRPCInferenceService/"

_Document = dict[str, Any]
_PageOf = Callable[[_Document], _Document]
_Method = Callable[[Head, Buffer, OnReply], Withdrawal | None]


class GrpcService:
    """The methods.

    Args:
        door: answers requests.
        pages: what is said of models and of the server.
    """

    def __init__(self, door: Door, pages: Pages) -> None:
        self._pages = pages
        self._inferences = Inferences(door, pages)
        self._unary: dict[str, _Method] = {
            OIP + "ModelInfer": self._inferences.ask,
            OIP + "ServerLive": self._page(messages.NOTHING, messages.LIVE, self._live),
            OIP + "ServerReady": self._page(messages.NOTHING, messages.READY, self._ready),
            OIP + "ModelReady": self._page(
                messages.NAME_VERSION, messages.READY, self._model_ready
            ),
        }

    @property
    def max_request_bytes(self) -> int:
        """Most bytes of the tensors of one request."""
        return self._inferences.max_request_bytes

    @max_request_bytes.setter
    def max_request_bytes(self, cap: int) -> None:
        self._inferences.max_request_bytes = cap

    def shape(self, path: str) -> Shape | None:
        """How a method is spoken with; None for one that there is not."""
        return Shape.UNARY if path in self._unary else None

    def ask(self, head: Head, message: Buffer, on_reply: OnReply) -> Withdrawal | None:
        """Answer a unary call, now or later."""
        try:
            return self._unary[head.path](head, message, on_reply)
        except EdgedError as exc:
            on_reply(failure(exc))
        except Exception:
            log.exception("a call of %s could not be handled", head.origin)
            on_reply(failure(RuntimeFailureError("the call could not be handled; see the log")))
        return None

    def open(self, head: Head, outgoing: Outgoing) -> Incoming:
        """Begin a call that is no unary one."""
        raise NotImplementedError

    def _page(self, asked: Schema, answered: Schema, page: _PageOf) -> _Method:
        def answer(_: Head, message: Buffer, on_reply: OnReply) -> None:
            on_reply(Reply([encode(answered, page(decode(asked, message)))]))

        return answer

    def _live(self, _: _Document) -> _Document:
        return {"live": True}

    def _ready(self, _: _Document) -> _Document:
        return {"ready": not self._pages.unready()}

    def _model_ready(self, asked: _Document) -> _Document:
        name, version = asked.get("name", ""), _version(asked)
        try:
            self._pages.model_ready(name, version)
        except EdgedError:
            # Also one that is not known: clients raise on any other status than OK.
            return {"ready": False}
        return {"ready": True}


def _version(asked: _Document) -> str | None:
    release = release_of(asked)
    return None if release is None else str(release)
