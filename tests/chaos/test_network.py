"""Cuts that are cuts: nothing passes either way, nothing is closed, and it heals."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.chaos.network import Namespace, NoNamespace, can_make_namespaces

TALK = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
for line in sys.stdin:
    sock.sendall(line.encode())
"""


def test_bytes_stop_and_come_after_all() -> None:
    if not can_make_namespaces():
        pytest.skip("needs root and network namespaces")
    with Namespace(1) as network, socket.create_server((network.address(0), 0)) as server:
        command = [*network.prefix, sys.executable, "-uc", TALK, network.address(0)]
        port = str(server.getsockname()[1])
        with subprocess.Popen([*command, port], stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            server.settimeout(20)
            peer, _ = server.accept()
            with peer:
                for number, way in enumerate(network.ways):
                    network.cut(0, way)
                    process.stdin.write(b"%d\n" % number)
                    process.stdin.flush()
                    peer.settimeout(0.4)
                    with pytest.raises(TimeoutError):
                        peer.recv(100)
                    network.heal(0, way)
                    peer.settimeout(20)
                    assert peer.recv(100) == b"%d\n" % number
            process.stdin.close()


def test_without_namespaces_the_taps_hold_back() -> None:
    class Held:
        words = ""

        def hold(self) -> None:
            self.words += "hold "

        def release(self) -> None:
            self.words += "release "

    tap = Held()
    with NoNamespace() as network:
        network.attach([tap])  # type: ignore[list-item]
        network.cut(0, network.ways[0])
        network.heal(0, network.ways[0])
    assert (tap.words, network.prefix) == ("hold release ", ())
