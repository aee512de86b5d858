"""What is read while awake: at once when it is there; what never comes costs time alone."""

from __future__ import annotations

import socket
import threading

from edged.transports.awake import read_awake


def test_what_is_there_and_what_comes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        buffer = memoryview(bytearray(8))
        assert read_awake(ours.fileno(), buffer, 1000) == 0
        theirs.sendall(b"now")
        assert read_awake(ours.fileno(), buffer, 10**10) == 3
        assert buffer[:3] == b"now"
        later = threading.Timer(0.05, theirs.sendall, [b"later"])
        later.start()
        assert read_awake(ours.fileno(), buffer, 10**10) == 5
        later.join()
        theirs.close()
        assert read_awake(ours.fileno(), buffer, 10**10) == 0, "it is gone: the loop sees to it"
    assert read_awake(-1, buffer, 10**10) == 0
