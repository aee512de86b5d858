"""Our gRPC endpoint on a real socket with a service that echoes, and a client of raw frames."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import hpack

from edged.config.listen import GrpcConfig, ListenConfig
from edged.config.schema import Config, LimitsConfig
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, OnReply, Outgoing, Reply, Shape, Status
from edged.protocol.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frame,
    FrameReader,
    Setting,
    Type,
    encode,
    encode_settings,
)
from edged.transports.grpc.endpoint import GrpcServer
from tests.fakes.house import ServerThread
from tests.fakes.http2 import whole


class Held:
    """A call that waits."""

    def __init__(self, message: bytes, on_reply: OnReply) -> None:
        self.message = message
        self.on_reply = on_reply
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.on_reply(Reply([], Status.CANCELLED, "withdrawn"))


class Talk:
    """A stream that echoes each message."""

    def __init__(self, head: Head, outgoing: Outgoing) -> None:
        self.head = head
        self.outgoing = outgoing
        self.messages: list[bytes] = []
        self.said: list[str] = []

    def message(self, data: Buffer) -> None:
        self.messages.append(bytes(data))
        if self.head.path == "/t/pausing":
            self.outgoing.pause_reading()
        elif data == b"raise":
            raise RuntimeError("a mistake of ours")
        else:
            self.outgoing.send([data])

    def half_close(self) -> None:
        self.said.append("half_close")
        self.outgoing.end(Reply([]))

    def cancel(self) -> None:
        self.said.append("cancel")

    def hold(self) -> None:
        self.said.append("hold")

    def release(self) -> None:
        self.said.append("release")


class Echo:
    """The service."""

    SHAPES: ClassVar[dict[str, Shape]] = {
        "/t/echo": Shape.UNARY, "/t/held": Shape.UNARY, "/t/fail": Shape.UNARY,
        "/t/raise": Shape.UNARY, "/t/talk": Shape.STREAM, "/t/pausing": Shape.STREAM,
    }  # fmt: skip

    def __init__(self) -> None:
        self.configured: tuple[str, int, float] | None = None
        self.is_quiet = False
        """Whether calls that are known are answered on the spot."""
        self.alone: list[bytes] = []
        self.heads: list[Head] = []
        self.held: list[Held] = []
        self.talks: list[Talk] = []
        self.visits: list[Any] = []
        self.reviews = self.left = 0

    def configure(self, server_name: str, max_request_bytes: int, unread_wait_s: float) -> None:
        self.configured = (server_name, max_request_bytes, unread_wait_s)

    def asker(self) -> Echo:
        return self

    def enter(self, visit: Any) -> None:
        self.visits.append(visit)

    def review(self) -> None:
        self.reviews += 1

    def leave(self) -> None:
        self.left += 1

    def shape(self, path: str) -> Shape | None:
        return self.SHAPES.get(path)

    def ask(self, head: Head, message: Buffer, on_reply: OnReply) -> Held | None:
        self.heads.append(head)
        if head.path == "/t/raise":
            raise RuntimeError("a mistake of ours")
        if head.path == "/t/fail":
            on_reply(Reply([], Status.NOT_FOUND, "there is no é"))
        elif head.path == "/t/held":
            self.held.append(Held(bytes(message), on_reply))
            return self.held[-1]
        else:
            on_reply(Reply([bytes(message)]))
        return None

    def ask_alone(self, head: Head, message: bytes) -> bytes | None:
        if head.path != "/t/echo" or not self.is_quiet:
            return None
        self.alone.append(message)
        return message

    def open(self, head: Head, outgoing: Outgoing) -> Talk:
        self.heads.append(head)
        self.talks.append(Talk(head, outgoing))
        return self.talks[-1]


class House(ServerThread):
    """An GrpcServer in a thread of its own."""

    def __init__(self, path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.path = path
        self.service = Echo()
        super().__init__(new_loop, GrpcServer(self.service), "grpc")

    def start(self, max_connections: int = 256, **limits: Any) -> House:
        grpc = GrpcConfig(path=str(self.path))
        config = Config(
            listen=ListenConfig(grpc=grpc, max_connections=max_connections),
            limits=LimitsConfig(**limits),
        )

        async def work() -> None:
            await self.server.commit(self.server.prepare(config), config)

        self.run(work())
        return self


class Caller:
    """A client that was greeted."""

    def __init__(self, path: Path, **settings: int) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.reader = FrameReader()
        self.frames: list[Frame] = []
        self.number = -1
        wanted = {Setting[name]: value for name, value in settings.items()}
        self.send(PREFACE + encode_settings(wanted) + encode(Type.SETTINGS, ACK, 0))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def begin(self, path: str, *headers: tuple[str, str], flags: int = END_HEADERS) -> int:
        self.number += 2
        self.send(self.headers(path, *headers, flags=flags))
        return self.number

    def headers(self, path: str, *headers: tuple[str, str], flags: int = END_HEADERS) -> bytes:
        made = [
            (":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers"),
            ("content-type", "application/grpc"), *headers,
        ]  # fmt: skip
        return encode(Type.HEADERS, flags, self.number, self.encoder.encode(made))

    def ask(self, path: str, message: bytes, *headers: tuple[str, str]) -> int:
        """A whole call in one write."""
        self.number += 2
        data = self.headers(path, *headers)
        self.send(data + encode(Type.DATA, END_STREAM, self.number, framed(message)))
        return self.number

    def until(self, is_it: Callable[[Frame], bool]) -> Frame:
        """The first frame that is it; what came before is in ``frames``."""
        while True:
            for frame in self.frames:
                if is_it(frame):
                    return frame
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("closed")
            self.frames += whole(self.reader, [data])

    def answer(self, number: int) -> tuple[bytes, dict[str, str]]:
        """Body and trailers of a stream, from the first frame on that is still there."""
        self.until(
            lambda f: f.stream == number and f.type == Type.HEADERS and bool(f.flags & END_STREAM)
        )
        body, found = b"", {}
        # The decoder's table is the connection's, but ours uses none.
        for frame in self.frames:
            if frame.stream == number and frame.type == Type.DATA:
                body += frame.payload
            elif frame.stream == number and frame.type == Type.HEADERS:
                found.update(self.decoder.decode(frame.payload))
        self.frames = [frame for frame in self.frames if frame.stream != number]
        return body, found

    def last_words(self) -> Frame:
        return self.until(lambda frame: frame.type == Type.GOAWAY)

    def is_closed(self) -> bool:
        """Read until the other side has closed, and close too."""
        with self.sock:
            while True:
                try:
                    data = self.sock.recv(1 << 20)
                except ConnectionResetError:
                    return True
                if not data:
                    return True
                self.frames += whole(self.reader, [data])

    def close(self) -> None:
        self.sock.close()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(5, "big") + message
