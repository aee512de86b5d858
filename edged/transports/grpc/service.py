"""The Open Inference Protocol over gRPC: every method that is served, whoever carries the calls.

Decides which methods there are, which of them are refused on this socket, and which right each
needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edged.access.guard import Guard, guarded
from edged.access.memory import guarded_memory
from edged.access.pages import VisiblePages
from edged.access.visit import Visit
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
from edged.protocol.oip_shared import Memory
from edged.transports.grpc.admin import answer_admin, is_served
from edged.transports.grpc.infer import Inferences, Limits, failure
from edged.transports.grpc.pages import FREE, HEALTH, OIP, PageMethods
from edged.transports.grpc.stream import InferStream
from edged.transports.named_memory import NamedMemory
from edged.transports.oip_door import Admin, Door, Pages

log = logging.getLogger("edged.grpc")

_INFER = f"/{OIP}/ModelInfer"
_STREAM = f"/{OIP}/ModelStreamInfer"
_WATCH = f"/{HEALTH}/Watch"
_ADMIN = ("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings")
_CUDA = tuple(f"CudaSharedMemory{verb}" for verb in ("Status", "Register", "Unregister"))


class GrpcService:
    """What all connections share.

    Args:
        door: answers requests.
        pages: what is said of models and of the server.
        memory: what clients have registered of memory by name, over HTTP too.
        admin: what administrators ask; only where this is their socket.
    """

    def __init__(
        self,
        door: Door,
        pages: Pages,
        memory: NamedMemory | None = None,
        admin: Admin | None = None,
    ) -> None:
        self.admin = admin
        self.door = door
        self.memory = memory or NamedMemory()
        self.pages = pages
        self.server_name = "edged"
        self.limits = Limits()

    def configure(self, server_name: str, max_request_bytes: int, unread_wait_s: float) -> None:
        """Set what holds for new calls.

        Args:
            server_name: as the server's metadata has it.
            max_request_bytes: most bytes of the tensors of one request.
            unread_wait_s: how long a client of a stream may take no answer.
        """
        self.server_name = server_name
        self.limits.max_request_bytes = max_request_bytes
        self.limits.unread_wait_s = unread_wait_s

    def asker(self) -> Asker:
        """What a new connection asks through."""
        return Asker(self)


class Asker:
    """What one connection asks; satisfies ``protocol.grpc_call.Service``.

    Args:
        service: what is served. Without ``enter``, all of it and to anybody.
    """

    def __init__(self, service: GrpcService) -> None:
        self._service = service
        self._visit: Visit | None = None
        self._inferences = Inferences(service.door, service.pages, service.limits, self._memory)
        self._pages = self._methods(service.pages)

    def enter(self, visit: Visit) -> None:
        """Ask with the rights of this client from now on."""
        self._visit = visit
        self._pages = self._methods(VisiblePages(self._service.pages, visit))
        self.review()

    def review(self) -> None:
        """What the client may do has changed, or may have: also what it has asked."""
        if self._visit is None:
            return
        door = guarded(self._service.door, self._visit, self._inferences.door)
        self._inferences.follow(door)
        if isinstance(door, Guard):
            door.withdraw()

    def leave(self) -> None:
        """The client is gone."""
        self._inferences.forget()

    def shape(self, path: str) -> Shape | None:
        """How a method is spoken with; None for one that there is not."""
        if path == _INFER or path in PageMethods.METHODS or path in _REFUSED:
            return Shape.UNARY
        return {_STREAM: Shape.STREAM, _WATCH: Shape.WATCH}.get(path)

    def ask(self, head: Head, message: Buffer, on_reply: OnReply) -> Withdrawal | None:
        """Answer a unary call, now or later."""
        path = head.path
        try:
            if path == _INFER:
                return self._inferences.ask(head, message, on_reply)
            admin = self._service.admin
            if admin is not None and self._visit is not None and is_served(path):
                return answer_admin(admin, self._visit, head, message, on_reply)
            if (refuse := _REFUSED.get(path)) is not None:
                on_reply(refuse(path))
                return None
            # Requests for inference are counted at the door, and probes never.
            if self._visit is not None and path not in FREE:
                self._visit.ask()
            on_reply(self._pages.answer(path, message, self._service.server_name))
        except EdgedError as exc:
            on_reply(failure(exc))
        except Exception:
            log.exception("a call of %s could not be handled", head.origin)
            self._inferences.forget()  # the next one is taken anew
            on_reply(failure(RuntimeFailureError("the call could not be handled; see the log")))
        return None

    def ask_alone(self, head: Head, message: bytes) -> bytes | None:
        """The answer to an inference that is known and that nobody else waits with; else None."""
        return self._inferences.ask_alone(head, message) if head.path == _INFER else None

    def _methods(self, pages: Pages) -> PageMethods:
        return PageMethods(pages, self._memory, has_admin=self._service.admin is not None)

    def _memory(self) -> Memory | None:
        user = None if self._visit is None else self._visit.peer.uid
        return guarded_memory(self._service.memory.of(user), self._visit)

    def open(self, head: Head, outgoing: Outgoing) -> Incoming:
        """Begin a call that is no unary one."""
        if head.path == _STREAM:
            return InferStream(self._inferences, head, outgoing)
        return self._pages.watch(outgoing)


def _denied(path: str) -> Reply:
    # Not UNAVAILABLE, as Triton has it: KServe's client would try again at once.
    method = path.rpartition("/")[2]
    return Reply([], Status.PERMISSION_DENIED, f"{method} is not allowed on this socket")


def _not_served(_: str) -> Reply:
    return Reply([], Status.UNIMPLEMENTED, "memory of a GPU is not served by name")


_REFUSED: dict[str, Callable[[str], Reply]] = {
    **{f"/{OIP}/{name}": _denied for name in _ADMIN},
    **{f"/{OIP}/{name}": _not_served for name in _CUDA},
}
