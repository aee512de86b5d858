"""The server's side of one HTTP/2 connection, without its socket: streams, windows and limits.

Decides what a peer may do and what it is told when it does something else; never what a request
means. Priorities are read over, nothing is ever pushed.
Source: RFC 9113; the attacks are those of CVE-2019-9511 to 9518, CVE-2023-44487 and CVE-2024-27316.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from edged.protocol.http2_frames import (
    ACK,
    DATA_BYTES,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    PADDED,
    PREFACE,
    PRIORITY,
    WINDOW_CAP,
    WINDOW_START,
    BrokenConnectionError,
    BrokenStreamError,
    Cut,
    FrameReader,
    Reason,
    Setting,
    Type,
    encode,
    encode_goaway,
    encode_settings,
    encode_window,
)
from edged.protocol.http2_headers import BLOCK_BYTES, LIST_BYTES, HeaderReader
from edged.protocol.http2_request import Request, parse_request
from edged.protocol.http2_streams import STREAM_ROOM, STREAMS_CAP, Asked, Stream, Streams

_CONTINUATIONS_CAP: Final = 16
"""Pieces of one header block: with none a block has 16 KiB, and no client cuts it smaller."""
_CONNECTION_ROOM: Final = 64 << 20
"""Of all streams together: more than they may have, so that none waits for another's bytes."""
_TURN: Final = 32
"""Calls that are begun before others have their turn of the loop: about a millisecond."""
_DATA, _HEADERS, _WINDOW_UPDATE, _CONTINUATION = (
    int(Type.DATA), int(Type.HEADERS), int(Type.WINDOW_UPDATE), int(Type.CONTINUATION),
)  # fmt: skip
_TABLE_BYTES: Final = 4096
_SMALL_DATA: Final = 64
"""DATA frames below that cost us more than their bytes are worth."""


class Connection:
    """One connection.

    Args:
        asked: is told of requests.
    """

    def __init__(self, asked: Asked) -> None:
        self.streams = Streams(asked)
        self.out = self.streams.out
        """What is to be written; whoever does takes it out."""
        self.failure: BrokenConnectionError | None = None
        """Why nothing more is read; what is in ``out`` says so to the client."""
        self.progress = 0
        """Whole frames that were taken."""
        self._reader = FrameReader()
        self._headers: HeaderReader[Request] = HeaderReader(parse_request)
        self._asked = asked
        self._frames: Iterator[Cut] = iter(())
        self._preface = b""
        self._has_preface = self._has_settings = False
        self._is_strict = True
        self._taken = 0
        self._now_ns = 0
        self._block: list[bytes] = []
        self._block_of = self._block_flags = 0
        self.out.append(
            encode_settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: STREAMS_CAP,
                    Setting.INITIAL_WINDOW_SIZE: STREAM_ROOM,
                    Setting.MAX_FRAME_SIZE: DATA_BYTES,
                    Setting.MAX_HEADER_LIST_SIZE: LIST_BYTES,
                }
            )
            + encode_window(0, _CONNECTION_ROOM - WINDOW_START)
        )

    @property
    def is_between(self) -> bool:
        """Nothing has begun to arrive that is not whole: no preface, frame or list of headers."""
        return self._has_settings and self._reader.is_between_frames and not self._block_of

    @property
    def is_clear(self) -> bool:
        """Nothing is under way in either direction, and nothing ever was out of the ordinary."""
        streams = self.streams
        return (
            not (self._is_strict or streams.busy or streams.by_number or self.out)
            and self._has_settings
            and self.failure is None
            and self._reader.is_between_frames
            and not (streams.is_ending or streams.note)
            and streams.outflow.is_empty
        )

    def meaning_of(self, block: bytes) -> Request | None:
        """What a list of headers means that was read before; None for any other."""
        return self._headers.known(block)

    def receive(self, data: bytes, now_ns: int) -> bool:
        """Take bytes of the client, after all those before.

        Args:
            data: as they came.
            now_ns: monotonic clock, nanoseconds.

        Returns:
            Whether there is more in them than is handled in one turn; then ``go_on``.
        """
        if self.failure is not None:
            return False
        try:
            if not self._has_preface:
                data = self._after_preface(data)
            self._frames = self._reader.feed(data)
        except BrokenConnectionError as exc:
            self.fail(exc)
        return self.go_on(now_ns)

    def go_on(self, now_ns: int) -> bool:
        """Handle what is there, for a turn; returns whether there is more."""
        self._now_ns = now_ns
        streams = self.streams
        most = streams.work + _TURN
        try:
            for kind, flags, number, payload, size, is_last in self._frames:
                self.progress += is_last
                try:
                    if self._is_strict:
                        self._check_order(kind, flags, number)
                    if kind == _DATA:
                        self._on_data(flags, number, payload, size, is_last)
                    elif kind == _HEADERS:
                        self._on_headers(flags, number, payload)
                    elif kind == _WINDOW_UPDATE:
                        self._on_window(number, payload)
                    elif kind == _CONTINUATION:
                        self._on_continuation(flags, payload)
                    else:
                        streams.idle.spend(now_ns)
                        self._on_other(kind, flags, number, payload)
                except BrokenStreamError as exc:
                    streams.idle.spend(now_ns)
                    streams.refuse(number, exc)
                if streams.work >= most:
                    return True
            outflow = streams.outflow
            while outflow.small_frames:
                outflow.small_frames -= 1
                streams.idle.spend(now_ns)
        except BrokenConnectionError as exc:
            self.fail(exc)
        return False

    def fail(self, fault: BrokenConnectionError) -> None:
        """End the connection: nothing is read any more, and no stream is answered."""
        if self.failure is not None:
            return
        self.failure = fault
        self._frames = iter(())
        streams = self.streams
        streams.is_ending = True
        for stream in list(streams.by_number.values()):
            streams.lose(stream)
        self.out.append(encode_goaway(streams.last, fault.reason, fault.message))

    def end(self) -> None:
        """Take no new requests; those that are under way are answered."""
        if not self.streams.is_ending:
            self.streams.is_ending = True
            self.out.append(encode_goaway(self.streams.last, Reason.NO_ERROR))

    def _after_preface(self, data: bytes) -> bytes:
        self._preface += data[: len(PREFACE)]
        found = self._preface[: len(PREFACE)]
        if not PREFACE.startswith(found):
            raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "this is no HTTP/2")
        if len(found) < len(PREFACE):
            return b""
        rest = self._preface[len(PREFACE) :] + data[len(PREFACE) :]
        self._has_preface, self._preface = True, b""
        return rest

    def _check_order(self, kind: int, flags: int, number: int) -> None:
        """At the beginning, and within a header block, one kind of frame may come."""
        if self._block_of:
            if kind != Type.CONTINUATION or number != self._block_of:
                raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "a header block was not ended")
            return
        if kind != Type.SETTINGS or flags & ACK:
            raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "SETTINGS must come first")
        self._has_settings = True
        self._is_strict = False

    def _on_data(self, flags: int, number: int, payload: bytes, size: int, is_last: bool) -> None:
        if size:
            self.take(size)
        stream = self.streams.by_number.get(number)
        if stream is None:
            self.streams.check_known(number)
            if not self.streams.is_gone(number):
                raise BrokenStreamError(Reason.STREAM_CLOSED, "DATA on a stream that has ended")
            return
        if stream.is_over_in:
            raise BrokenStreamError(Reason.STREAM_CLOSED, "DATA behind the end of a request")
        stream.room -= size
        if stream.room < 0:
            raise BrokenStreamError(Reason.FLOW_CONTROL_ERROR, "DATA over the window")
        is_over = is_last and bool(flags & END_STREAM)
        # Of a frame that comes in pieces all but the first have no size, and bytes.
        if size < _SMALL_DATA and (size or not payload) and not flags & END_STREAM:
            self.streams.idle.spend(self._now_ns)
        if stream.expected >= 0:
            stream.expected -= len(payload)
            if stream.expected < 0 or (is_over and stream.expected):
                raise BrokenStreamError(
                    Reason.PROTOCOL_ERROR, "the body is not as long as it was said"
                )
        stream.is_over_in = is_over
        if payload or is_over:
            self._asked.on_data(stream, payload)

    def take(self, size: int) -> None:
        """Note so many bytes of DATA, also of a call that was read elsewhere."""
        self._taken += size
        # It is told to go on before it has to wait: no stream waits for another.
        if self._taken > _CONNECTION_ROOM >> 1:
            self.out.append(encode_window(0, self._taken))
            self._taken = 0

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "HEADERS on a stream of ours")
        if flags & (PADDED | PRIORITY):
            payload = _bare(payload, flags, number)
        self._block_flags = flags
        if flags & END_HEADERS:
            self._on_block(number, payload)
        else:
            self._block_of, self._block = number, [payload]
            self._is_strict = True

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if not self._block_of:
            raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block = self._block
        block.append(payload)
        if len(block) > _CONTINUATIONS_CAP or sum(map(len, block)) > BLOCK_BYTES:
            raise BrokenConnectionError(Reason.ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & END_HEADERS:
            self._is_strict = False
            number, self._block_of, self._block = self._block_of, 0, []
            self._on_block(number, b"".join(block))

    def _on_block(self, number: int, block: bytes) -> None:
        # Whatever becomes of the stream: the table has to be kept up.
        request = self._headers.read(block)
        is_over = bool(self._block_flags & END_STREAM)
        streams = self.streams
        stream = self.streams.by_number.get(number)
        if stream is not None:
            self._on_trailers(stream, request, is_over=is_over)
            return
        if number <= streams.last:
            if self.streams.is_gone(number):
                return
            raise BrokenConnectionError(Reason.STREAM_CLOSED, "HEADERS on a stream that has ended")
        streams.last = number
        if streams.is_ending:
            streams.note_gone(number)
            return
        if request.fault is not None:
            raise BrokenStreamError(request.fault.reason, request.fault.message)
        if is_over and request.length > 0:
            raise BrokenStreamError(Reason.PROTOCOL_ERROR, "the body is not as long as it was said")
        if streams.busy >= STREAMS_CAP:
            self.streams.resets.spend(self._now_ns)
            raise BrokenStreamError(Reason.REFUSED_STREAM, f"more than {STREAMS_CAP} calls at once")
        streams.open(Stream(number, streams.outflow.stream_window, request, is_over=is_over))

    def _on_trailers(self, stream: Stream, request: Request, *, is_over: bool) -> None:
        if stream.is_over_in:
            raise BrokenStreamError(Reason.STREAM_CLOSED, "HEADERS behind the end of a request")
        if not is_over or request.pseudo or stream.expected > 0:
            raise BrokenStreamError(
                Reason.PROTOCOL_ERROR, "a second list of headers within a request"
            )
        stream.is_over_in = True
        self._asked.on_data(stream, b"")

    def _on_window(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise BrokenConnectionError(Reason.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        self.streams.idle.spend(self._now_ns)
        size = int.from_bytes(payload, "big") & WINDOW_CAP
        if not number:
            self.streams.outflow.grow(size)
        else:
            stream = self.streams.by_number.get(number)
            if stream is None:
                self.streams.check_known(number)
                return
            self.streams.outflow.grow_stream(stream, size)
        self.streams.close_ended()

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if kind == Type.SETTINGS:
            self._on_settings(flags, number, payload)
        elif kind == Type.PING:
            _hold(not number, Reason.PROTOCOL_ERROR, "PING on a stream")
            _hold(size == 8, Reason.FRAME_SIZE_ERROR, "PING has eight bytes")
            if not flags & ACK:
                self.out.append(encode(Type.PING, ACK, 0, payload))
        elif kind == Type.RST_STREAM:
            _hold(size == 4, Reason.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
            stream = self.streams.by_number.get(number)
            if stream is None:
                self.streams.check_known(number)
            else:
                self.streams.resets.spend(self._now_ns)
                self.streams.lose(stream)
            self.streams.ended_by_client(number)
        elif kind == Type.PRIORITY:
            _hold(bool(number), Reason.PROTOCOL_ERROR, "PRIORITY on the connection")
            if size != 5:
                raise BrokenStreamError(Reason.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
            _bare(payload, PRIORITY, number)
        elif kind == Type.GOAWAY:
            _hold(not number, Reason.PROTOCOL_ERROR, "GOAWAY on a stream")
            _hold(size >= 8, Reason.FRAME_SIZE_ERROR, "GOAWAY has eight bytes or more")
        elif kind == Type.PUSH_PROMISE:
            raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "a client pushes nothing")

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        outflow = self.streams.outflow
        _hold(not number, Reason.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            _hold(not payload, Reason.FRAME_SIZE_ERROR, "an acknowledgement has no settings")
            return
        _hold(len(payload) % 6 == 0, Reason.FRAME_SIZE_ERROR, "a setting has six bytes")
        # Only the last of several counts: else each one would go through all streams.
        settings = dict(struct.iter_unpack(">HL", payload))
        _hold(settings.get(Setting.ENABLE_PUSH, 0) <= 1, Reason.PROTOCOL_ERROR, "ENABLE_PUSH")
        if settings.get(Setting.HEADER_TABLE_SIZE, _TABLE_BYTES) < _TABLE_BYTES:
            self.streams.use_no_table()
        size = settings.get(Setting.MAX_FRAME_SIZE, outflow.frame_bytes)
        is_right = FRAME_BYTES <= size < 1 << 24
        _hold(is_right, Reason.PROTOCOL_ERROR, "MAX_FRAME_SIZE")
        # Longer ones would keep other streams waiting.
        outflow.frame_bytes = min(size, DATA_BYTES)
        self.out.append(encode(Type.SETTINGS, ACK, 0))
        window = settings.get(Setting.INITIAL_WINDOW_SIZE)
        if window is None:
            return
        _hold(window <= WINDOW_CAP, Reason.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
        step, outflow.stream_window = window - outflow.stream_window, window
        for stream in self.streams.by_number.values():
            stream.window += step
            _hold(stream.window <= WINDOW_CAP, Reason.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
        outflow.flush()
        self.streams.close_ended()


def _hold(is_right: bool, reason: Reason, text: str) -> None:
    if not is_right:
        raise BrokenConnectionError(reason, text)


def _bare(payload: bytes, flags: int, number: int) -> bytes:
    """Without padding and priority."""
    at, end = 0, len(payload)
    if flags & PADDED:
        _hold(end > 0, Reason.FRAME_SIZE_ERROR, "a padded frame has no padding")
        at, end = 1, end - payload[0]
    if flags & PRIORITY:
        _hold(len(payload) >= at + 5, Reason.FRAME_SIZE_ERROR, "a priority has five bytes")
        if int.from_bytes(payload[at : at + 4], "big") & WINDOW_CAP == number:
            raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "a stream depends on itself")
        at += 5
    _hold(at <= end, Reason.PROTOCOL_ERROR, "a frame is all padding")
    return payload[at:end]
