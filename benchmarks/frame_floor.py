"""The least that a frame in another process can cost: memory, a socket, ONNX Runtime, nothing else.

A second process runs the model on memory that it shares with this one. It is told by 48 bytes over
a socket that there is a frame, and says by 72 that the answer lies in that memory: what a request
of a bound call is on the wire. Neither has an event loop, a protocol, checks or figures.
"""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

Frame = np.ndarray[Any, Any]
_ASKED, _ANSWERED = 48, 72
_PAGE = 4096


class Floor:
    """The second process, and the memory.

    Args:
        model: a model file that takes ``frame`` and gives one byte.
        shape: of the frame.
    """

    def __init__(self, model: Path, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape))
        self._memory = os.memfd_create("frame")
        os.ftruncate(self._memory, size + _PAGE)
        mapped = mmap.mmap(self._memory, size + _PAGE)
        self.frame: Frame = np.frombuffer(mapped, np.uint8, size).reshape(shape)
        self._answer = np.frombuffer(mapped, np.uint8, 1, size)
        self._sock, other = socket.socketpair()
        words = (str(model), str(other.fileno()), str(self._memory), *map(str, shape))
        with other:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.frame_floor", *words],
                pass_fds=(other.fileno(), self._memory),
            )
        self.ask(-1)  # when it is up

    def __enter__(self) -> Floor:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.close()
        self._child.wait(10)
        os.close(self._memory)

    def ask(self, core: int) -> Frame:
        """Have the model run on what lies in ``frame``, on a core; anywhere for -1."""
        self._sock.sendall(core.to_bytes(8, "little", signed=True) + bytes(_ASKED - 8))
        if len(self._sock.recv(_ANSWERED, socket.MSG_WAITALL)) != _ANSWERED:
            raise RuntimeError("the floor's process has ended; see what it wrote")
        return self._answer


def serve(model: Path, sock: socket.socket, memory: int, shape: tuple[int, ...]) -> None:
    """The second process, until the first one closes."""
    from benchmarks import raw  # noqa: PLC0415 - the first process has its own

    size = int(np.prod(shape))
    mapped = mmap.mmap(memory, size + _PAGE)
    frame: Frame = np.frombuffer(mapped, np.uint8, size).reshape(shape)
    answer = np.frombuffer(mapped, np.uint8, 1, size)
    session, everywhere = raw.open_session(model, 1), os.sched_getaffinity(0)
    told, inputs = -1, {"frame": frame}
    while len(asked := sock.recv(_ASKED, socket.MSG_WAITALL)) == _ASKED:
        if (core := int.from_bytes(asked[:8], "little", signed=True)) != told:
            os.sched_setaffinity(0, {core} if core >= 0 else everywhere)
            told = core
        answer[:] = session.run(None, inputs)[0]
        sock.sendall(bytes(_ANSWERED))


if __name__ == "__main__":
    serve(
        Path(sys.argv[1]),
        socket.socket(fileno=int(sys.argv[2])),
        int(sys.argv[3]),
        tuple(map(int, sys.argv[4:])),
    )
