"""The buffered socket over a real pair: what paho asks of it, and what the system sees."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from edged.transports.mqtt.buffered import READ_BYTES, WAITING_BYTES, BufferedSocket

Pair = tuple[BufferedSocket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(10)
    buffered = BufferedSocket(ours)
    yield buffered, peer
    buffered.close()
    peer.close()


def read(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += peer.recv(1 << 20)
    return data


def fill(buffered: BufferedSocket) -> None:
    while True:
        try:
            buffered.send(b"z" * 65536)
        except BlockingIOError:
            return


class TestReading:
    def test_byte_by_byte_out_of_one_read(self, pair: Pair):
        buffered, peer = pair
        peer.sendall(b"\x30\x03abcd")
        assert buffered.recv(1) == b"\x30"
        assert buffered.pending() == 5
        assert buffered.recv(1) == b"\x03"
        assert buffered.recv(3) == b"abc"
        assert buffered.recv(9) == b"d"
        assert buffered.pending() == 0

    def test_nothing_there_and_the_end(self, pair: Pair):
        buffered, peer = pair
        with pytest.raises(BlockingIOError):
            buffered.recv(1)
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        assert buffered.recv(1) == b"x"
        assert buffered.recv(1) == b""
        assert buffered.recv(1) == b""

    def test_a_long_rest_is_read_in_one_piece(self, pair: Pair):
        buffered, peer = pair
        peer.sendall(b"y" * (READ_BYTES + 100))
        assert buffered.recv(READ_BYTES + 100) == b"y" * (READ_BYTES + 100)

    def test_what_broke_is_told(self, pair: Pair):
        buffered, _ = pair
        buffered._sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            buffered.recv(1)


class TestWriting:
    def test_packets_go_out_together_when_told(self, pair: Pair):
        buffered, peer = pair
        assert buffered.send(b"one") == 3
        assert buffered.send(bytearray(b"two")) == 3
        assert buffered.waiting == 6
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)
        assert buffered.flush()
        assert buffered.waiting == 0
        assert peer.recv(100) == b"onetwo"

    def test_what_the_system_does_not_take_waits_in_order(self, pair: Pair):
        buffered, peer = pair
        data = bytes(range(256)) * 8192
        packets = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
        got = b""
        for packet in packets:
            while True:
                try:
                    buffered.send(packet)
                    break
                except BlockingIOError:
                    assert buffered.waiting >= WAITING_BYTES
                    got += peer.recv(1 << 20)
        assert not buffered.flush()
        while buffered.waiting:
            got += peer.recv(1 << 20)
            buffered.flush()
        got += read(peer, len(data) - len(got))
        assert got == data

    def test_a_peer_that_is_gone_is_told_and_the_words_are_kept(self, pair: Pair):
        buffered, peer = pair
        peer.close()
        buffered.send(b"x")
        with pytest.raises(BrokenPipeError):
            buffered.flush()


class TestClosing:
    def test_says_the_last_words(self, pair: Pair):
        buffered, peer = pair
        buffered.send(b"\xe0\x00")
        buffered.close()
        assert buffered.fileno() == -1
        assert peer.recv(10) == b"\xe0\x00"
        assert peer.recv(10) == b""

    def test_waits_no_longer_than_it_may_for_who_does_not_read(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("edged.transports.mqtt.buffered.LAST_WORDS_S", 0.01)
        buffered, _ = pair
        fill(buffered)
        buffered.close()
        assert buffered.fileno() == -1

    def test_a_peer_that_is_gone_does_not_keep_it_open(self, pair: Pair):
        buffered, peer = pair
        peer.close()
        buffered.send(b"x")
        buffered.close()
        assert buffered.fileno() == -1
