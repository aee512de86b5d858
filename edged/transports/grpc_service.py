"""The Open Inference Protocol over gRPC: every method that is served, whoever carries the calls.

Decides which methods there are and which of them are refused on this socket; satisfies
``protocol.grpc_call.Service``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edged.errors import EdgedError, RuntimeFailureError
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import (
    Head,
    Incoming,
    OnReply,
    Outgoing,
    Reply,
    Shape,
    Status,
    Withdrawal,
)
from edged.transports.grpc_infer import Inferences, failure
from edged.transports.grpc_pages import HEALTH, OIP, PageMethods
from edged.transports.grpc_stream import InferStream
from edged.transports.http_door import Door, Pages

log = logging.getLogger("edged.grpc")

_ADMIN = ("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings")
_SHARED = tuple(
    f"{kind}SharedMemory{verb}"
    for kind in ("System", "Cuda")
    for verb in ("Status", "Register", "Unregister")
)


class GrpcService:
    """The methods.

    Args:
        door: answers requests.
        pages: what is said of models and of the server.
    """

    def __init__(self, door: Door, pages: Pages) -> None:
        self._inferences = Inferences(door, pages)
        self._pages = PageMethods(pages)
        self._unary: dict[str, Callable[[Head, Buffer, OnReply], Withdrawal | None]] = {
            f"/{OIP}/ModelInfer": self._inferences.ask,
            **self._pages.methods,
            **{f"/{OIP}/{name}": _denied for name in _ADMIN},
            **{f"/{OIP}/{name}": _not_served for name in _SHARED},
        }
        self._streams: dict[str, tuple[Shape, Callable[[Head, Outgoing], Incoming]]] = {
            f"/{OIP}/ModelStreamInfer": (Shape.STREAM, self._stream),
            f"/{HEALTH}/Watch": (Shape.WATCH, self._pages.watch),
        }

    def configure(self, server_name: str, max_request_bytes: int, unread_wait_s: float) -> None:
        """Set what holds for new calls.

        Args:
            server_name: as the server's metadata has it.
            max_request_bytes: most bytes of the tensors of one request.
            unread_wait_s: how long a client of a stream may take no answer.
        """
        self._pages.server_name = server_name
        self._inferences.max_request_bytes = max_request_bytes
        self._inferences.unread_wait_s = unread_wait_s

    def shape(self, path: str) -> Shape | None:
        """How a method is spoken with; None for one that there is not."""
        if path in self._unary:
            return Shape.UNARY
        found = self._streams.get(path)
        return None if found is None else found[0]

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
        return self._streams[head.path][1](head, outgoing)

    def _stream(self, head: Head, outgoing: Outgoing) -> Incoming:
        return InferStream(self._inferences, head, outgoing)


def _denied(head: Head, _: Buffer, on_reply: OnReply) -> None:
    # Not UNAVAILABLE, as Triton has it: KServe's client would try again at once.
    method = head.path.rpartition("/")[2]
    text = f"{method} is not allowed on this socket"
    on_reply(Reply([], Status.PERMISSION_DENIED, text))


def _not_served(_: Head, __: Buffer, on_reply: OnReply) -> None:
    on_reply(Reply([], Status.UNIMPLEMENTED, "shared memory is not served here"))
