"""What is below everyone: the least that the same work could cost, as processes of their own.

    floor.py echo SOCKET BYTES        answers BYTES bytes with as many of its own, blocking
    floor.py serve SOCKET MODEL [THREADS]  a bare loop: frames in, ONNX Runtime inline, frames out

``serve`` reads the frames of the native protocol and checks nothing: no model is looked up, no
signature compared, no limit held. One line on standard output says that it listens.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

import numpy as np

_HEADER = struct.Struct("<4sBBHQIIQ")


def listen(path: str) -> socket.socket:
    """A listening Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(64)
    print("listening", flush=True)
    return sock


def echo(path: str, asked: int, answered: int) -> None:
    """Serve one peer after the other, blocking."""
    answer = bytes(answered)
    with listen(path) as listener:
        while True:
            peer, _ = listener.accept()
            buffer = memoryview(bytearray(asked))
            with peer:
                while fill(peer, buffer):
                    peer.sendall(answer)


def fill(peer: socket.socket, buffer: memoryview) -> bool:
    """Read until a buffer is full; False at the end of the stream."""
    have = 0
    while have < len(buffer):
        count = peer.recv_into(buffer[have:])
        if not count:
            return False
        have += count
    return True


class Floor:
    """The bare loop, for one model with one input."""

    def __init__(self, model: str, threads: int = 1) -> None:
        import onnxruntime  # noqa: PLC0415 - the echo needs none

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # As the daemon: threads that wait awake would take the time of whoever asks.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        (self._input,) = self._session.get_inputs()
        self._shape = [1, *self._input.shape[1:]]
        self._size = 4 * int(np.prod(self._shape))

    def serve(self, path: str) -> None:
        """Answer every peer, one frame at a time."""
        listener = listen(path)
        peers: dict[int, tuple[socket.socket, bytearray]] = {}
        poller = select.epoll()
        poller.register(listener, select.EPOLLIN)
        while True:
            for number, _ in poller.poll():
                if number == listener.fileno():
                    peer, _ = listener.accept()
                    peers[peer.fileno()] = (peer, bytearray())
                    poller.register(peer, select.EPOLLIN)
                    continue
                peer, pending = peers[number]
                try:
                    data = peer.recv(1 << 20)
                    pending += data
                    self._answer(peer, pending)
                except ConnectionError:
                    data = b""  # it left before its answers came
                if not data:
                    poller.unregister(number)
                    del peers[number]
                    peer.close()

    def _answer(self, peer: socket.socket, pending: bytearray) -> None:
        while len(pending) >= _HEADER.size:
            magic, version, _, _, request_id, head, _, body = _HEADER.unpack_from(pending)
            start = _HEADER.size + head + -head % 8
            if len(pending) < start + body:
                return
            if body:
                row = np.frombuffer(bytes(pending[start : start + self._size]), np.float32)
                values = self._session.run(None, {self._input.name: row.reshape(self._shape)})
                parts = [value.tobytes() for value in values]
            else:
                parts = []
            out = b"".join(part + bytes(-len(part) % 8) for part in parts)
            peer.sendall(_HEADER.pack(magic, version, 4, 0, request_id, 0, 0, len(out)) + out)
            del pending[: start + body]


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        Floor(sys.argv[3], *map(int, sys.argv[4:])).serve(sys.argv[2])
