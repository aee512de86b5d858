"""A process with threads: tells that they are there, and waits for the other end to go."""

from __future__ import annotations

import socket
import sys
import threading

if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        for _ in range(3):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        sock.setblocking(True)
        sock.sendall(b"r")
        sock.recv(1)
