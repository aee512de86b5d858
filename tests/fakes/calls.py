"""Calls of gRPC without a wire: what a service says to each."""

from __future__ import annotations

from typing import Any

from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, Metadata, Reply, Service, Withdrawal

OIP = "/inference.GRPCInferenceService/"


class Call:
    """One unary call and its reply."""

    def __init__(self, service: Service, path: str, message: Buffer = b"", **head: Any) -> None:
        self.replies: list[Reply] = []
        self.withdrawal: Withdrawal | None = service.ask(
            Head(path, **head), message, self.replies.append
        )

    @property
    def reply(self) -> Reply:
        (reply,) = self.replies
        return reply

    @property
    def message(self) -> bytes:
        assert self.reply.status == 0, self.reply.text
        assert self.reply.parts
        return b"".join(self.reply.parts)


class Stream:
    """The transport's side of a stream: keeps what it is told."""

    def __init__(self, service: Service, path: str, metadata: Metadata = (), **head: Any) -> None:
        self.sent: list[bytes] = []
        self.ends: list[Reply] = []
        self.is_reading = True
        self.incoming = service.open(Head(path, metadata=metadata, **head), self)

    def send(self, parts: list[Buffer]) -> None:
        assert not self.ends
        self.sent.append(b"".join(parts))

    def end(self, reply: Reply) -> None:
        assert not self.ends
        self.ends.append(reply)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True
