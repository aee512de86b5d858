"""The client's side of a WebSocket that carries a stream of bytes, as MQTT over HTTP ports does.

Sans I/O. Frames are taken as they come: of a large one nothing is kept but its head.
Source: RFC 6455; MQTT 5.0, 6.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final

from edged.errors import RemoteProtocolError

HEAD_CAP: Final = 8 << 10
"""Of the answer to the handshake."""
_CONTROL_CAP: Final = 125
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MORE, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80


class WebSocket:
    """One connection.

    Args:
        host: of the server, with its port, as the handshake names it.
        path: where it serves.
        protocol: what is spoken inside.
        key: sixteen bytes that the answer must have seen; default: by chance.
    """

    def __init__(
        self, host: str, path: str, protocol: str = "mqtt", key: bytes | None = None
    ) -> None:
        self.is_open = False
        self.is_closed = False
        self._key = base64.b64encode(key or os.urandom(16))
        self._protocol = protocol
        self._said = bytearray(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )
        self._heard = bytearray()
        self._left = 0  # of the frame that is being read
        self._kind = _MORE
        self._is_in_message = False
        self._control = bytearray()

    def take(self) -> bytes:
        """What is to be written: the handshake, and answers to the server's pings."""
        data = bytes(self._said)
        self._said.clear()
        return data

    def wrap(self, data: bytes) -> bytes:
        """Bytes as a frame."""
        return _frame(_BINARY, data)

    @property
    def is_in_frame(self) -> bool:
        """Whether the rest of a frame is yet to come."""
        return self._left > 0

    @staticmethod
    def nudge() -> bytes:
        """What a server reads and does not answer: a pong that it has not asked for (5.5.3)."""
        return _frame(_PONG, b"")

    def receive(self, data: bytes) -> bytes:
        """Read what came; returns the bytes that were in its frames.

        Raises:
            RemoteProtocolError: the server does not speak WebSocket, or not to us.
        """
        self._heard += data
        if not self.is_open and not self._read_head():
            return b""
        parts = []
        while not self.is_closed and self._read_frame_head():
            piece = bytes(self._heard[: self._left])
            del self._heard[: len(piece)]
            self._left -= len(piece)
            if self._kind in {_MORE, _BINARY}:
                parts.append(piece)
            else:
                self._control += piece
                if not self._left:
                    self._on_control()
            if self._left:
                break
        return b"".join(parts)

    def _read_head(self) -> bool:
        end = self._heard.find(b"\r\n\r\n")
        if end < 0:
            if len(self._heard) > HEAD_CAP:
                raise RemoteProtocolError(f"a WebSocket's answer of more than {HEAD_CAP} bytes")
            return False
        status, *lines = bytes(self._heard[:end]).decode("latin-1").split("\r\n")
        del self._heard[: end + 4]
        words = status.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or words[1] != "101":
            raise RemoteProtocolError(
                f'"{status[:80]}"; expected 101: mqtt.websocket is the path of a WebSocket listener'
            )
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        # The algorithm of RFC 6455: it proves that the server read this handshake, no more.
        wanted = base64.b64encode(hashlib.sha1(self._key + _GUID).digest()).decode()  # noqa: S324
        if fields.get("sec-websocket-accept") != wanted:
            raise RemoteProtocolError("a WebSocket's answer is to another's handshake")
        if fields.get("sec-websocket-protocol", self._protocol) != self._protocol:
            raise RemoteProtocolError(f"a WebSocket that does not speak {self._protocol}")
        self.is_open = True
        return True

    def _read_frame_head(self) -> bool:
        """Whether there is a frame to go on with."""
        heard = self._heard
        if self._left:
            return bool(heard)
        if len(heard) < 2:
            return False
        first, second = heard[0], heard[1]
        size, head = second & 0x7F, 2
        if size > _CONTROL_CAP:
            head += 2 if size == 126 else 8
            if len(heard) < head:
                return False
            size = int.from_bytes(heard[2:head], "big")
        self._check_frame(first, size, is_masked=bool(second & _MASKED))
        del heard[:head]
        self._kind, self._left = first & 0x0F, size
        if self._kind not in {_MORE, _BINARY}:
            self._control.clear()
            if not size:
                self._on_control()
                return self._read_frame_head() if not self.is_closed else False
        else:
            self._is_in_message = not first & _FINAL
        return bool(size) or self._read_frame_head()

    def _check_frame(self, first: int, size: int, *, is_masked: bool) -> None:
        kind = first & 0x0F
        if first & 0x70 or is_masked or kind not in {_MORE, _BINARY, _CLOSE, _PING, _PONG}:
            what = "text, which MQTT does not allow" if kind == _TEXT else f"0x{first:02x}"
            raise RemoteProtocolError(f"a WebSocket frame of {what}, masked: {is_masked}")
        if kind >= _CLOSE and (size > _CONTROL_CAP or not first & _FINAL):
            raise RemoteProtocolError(f"a WebSocket's control frame of {size} bytes, or in pieces")
        if kind < _CLOSE and (kind == _MORE) != self._is_in_message:
            raise RemoteProtocolError("a WebSocket frame that continues nothing, or interrupts")

    def _on_control(self) -> None:
        if self._kind == _PING:
            self._said += _frame(_PONG, bytes(self._control))
        elif self._kind == _CLOSE:
            self._said += _frame(_CLOSE, bytes(self._control[:2]))
            self.is_closed = True


def _frame(kind: int, data: bytes) -> bytes:
    size = len(data)
    if size <= _CONTROL_CAP:
        head = bytes((_FINAL | kind, _MASKED | size))
    elif size <= 0xFFFF:
        head = bytes((_FINAL | kind, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | kind, _MASKED | 127)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    # As two long numbers: byte by byte it would take a hundred times as long.
    masks = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(masks, "little")
    return head + mask + mixed.to_bytes(size, "little")
