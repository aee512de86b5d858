"""Messages of a broker in a file, to be looked at and replayed: one JSON object a line.

Decides what a line looks like, and refuses lines that are none of ours. The first line says what
the file is; a payload is text where it is UTF-8, else base64.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from edged import decoding
from edged.errors import InvalidRequestError
from edged.protocol.broker_session import Message

_HEAD = {"edged": "capture", "version": 1}
LINE_CAP_BYTES = 64 << 20
"""Longer lines are refused; a payload of 48 MB fits."""


class _Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One message; the names are those of MQTT 5."""

    at_s: float = 0.0
    topic: str
    qos: int = 0
    retain: bool = False
    payload: str | None = None
    payload_base64: bytes | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    content_type: str | None = None


class CaptureWriter:
    """Writes a capture; ``with CaptureWriter(path) as capture:``.

    Args:
        path: must not exist. Others may not read it: payloads can be private.
        max_messages: it is full then.
        max_bytes: on disk; a message that does not fit any more is left out, and it is full.

    Raises:
        InvalidRequestError: the file exists, or cannot be made.
    """

    def __init__(self, path: Path, *, max_messages: int, max_bytes: int) -> None:
        self.messages = 0
        self.bytes = 0
        self.is_full = False
        self._most = max_messages
        self._most_bytes = max_bytes
        self._begun_ns = time.monotonic_ns()
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as exc:
            text = f"{path}: is there already; name another file, or remove it first"
            raise InvalidRequestError(text) from exc
        except OSError as exc:
            raise InvalidRequestError(f"{path}: cannot be made: {exc.strerror}") from exc
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._put(msgspec.json.encode(_HEAD))

    def add(self, message: Message) -> None:
        """Write a message, unless the capture is full."""
        if self.is_full:
            return
        try:
            text, data = message.payload.decode("utf-8"), None
        except UnicodeDecodeError:
            text, data = None, message.payload
        line = _Line(
            at_s=round((message.arrived_ns - self._begun_ns) / 1e9, 6),
            topic=message.topic,
            qos=message.qos,
            retain=message.retain,
            payload=text,
            payload_base64=data,
            response_topic=message.response_topic,
            correlation=message.correlation,
            expiry_s=message.expiry_s,
            content_type=message.content_type,
        )
        encoded = msgspec.json.encode(line)
        if self.bytes + len(encoded) + 1 > min(self._most_bytes, self.bytes + LINE_CAP_BYTES):
            self.is_full = True
            return
        self._put(encoded)
        self.messages += 1
        self.is_full = self.messages >= self._most

    def _put(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._file.flush()
        self.bytes += len(line) + 1

    def __enter__(self) -> CaptureWriter:  # noqa: PYI034 - typing.Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_capture(path: Path) -> Iterator[Message]:
    """The messages of a capture, as if they came now over MQTT 5, one after the other.

    Raises:
        InvalidRequestError: it cannot be read, or a line is no message; says which.
    """
    try:
        with path.open("rb") as file:
            for number in range(1, 1 << 32):
                line = file.readline(LINE_CAP_BYTES + 1)
                if not line:
                    if number == 1:
                        raise InvalidRequestError(f"{path}: is empty; {_EXPECTED}")
                    return
                if number == 1:
                    _check_head(path, line)
                elif line.strip():
                    yield _message(line, f"{path}:{number}", number)
    except OSError as exc:
        raise InvalidRequestError(f"{path}: cannot be read: {exc.strerror}") from exc


_EXPECTED = "expected a capture made by `edged mqtt record`"


def _check_head(path: Path, line: bytes) -> None:
    try:
        found = msgspec.json.decode(line[:1024])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    if found != _HEAD:
        raise InvalidRequestError(f"{path}:1: is no capture of version 1; {_EXPECTED}")


def _message(line: bytes, where: str, number: int) -> Message:
    if len(line) > LINE_CAP_BYTES:
        raise InvalidRequestError(f"{where}: is longer than {LINE_CAP_BYTES} bytes")
    try:
        found = decoding.decode(line, _Line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error) as exc:
        raise InvalidRequestError(f"{where}: is no message: {exc}") from exc
    if (found.payload is None) == (found.payload_base64 is None):
        raise InvalidRequestError(f"{where}: needs exactly one of payload and payload_base64")
    if found.qos not in (0, 1, 2) or not 0 <= (found.expiry_s or 0) < 1 << 32:
        raise InvalidRequestError(f"{where}: qos or expiry_s is none that MQTT has")
    return Message(
        1,
        number,
        found.topic,
        found.payload.encode("utf-8", "surrogatepass")
        if found.payload is not None
        else found.payload_base64 or b"",
        found.qos,
        found.retain,
        False,
        time.monotonic_ns(),
        found.response_topic,
        found.correlation,
        found.expiry_s,
        (),
        found.content_type,
    )


def shown(payload: bytes, cap: int = 2000) -> str:
    """A payload for people: text as it is, anything else by its size and its begin."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        begin = base64.b64encode(payload[:48]).decode()
        return f"({len(payload)} bytes) {begin}{'…' if len(payload) > 48 else ''}"
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= cap else f"{text[:cap]}… ({len(payload)} bytes)"
