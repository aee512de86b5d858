"""The instruments of the attacks, each seen to notice what it is for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.house import Peer
from tests.fakes.wire import header
from tests.hostile.baseline import Footprint, bounded_peak, process_of, undisturbed

FRAME = header(body=48 << 20) + bytes(40 << 20)


@contextlib.contextmanager
def held(daemon: DaemonProcess, data: bytes) -> Iterator[None]:
    peer = Peer(daemon.socket)
    peer.socket.settimeout(60)
    try:
        peer.send(data)
        yield
    finally:
        peer.close()


def leave(daemon: DaemonProcess, stack: contextlib.ExitStack, data: bytes) -> None:
    """An attack after which something stays, until the stack unwinds."""
    with undisturbed(daemon, settle_s=0.2):
        for _ in range(5):  # more than the daemon may just be about to close of an earlier test
            stack.enter_context(held(daemon, data))


def test_control_a_descriptor_that_stays_is_noticed(daemon: DaemonProcess) -> None:
    with contextlib.ExitStack() as stack, pytest.raises(AssertionError, match="before Footprint"):
        leave(daemon, stack, b"")


def test_control_memory_that_stays_is_noticed(daemon: DaemonProcess) -> None:
    """On a connection that was there before, so that no descriptor tells."""
    peer = Peer(daemon.socket)
    peer.socket.settimeout(60)
    before = Footprint.of(daemon)
    with contextlib.closing(peer), pytest.raises(AssertionError, match="before Footprint"):  # noqa: SIM117
        with undisturbed(daemon, settle_s=0.2):
            peer.send(FRAME)
    wait_for(lambda: Footprint.of(daemon).is_back_at(before, 8))  # or the next test starts high


def test_control_memory_that_is_given_back_is_noticed_too(daemon: DaemonProcess) -> None:
    with (
        pytest.raises(AssertionError, match="MiB at the peak"),
        bounded_peak(daemon, 16),
        held(daemon, FRAME),
    ):
        pass


def test_control_a_wrong_answer_is_noticed(daemon: DaemonProcess) -> None:
    with pytest.raises(AssertionError, match="gave"), undisturbed(daemon) as neighbour:
        neighbour.failures.append("1 gave 3")


def test_control_a_daemon_that_stays_slow_is_noticed(daemon: DaemonProcess) -> None:
    with contextlib.ExitStack() as stack, pytest.raises(AssertionError, match=r"before, .* after"):  # noqa: SIM117
        with undisturbed(daemon, p99_s=3):
            stack.enter_context(halting(daemon))


@contextlib.contextmanager
def halting(daemon: DaemonProcess) -> Iterator[None]:
    """The daemon alone stands still for most of the time; the machine is as it was."""
    process, is_over = process_of(daemon), threading.Event()

    def halt() -> None:
        while not is_over.wait(0.05):
            process.suspend()
            is_over.wait(0.3)
            process.resume()

    thread = threading.Thread(target=halt)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_nothing_is_noticed_when_nothing_is_done(daemon: DaemonProcess) -> None:
    with undisturbed(daemon), bounded_peak(daemon, 16):
        pass
