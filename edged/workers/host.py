"""The child process that hosts several sessions: all models of a device that share a worker.

Run as ``python -m edged.workers.host DOOR REPORT`` by ``shared.py``, which is its only peer.
Over the door come the models, one after another, each with a socket and a memory file, and more
sockets for one that is to run several times at once. Each socket has a thread that serves it as
``worker.py`` does its only one. So a run takes no other way
than in a worker of its own, and a load holds up nobody's runs.

Decides nothing. When it crashes, ``faulthandler`` writes the stack of that thread into the report,
and the outermost function of each thread is named after its guest. Only of that thread: it looks at
the others while they run, and may crash again over it before it has said anything. The process ends
when the door is closed, and the kernel ends it when the parent dies.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import resource
import socket
import sys
import threading
import types

from edged.device.memory import hand_back
from edged.system.patience import Patience
from edged.workers.worker import Worker, confine, ignore_terminal

WORDS_BYTES = 64
"""Of a message over the door: a verb and a number."""
_DESCRIPTORS = 2048
"""A hundred models, each with a socket and what its backend opens."""
_GONE_S = 10.0
"""How long the next model waits for the memory of one that has left and still runs."""

_awake = threading.Lock()
"""One thread at a time waits awake: two would take this process's own core from a run."""


class SharedPatience(Patience):
    """The patience of one of several threads, of which one at a time waits awake."""

    def __init__(self, wait_ns: int) -> None:
        super().__init__(wait_ns)
        self._has_it = False

    def is_worth_it(self) -> bool:
        """Also whether nobody else does."""
        self._has_it = super().is_worth_it() and _awake.acquire(blocking=False)
        return self._has_it

    def ended(self, *, in_time: bool) -> None:
        """Let another one wait awake."""
        self.give_up()
        super().ended(in_time=in_time)

    def give_up(self) -> None:
        """The same where nothing was learnt, as by an end of the connection."""
        if self._has_it:
            self._has_it = False
            _awake.release()


class Guest(Worker):
    """One way to one model of several in this process.

    Args:
        sock: its end; blocking.
        file: descriptor of the model's memory file; None for one more way to a model.
    """

    def __init__(self, sock: socket.socket, file: int | None = None) -> None:
        super().__init__(sock, file)
        self._ways: list[Guest] = [self]

    def beside(self, sock: socket.socket) -> Guest:
        """One more way to the model, once it is loaded: runs of several go at once."""
        other = Guest(sock)
        other._session, other._owner = self._session, self._owner
        other._prepared = self._prepared.beside() if self._prepared is not None else None
        other._patience = self._awake(self._patience.wait_ns)
        other._ways = self._ways
        other._ways.append(other)
        return other

    def _cap(self, size: int) -> None:
        # Not for good, as that of a process of one model: the next model may bring more.
        if size:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            most = size if hard == resource.RLIM_INFINITY else min(size, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

    def _awake(self, wait_ns: int) -> Patience:
        return SharedPatience(wait_ns)

    def leave(self) -> None:
        """Give back what it took; the last way to a model also the model."""
        if isinstance(self._patience, SharedPatience):
            self._patience.give_up()
        if self._prepared is not None:
            self._prepared.forget()
        self._prepared = None
        session, self._session = self._session, None
        self._ways.remove(self)
        if session is not None and not self._ways:
            session.close()


class Host:
    """Takes models in and lets them go.

    Args:
        door: where they come; blocking.
    """

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._guests: dict[int, Guest] = {}
        self._threads: dict[int, list[threading.Thread]] = {}

    def serve(self) -> None:
        """Until the door is closed."""
        while True:
            flags = socket.MSG_CMSG_CLOEXEC
            words, descriptors, _, _ = socket.recv_fds(self._door, WORDS_BYTES, 2, flags)
            if not words:
                return
            verb, _, number = words.decode("ascii").partition(" ")
            if verb == "leave":
                self._leave(int(number))
                continue
            sock = socket.socket(fileno=descriptors[0])
            if verb == "enter":
                self._guests[int(number)] = guest = Guest(sock, descriptors[1])
            else:
                guest = self._guests[int(number)].beside(sock)
            self._start(int(number), guest)

    def _start(self, number: int, guest: Guest) -> None:
        thread = threading.Thread(target=_named(number), args=(self, guest), daemon=True)
        self._threads.setdefault(number, []).append(thread)
        thread.start()

    def host(self, guest: Guest) -> None:
        """Serve one of its ways, on a thread of its own, until it leaves."""
        try:
            with contextlib.suppress(ConnectionError):
                guest.serve()
        except Exception:
            # Its end of the connection says that it is over; the others go on.
            faulthandler.dump_traceback()
        finally:
            guest.leave()
            guest.hang_up()
            gc.collect()  # of what the other models hold nothing is looked at: it is frozen
            hand_back()

    def _leave(self, number: int) -> None:
        """Wait until its memory is free, which the next one may need."""
        self._guests.pop(number, None)
        for thread in self._threads.pop(number, ()):
            thread.join(_GONE_S)


def _thread(host: Host, guest: Guest) -> None:
    host.host(guest)


def _named(number: int) -> types.FunctionType:
    """What a thread of this guest begins with: a stack that is written at a crash ends in it."""
    return types.FunctionType(_thread.__code__.replace(co_name=f"guest_{number}"), globals())


def main(arguments: list[str]) -> int:
    """Serve the door that the first argument names, and crash into the report of the second."""
    door, report = map(int, arguments)
    ignore_terminal()
    faulthandler.enable(report, all_threads=False)
    confine(_DESCRIPTORS)
    # The lowest number there is, so that of all sockets the kernel closes it first: from then on
    # the parent knows that it is the process that ends, and not one connection.
    lowest = os.dup(door)
    os.close(door)
    with socket.socket(fileno=lowest) as sock:
        sock.setblocking(True)
        with contextlib.suppress(ConnectionError):
            Host(sock).serve()
    return 0


if __name__ == "__main__":
    # Not through the interpreter's own end: backends' threads may still be at work.
    os._exit(main(sys.argv[1:]))
