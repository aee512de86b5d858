"""The instruments of the attacks, each seen to notice what it is for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.house import Peer
from tests.fakes.wire import header
from tests.hostile import baseline
from tests.hostile.baseline import Footprint, Neighbour, bounded_peak, process_of, undisturbed

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


def test_control_a_daemon_that_stays_slow_is_noticed(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What else runs on this machine must not be able to excuse the daemon here.
    monkeypatch.setattr(baseline, "times_busier", lambda _before_ms, _after_ms: 1.0)
    with contextlib.ExitStack() as stack, pytest.raises(AssertionError, match=r"before, .* after"):  # noqa: SIM117
        with undisturbed(daemon, p99_s=5) as neighbour:
            stack.enter_context(halting(daemon, neighbour))


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "times"), [(0.1, 0.1, 1), (0.1, 0.05, 1), (0.1, 0.4, 4)]
)
def test_a_machine_that_became_busier_is_allowed_for(
    before_ms: float, after_ms: float, times: float
) -> None:
    assert baseline.times_busier(before_ms, after_ms) == pytest.approx(times)


@contextlib.contextmanager
def halting(daemon: DaemonProcess, neighbour: Neighbour) -> Iterator[None]:
    """The daemon alone stands still, at every tenth answer or so; the machine is as it was."""
    process, is_over = process_of(daemon), threading.Event()

    def halt() -> None:
        answered = len(neighbour.times_ms)
        while not is_over.wait(0.001):
            if len(neighbour.times_ms) >= answered + 10:
                process.suspend()
                is_over.wait(0.2)
                process.resume()
                answered = len(neighbour.times_ms)

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
