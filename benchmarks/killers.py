"""Clients that are killed in mid-request, and a listener that has nothing else to do.

Run by its path with the standard library alone: a process that forks a thousand times a second has
to be small.

    killers.py attack SOCKET FILE   ends at SIGTERM, and prints how many it was
    killers.py listen SOCKET        reads what comes until it ends, one peer at a time
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType


def attack(path: str, data: bytes) -> None:
    """One process after another: connects, sends a request and a part of the next, is killed."""
    killed = 0

    def end(_signal: int, _frame: FrameType | None) -> None:
        print(killed, flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while True:
        child = os.fork()
        if child == 0:
            peer = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                peer.connect(path)
                peer.sendall(data + data[: killed * 37 % len(data)])
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1


def listen(path: str) -> None:
    """Take each peer, read until it is gone."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1024)
        print("ready", flush=True)
        while True:
            peer, _ = server.accept()
            with peer, contextlib.suppress(OSError):
                while peer.recv(1 << 16):
                    pass


if __name__ == "__main__":
    if sys.argv[1] == "attack":
        attack(sys.argv[2], Path(sys.argv[3]).read_bytes())
    else:
        listen(sys.argv[2])
