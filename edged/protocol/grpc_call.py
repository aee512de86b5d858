"""A call of gRPC, between whoever carries it and whoever answers it.

Words only: the transport cuts messages out of its wire and waits for the client; the service
decides what is answered. A message is the bytes of one protobuf message, without gRPC's own prefix.
Both sides run on the event loop, and neither blocks.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edged.protocol.frames import Buffer

Metadata = tuple[tuple[str, str], ...]
"""Names in lower case, with text; what ends in ``-bin`` is left out."""


class Status(enum.IntEnum):
    """How a call ended, in gRPC's numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Shape(enum.Enum):
    """How many messages a method takes and gives."""

    UNARY = "unary"
    """One, and one."""
    WATCH = "watch"
    """One, and any number."""
    STREAM = "stream"
    """Any number, and any number, each side at its own pace."""


@dataclass(frozen=True, slots=True)
class Head:
    """How a call began.

    Args:
        path: ``/package.Service/Method``, as the client wrote it.
        deadline_ns: monotonic clock, nanoseconds; None for no deadline. The service gives up work
            that waits past it; ending the call at that moment is the transport's.
        origin: who asks, for logs; e.g. ``grpc:1000`` with the user of a Unix socket's other end.
        metadata: what the client sent along.
    """

    path: str
    deadline_ns: int | None = None
    origin: str = "grpc"
    metadata: Metadata = ()


class Reply(NamedTuple):
    """How a call ends.

    Args:
        parts: the message of a unary call, to be sent as one; empty where there is none: with any
            other status than OK, and at the end of a stream. An OK unary reply always has a
            message, which may be no bytes at all (``[b""]``).
        status: as the client sees it.
        text: what was wrong, UTF-8; the transport percent-encodes it. Empty with OK.
        trailers: metadata behind the last message.
    """

    parts: list[Buffer]
    status: Status = Status.OK
    text: str = ""
    trailers: Metadata = ()


OnReply = Callable[[Reply], None]
"""Called on the event loop, exactly once. It must not raise and must not block."""


class Withdrawal(Protocol):
    """A unary call that was taken and may be withdrawn."""

    def cancel(self) -> object:
        """Drop what still waits: the client is gone, has cancelled, or its deadline has passed.

        The reply is given all the same, before this returns or when what runs has ended; the
        transport then has nobody to tell.
        """
        ...


class Outgoing(Protocol):
    """The transport's side of a stream."""

    def send(self, parts: list[Buffer]) -> None:
        """One message. A stream sends while it is held too, but only what was asked for before."""
        ...

    def end(self, reply: Reply) -> None:
        """The last thing that a stream says, exactly once; its ``parts`` are empty."""
        ...

    def pause_reading(self) -> None:
        """Give no more messages for now, and let the client notice."""
        ...

    def resume_reading(self) -> None:
        """Give them again."""
        ...


class Incoming(Protocol):
    """The service's side of a stream. Nothing is said after ``cancel``, or after it has ended."""

    def message(self, data: Buffer) -> None:
        """One message of the client."""
        ...

    def half_close(self) -> None:
        """The client sends no more; it still reads."""
        ...

    def cancel(self) -> None:
        """The client is gone, has cancelled, or its deadline has passed.

        Nothing is sent any more, and ``Outgoing.end`` is not called.
        """
        ...

    def hold(self) -> None:
        """The client reads too slowly: make no more answers for now."""
        ...

    def release(self) -> None:
        """It reads again."""
        ...


class Service(Protocol):
    """What is served. The transport refuses messages over its limit and unknown methods itself."""

    def shape(self, path: str) -> Shape | None:
        """How a method is spoken with; None for one that there is not (``UNIMPLEMENTED``)."""
        ...

    def ask(self, head: Head, message: Buffer, on_reply: OnReply) -> Withdrawal | None:
        """Answer a unary call, now or later.

        Args:
            head: of a method whose shape is UNARY.
            message: kept as long as the call is under way; tensors are views of it.
            on_reply: told what came of it, perhaps before this returns.

        Returns:
            What withdraws it; None where nothing could be.
        """
        ...

    def ask_alone(self, head: Head, message: bytes) -> bytes | None:
        """The answer to a unary call that is known and can be given on the spot, with status OK.

        None for any other, which is then to be asked with ``ask``; nothing has been done for it.
        It has no more than ``http2_short.ANSWER_BYTES``.
        """
        ...

    def open(self, head: Head, outgoing: Outgoing) -> Incoming:
        """Begin a call whose shape is WATCH or STREAM."""
        ...
