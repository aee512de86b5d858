"""The child process that trials are forked from: it has imported a runtime, and loads no model.

Run as ``python -m edged.workers.forks DOOR REPORT`` by ``forked.py``, which is its only peer.
To import a runtime takes much longer than to try a small model. Here it is done once, and each
trial still has a process of its own, which knows nothing of the one before: a copy of this one, as
it was before any model was there.

Over the door come words, each answered with one word, one after another:

    import NAME         a runtime; "ready", or why no process can be copied after that
    fork                with a socket and a memory file: the number of the process that serves it
    wait NUMBER MS      its exit status, negative for a signal; "running" after so long, and "gone"
                        once that was told
    kill NUMBER         "done"

Decides nothing. It ends when the door is closed, and the kernel ends it when the parent dies, and
its copies when it does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path

from edged.runtimes.registry import create_runtime
from edged.workers.worker import Worker, confine, ignore_terminal

WORDS_BYTES = 256
"""Of a message over the door."""
_LOOK_S = 0.002
"""Between two looks at a process that is about to end."""


class Forks:
    """Makes copies of this process.

    Args:
        door: where it is asked to; blocking.
    """

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._ended: dict[int, int] = {}
        self._running: set[int] = set()

    def serve(self) -> None:
        """Until the door is closed."""
        while True:
            flags = socket.MSG_CMSG_CLOEXEC
            words, descriptors, _, _ = socket.recv_fds(self._door, WORDS_BYTES, 2, flags)
            if not words:
                return
            verb, *arguments = words.decode("ascii").split(" ")
            if verb == "import":
                answer = prepare(arguments[0])
            elif verb == "fork":
                answer = str(self._fork(*descriptors))
            elif verb == "wait":
                answer = self._wait(int(arguments[0]), int(arguments[1]) / 1000)
            else:
                answer = self._kill(int(arguments[0]))
            self._door.send(answer.encode("ascii"))

    def _fork(self, sock: int, file: int) -> int:
        number = os.fork()
        if number == 0:
            self._door.close()
            serve_model(sock, file)  # does not return
        os.close(sock)
        os.close(file)
        self._running.add(number)
        return number

    def _wait(self, number: int, seconds: float) -> str:
        until = time.monotonic() + seconds
        while True:
            self._reap()
            if number in self._ended:
                return str(self._ended.pop(number))
            if number not in self._running:
                return "gone"
            if time.monotonic() >= until:
                return "running"
            time.sleep(_LOOK_S)

    def _kill(self, number: int) -> str:
        self._reap()
        if number in self._running:  # its number is no other's while nobody waited for it
            os.kill(number, signal.SIGKILL)
        return "done"

    def _reap(self) -> None:
        for number in list(self._running):
            found, status = os.waitpid(number, os.WNOHANG)
            if found:
                self._running.remove(number)
                self._ended[number] = os.waitstatus_to_exitcode(status)


def prepare(name: str) -> str:
    """Import a runtime; "ready", or why no process can be copied after that."""
    create_runtime(name, threads=1, is_expendable=True).info()  # what is wrong with it a load says
    # A copy has this thread alone: what others held would be held in it for ever.
    if (count := len(list(Path("/proc/self/task").iterdir()))) > 1:
        return f"it has {count} threads"
    gc.collect()
    gc.freeze()  # a collection in a copy would write to pages that all have together
    return "ready"


def serve_model(sock: int, file: int) -> None:
    """Be a worker from now on, as ``python -m edged.workers.worker`` is, and end."""
    status = 1
    try:
        confine()
        with socket.socket(fileno=sock) as end:
            end.setblocking(True)
            with contextlib.suppress(ConnectionError):
                Worker(end, file).serve()
        status = 0
    except Exception:
        faulthandler.dump_traceback()
    finally:
        os._exit(status)


def main(arguments: list[str]) -> int:
    """Serve the door that the first argument names."""
    ignore_terminal()
    faulthandler.enable()
    confine()
    with socket.socket(fileno=int(arguments[0])) as door:
        door.setblocking(True)
        with contextlib.suppress(ConnectionError):
            Forks(door).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
