"""What the tap writes into the book, from bytes alone and over sockets."""

from __future__ import annotations

import json
import socket

import pytest

from edged.protocol.broker_session import Publication
from tests.chaos import wire
from tests.chaos.book import Book, Fate
from tests.chaos.tap import Scribe, Tap
from tests.chaos.wire import ack


def publish(topic: str, packet_id: int, payload: bytes = b"", *, is_marked: bool = False) -> bytes:
    properties = (("edged-dup", "1"),) if is_marked else ()
    publication = Publication(topic, payload, properties=properties)
    return wire.publish(publication, packet_id)


def dup(data: bytes) -> bytes:
    return bytes((data[0] | 8,)) + data[1:]


def test_a_request_its_result_and_both_acknowledgements() -> None:
    book = Book()
    scribe = Scribe(book)
    scribe.broker_said(publish("in/1", 9))
    assert book.of(1) == Fate(first_time=1)
    scribe.daemon_said(publish("out/1", 9))
    assert book.of(1).sent == 1
    assert (book.of(1).taken, book.of(1).acked) == (0, 0)
    scribe.broker_said(ack(9))
    scribe.daemon_said(ack(9))
    assert book.of(1) == Fate(first_time=1, sent=1, taken=1, acked=1)


def test_again_and_marked() -> None:
    book = Book()
    scribe = Scribe(book)
    scribe.broker_said(dup(publish("in/1", 9)))
    scribe.daemon_said(publish("reply/1", 1, is_marked=True))
    scribe.daemon_said(dup(publish("reply/1", 2)))
    assert book.of(1) == Fate(again=1, sent_marked=2)


def test_a_refused_result_is_not_taken_and_a_letter_is_an_end() -> None:
    book = Book()
    scribe = Scribe(book)
    scribe.daemon_said(publish("out/1", 3))
    scribe.broker_said(ack(3, 0x87))
    assert book.of(1).taken == 0
    letter = json.dumps({"topic": "in/1", "code": "INTERNAL"}).encode()
    scribe.daemon_said(publish("edged/test/error/b", 4, letter))
    assert book.of(1).letters == ["INTERNAL"]


def test_identifiers_belong_to_a_connection() -> None:
    book = Book()
    Scribe(book).broker_said(publish("in/1", 9))
    Scribe(book).daemon_said(ack(9))
    assert book.of(1).acked == 0


def test_over_sockets_and_held_back() -> None:
    book = Book()
    with (
        socket.create_server(("127.0.0.1", 0)) as broker,
        Tap("127.0.0.1", broker.getsockname()[1], book) as tap,
    ):
        daemon = socket.create_connection(("127.0.0.1", tap.port))
        other, _ = broker.accept()
        with daemon, other:
            daemon.sendall(publish("out/1", 3))
            assert other.recv(1000) == publish("out/1", 3)
            assert book.of(1).sent == 1
            tap.hold()
            daemon.sendall(publish("out/2", 4))
            other.settimeout(0.1)
            with pytest.raises(TimeoutError):
                other.recv(1000)
            other.settimeout(10)
            tap.release()
            assert other.recv(1000) == publish("out/2", 4)
    assert tap.problems == []
