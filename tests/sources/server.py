"""A real web server on a loopback address that answers exactly what a test says, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

WAIT_S = 20.0


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    socket: socket.socket

    def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
        """A whole answer; a header's name has _ for -, and None leaves it out."""
        head = {"content_length": len(body), "connection": "close", **headers}
        lines = [f"{n.replace('_', '-')}: {v}" for n, v in head.items() if v is not None]
        self.send(("\r\n".join([f"HTTP/1.1 {status} X", *lines]) + "\r\n\r\n").encode() + body)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    @property
    def start(self) -> int:
        """The first byte that is asked for."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


Answer = Callable[[Request], None]


@dataclass
class Server:
    url: str
    asked: list[Request] = field(default_factory=list)
    answer: Answer = lambda request: request.reply(404)
    files: dict[str, bytes] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        return [request.path for request in self.asked]

    def serve_files(self, **headers: object) -> None:
        """Answer with ``files``, ranges and all, as any web server does."""

        def answer(request: Request) -> None:
            data = self.files.get(request.path.partition("?")[0])
            if data is None:
                request.reply(404)
            elif "range" in request.headers:
                shown = f"bytes {request.start}-{len(data) - 1}/{len(data)}"
                request.reply(206, data[request.start :], content_range=shown, **headers)
            else:
                request.reply(200, data, **headers)

        self.answer = answer

    def drip(self, request: Request, data: bytes, every_s: float = 0.05) -> None:
        """Byte by byte, until whoever asked has gone or the test is over."""
        for byte in data:
            if self.stopped.wait(every_s):
                return
            try:
                request.socket.sendall(bytes([byte]))
            except OSError:
                return


@contextlib.contextmanager
def web_server(tls: tuple[Path, Path] | None = None, host: str = "127.0.0.1") -> Iterator[Server]:
    listener = socket.create_server((host, 0))
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    scheme = "https" if tls else "http"
    server = Server(f"{scheme}://{host}:{listener.getsockname()[1]}")

    def speak(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            connection.settimeout(WAIT_S)
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        return
                    head += data
                first, *lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                raw = dict(line.split(": ", 1) for line in lines)
                headers |= {"authorization": raw["Authorization"]} if "Authorization" in raw else {}
                headers |= {"if-range": raw["If-Range"]} if "If-Range" in raw else {}
                request = Request(first.split(" ")[1], headers, connection)
                server.asked.append(request)
                server.answer(request)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=speak, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        server.stopped.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
