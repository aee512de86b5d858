"""The worker's side of a text: pieces as they are made, and an end when the parent says a word."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged.errors import CancelledError, InvalidRequestError, RunError
from edged.generating import Ask, Caps, request
from edged.messages import InferRequest
from edged.protocol import native, streams
from edged.protocol.frames import Frame, FrameReader, Kind
from edged.workers import text as worker_text
from edged.workers.text import make_text
from edged.workers.worker import LIMITS
from tests.fakes.model import FakeSession
from tests.fakes.texts import CountingSession, whole
from tests.fakes.wire import joined, only


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(15)
    with ours, theirs:
        yield ours, theirs


def asked(number: int = 7, *, caps: Any = (9, 99), **options: Any) -> Frame:
    inputs = {**request("count", **options), "caps": np.array(caps, np.int64)}
    return only(streams.encode_stream(number, InferRequest("", inputs)), LIMITS)


def frames(sock: socket.socket, count: int) -> list[Frame]:
    reader, found = FrameReader(LIMITS), []
    while len(found) < count:
        found += reader.received(sock.recv_into(reader.next_buffer()))
    return found


def test_pieces_and_an_end(ends: tuple[socket.socket, socket.socket]):
    ours, theirs = ends
    session = CountingSession()
    last = only(make_text(theirs, session, asked(max_new_tokens=3), LIMITS), LIMITS)
    parts = frames(ours, 2)
    assert [frame.request_id for frame in (*parts, last)] == [7, 7, 7]
    decoded = [streams.decode_part(frame, "m", LIMITS) for frame in parts]
    assert [index for _, index in decoded] == [0, 1]
    assert [part.outputs["tokens"].tolist() for part, _ in decoded] == [[0], [1]]
    assert [sorted(part.outputs) for part, _ in decoded] == [["text", "tokens"]] * 2
    assert last.kind == Kind.RESULT
    assert whole(native.decode_response(last, "m", LIMITS).outputs) == ("2 ", [2], "length")
    assert session.asked == [(Ask("count", 3), Caps(9, 99))]
    assert session.ended == 1


@pytest.mark.parametrize("word", ["withdrawn", "closed"])
def test_nobody_wants_more(ends: tuple[socket.socket, socket.socket], word: str):
    """The token that is being made is the last one; what is said stays to be read."""
    ours, theirs = ends
    session = CountingSession()
    session.gate = threading.Semaphore(1)

    def then() -> None:
        frames(ours, 1)
        if word == "closed":
            ours.shutdown(socket.SHUT_WR)
        else:
            ours.sendall(joined(native.encode_cancel(7)))
        assert session.gate is not None
        session.gate.release()

    other = threading.Thread(target=then)
    other.start()
    with pytest.raises(CancelledError):
        make_text(theirs, session, asked(), LIMITS)
    other.join(15)
    assert session.made <= 2
    assert session.ended == 1
    if word == "withdrawn":
        (frame,) = frames(theirs, 1)
        assert frame.kind == Kind.CANCEL


def test_memory_is_handed_back_when_the_text_has_let_go_of_it(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    session, ended = CountingSession(), []
    monkeypatch.setattr(worker_text, "hand_back", lambda: ended.append(session.ended))
    make_text(ends[1], session, asked(max_new_tokens=2), LIMITS)
    session.error = RunError("so")
    with pytest.raises(RunError):
        make_text(ends[1], session, asked(), LIMITS)
    assert ended == [1, 2]


def test_a_failure_ends_it_too(ends: tuple[socket.socket, socket.socket]):
    session = CountingSession()
    session.error = RunError("so")
    with pytest.raises(RunError, match="so"):
        make_text(ends[1], session, asked(), LIMITS)
    assert session.ended == 1


def test_a_model_of_another_kind(ends: tuple[socket.socket, socket.socket]):
    with pytest.raises(InvalidRequestError, match="makes no texts"):
        make_text(ends[1], FakeSession(dict), asked(), LIMITS)
