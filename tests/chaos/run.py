"""The oracle: a real daemon between two real brokers, killed and cut off at random, and a book of it.

``python -m tests.chaos.run [--seconds 1200] [--faults 320] [--seed 1] [--early]`` prints the table.
Requests with a response topic are answered at the first broker (publish first), the others at the
second one by way of the outbox. The brokers' own losses are counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bundles import make_bundle
from tests.chaos.book import Book, Count
from tests.chaos.faults import Fault, plan
from tests.chaos.network import Network, network
from tests.chaos.parties import Device, Listener
from tests.chaos.tap import Tap
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import Mosquitto
from tests.models import double

FRESH_S = 10.0
SETTLE_S = 120.0
STORE = "autosave_interval 1800\nmax_inflight_messages 64"


@dataclass
class Report:
    """What a run found."""

    count: Count
    done: dict[str, int]
    long_faults: int
    fresh_s: dict[str, float]
    outbox: dict[str, int]
    problems: list[str]
    ways: str
    seconds: float
    left: int
    start_s: float

    def lines(self) -> list[str]:
        """For people."""
        count, outbox = self.count, self.outbox
        rows: list[tuple[str, Any]] = [
            ("faults", f"{sum(self.done.values())} in {self.seconds:.0f} s ({self.ways})"),
            *((f"  {name}", number) for name, number in sorted(self.done.items())),
            ("  of these a broker away for 5 s or more", self.long_faults),
            ("requests that the first broker took", count.messages),
            ("acknowledged by the daemon", count.acknowledged),
            ("  their results by way of the outbox", count.through_outbox),
            ("delivered to the daemon again", count.delivered_again),
            ("answered again, and marked", count.answered_again_marked),
            ("dead letters", count.dead_letters),
            ("LOST: acknowledged, and no result", len(count.lost)),
            ("MISMATCHED: another answer", len(count.mismatched)),
            ("UNMARKED: answered again without a mark", len(count.unmarked)),
            ("LEFT: without an end until a restart", self.left),
            ("the brokers' own: requests lost", count.broker_lost_requests),
            ("the brokers' own: delivered, and forgotten", len(count.open)),
            ("the brokers' own: results lost", count.broker_lost_results),
            ("the brokers' own: requests repeated", count.broker_repeats),
            ("outbox, this process: kept / delivered", f"{outbox['kept']} / {outbox['delivered']}"),
            ("outbox: left", outbox["entries"]),
            *((f"a fresh message, {name}", f"{s:.1f} s") for name, s in self.fresh_s.items()),
            ("  of this, until the daemon had started", f"{self.start_s:.1f} s"),
        ]
        return [f"{name:44} {value}" for name, value in rows] + self.problems


class Site:
    """Everything that runs; ``with Site(folder) as site:``.

    Args:
        folder: for all of it.
        seed: of the choices.
        every_s: between two bursts of requests.
        env: the daemon's.
    """

    def __init__(self, folder: Path, seed: int, every_s: float, **env: str) -> None:
        self.folder = folder
        self.book = Book()
        self._rng = random.Random(seed)
        self._env = env
        for name in ("first", "second", "daemon"):
            (folder / name).mkdir()
        make_bundle(folder / "daemon/m-1.edgb", double(), name="m", release=1)
        self.brokers = [
            Mosquitto(folder / name, STORE, persistent=True) for name in ("first", "second")
        ]
        self._every_s = every_s
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Site:  # noqa: PYI034 - typing.Self is 3.11
        with self._closing as closing:
            self.network: Network = closing.enter_context(network(2))
            for broker in self.brokers:
                closing.enter_context(broker)
            self.taps = [
                closing.enter_context(Tap(self.network.address(link), broker.port, self.book))
                for link, broker in enumerate(self.brokers)
            ]
            self.network.attach(self.taps)
            self.listeners = [
                closing.enter_context(Listener(broker.port, self.book, str(number)))
                for number, broker in enumerate(self.brokers)
            ]
            self.device = Device(self.brokers[0].port, self.book, self._every_s)
            closing.callback(self.device.close)
            self.daemon = DaemonProcess(self.folder / "daemon", self.network.prefix)
            closing.callback(self.daemon.stop)
            self.start_daemon()
            wait_for(self.is_connected, 30)
            self._closing = closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def body(self) -> str:
        first, second = (
            f"host: {self.network.address(link)}, port: {tap.port}, protocol: '5', keepalive: 2s"
            for link, tap in enumerate(self.taps)
        )
        client = self._rng.choice(("paho", "native"))
        return (
            "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
            f"mqtt: {{{first}, client: {client},\n"
            f"  results: {{{second}}}}}\n"
            "models:\n  m: {bundle: m-1.edgb, batching: {max_queue_delay: 60ms}}\nbindings:\n"
            "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: m, codec: json, timeout: 60s}\n"
        )

    def start_daemon(self) -> None:
        self.daemon.write(self.body())
        self.daemon.start(wait=False, **self._env)

    def mqtt(self) -> dict[str, Any]:
        """Of the status page; empty while the daemon does not answer."""
        if not self.daemon.is_up():
            return {}
        found: dict[str, Any] = self.daemon.status()["mqtt"]
        return found

    def is_connected(self) -> bool:
        mqtt = self.mqtt()
        return bool(mqtt) and mqtt["state"] == mqtt["results"]["state"] == "connected"

    def is_drained(self) -> bool:
        """Nothing is in the daemon's hands or on its disk."""
        mqtt = self.mqtt()
        return (
            bool(mqtt)
            and mqtt["state"] == "connected"
            and mqtt["in_flight"] == mqtt["waiting"] == 0
            and mqtt["results"]["outbox"]["entries"] == 0
        )


class Storm:
    """Carries out a plan.

    Args:
        site: to which it is done.
        faults: in the order of their times.
    """

    def __init__(self, site: Site, faults: list[Fault]) -> None:
        self._site = site
        self._faults = faults
        self._mends: list[tuple[float, Callable[[], None]]] = []
        self.done: dict[str, int] = {}
        self.long_faults = 0

    def blow(self) -> None:
        """All of it; returns when the last one is mended."""
        begun = time.monotonic()
        for fault in self._faults:
            self._wait(begun + fault.at_s)
            self._do(fault)
        while self._mends:
            self._wait(self._mends[0][0])

    def _wait(self, until: float) -> None:
        """Until then, mending meanwhile what is to be mended."""
        while self._mends and self._mends[0][0] <= until:
            due, mend = self._mends.pop(0)
            time.sleep(max(0, due - time.monotonic()))
            mend()
        time.sleep(max(0, until - time.monotonic()))

    def _later(self, seconds: float, mend: Callable[[], None]) -> None:
        self._mends.append((time.monotonic() + seconds, mend))
        self._mends.sort(key=lambda one: one[0])

    def _do(self, fault: Fault) -> None:
        site, name = self._site, fault.kind
        if fault.kind == "daemon_kill":
            process = site.daemon.process
            assert process is not None
            if process.poll() is not None and process.returncode == -signal.SIGKILL:
                return  # it is dead by us already
            assert process.poll() is None, f"the daemon ended:\n{site.daemon.tail()}"
            site.device.has_asked.clear()
            site.device.has_asked.wait(0.5)
            time.sleep(fault.choice * 0.08)  # with some of a burst in its hands
            site.daemon.kill()
            self._later(fault.lasts_s, site.start_daemon)
        elif fault.kind == "cut":
            way = site.network.ways[int(fault.choice * len(site.network.ways))]
            name = f"network cut ({way})"
            site.network.cut(fault.target, way)
            self._later(fault.lasts_s, lambda: site.network.heal(fault.target, way))
        else:
            broker = site.brokers[fault.target]
            if fault.kind == "broker_kill":
                save(broker)
            broker.stop(signal.SIGKILL if fault.kind == "broker_kill" else signal.SIGTERM)
            self._later(fault.lasts_s, lambda: mend(broker))
        self.done[name] = self.done.get(name, 0) + 1
        self.long_faults += fault.is_long


def mend(broker: Mosquitto) -> None:
    broker.start()


def save(broker: Mosquitto) -> None:
    """Make it write its store, and wait until that has happened."""
    store = broker.log.with_name("mosquitto.db")

    def written() -> int:
        return store.stat().st_mtime_ns if store.exists() else 0

    before = written()
    broker.send(signal.SIGUSR1)
    with contextlib.suppress(AssertionError):  # a machine under load; then it loses more
        wait_for(lambda: written() != before, 3)


def fresh(site: Site) -> tuple[dict[str, float], float]:
    """How long a new message of each way takes now, and the daemon's start; waits for all.

    A fault may have been a kill, and starting takes its time on a machine with much to do.
    """
    begun = time.monotonic()
    numbers = [site.device.ask() for _ in range(4)]  # beside the device, which asks too
    with contextlib.suppress(AssertionError):
        wait_for(site.daemon.is_up, SETTLE_S, 0.05)
    start_s = time.monotonic() - begun
    found: dict[str, float] = {}
    while len(found) < 2 and time.monotonic() - begun < SETTLE_S:
        for number in numbers:
            name = "through the outbox" if number % 2 else "publish first"
            if name not in found and site.book.of(number).heard:
                found[name] = time.monotonic() - begun
        time.sleep(0.01)
    return found, start_s


def observe(seconds: float, faults: int, seed: int, every_s: float = 0.2, **env: str) -> Report:
    """Run it all; the report says what became of the promises."""
    with tempfile.TemporaryDirectory(prefix="edged-chaos-") as name:
        with Site(Path(name), seed, every_s, **env) as site:
            begun = time.monotonic()
            site.device.start()
            storm = Storm(site, plan(seed, faults, seconds))
            storm.blow()
            took = time.monotonic() - begun
            fresh_s, start_s = fresh(site)
            site.device.pause()
            problems = [problem for tap in site.taps for problem in tap.problems]
            if len(fresh_s) < 2:
                problems.append(f"no fresh message came within {SETTLE_S:.0f} s")
            problems += drain(site)
            settle(site.book)
            left = len(left_alone(site, problems))
            if "Traceback" in site.daemon.log.read_text(errors="replace"):
                problems.append("a traceback in the daemon's log")
            outbox = site.mqtt()["results"]["outbox"]
            ways = f"cuts: {', '.join(site.network.ways)}"
            count = site.book.count()
            log = site.daemon.tail(30)
        if problems or not count.is_kept or left:
            problems.append(f"the daemon's log:\n{log}")
    return Report(
        count, storm.done, storm.long_faults, fresh_s, outbox, problems, ways, took, left, start_s
    )


def drain(site: Site) -> list[str]:
    """Wait until nothing is in the daemon's hands; what is wrong if that does not come."""
    try:
        wait_for(site.is_drained, SETTLE_S, 0.5)
    except AssertionError:
        return [f"not drained within {SETTLE_S:.0f} s: {site.mqtt()}"]
    return []


def left_alone(site: Site, problems: list[str]) -> set[int]:
    """What an idle daemon had not acknowledged, though its broker still waits for it.

    A broker that was killed forgets some of what it delivered. What it still knows, it delivers again
    to a daemon that starts anew.
    """
    before = set(site.book.count().open)
    if before:
        site.daemon.stop()
        site.start_daemon()
        wait_for(site.is_connected, SETTLE_S, 0.2)
        problems += drain(site)
        settle(site.book)
    return before - set(site.book.count().open)


def settle(book: Book, quiet_s: float = 3.0) -> None:
    """Wait until the listeners have heard nothing new for a while."""
    heard, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        now = sum(fate.heard for fate in list(book.fates.values()))
        if now != heard:
            heard, since = now, time.monotonic()
        time.sleep(0.1)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--faults", type=int, default=320)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--early", action="store_true", help="the control: acknowledge at once")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all is taken down
    env = {"EDGED_TEST_ACK_EARLY": "1"} if args.early else {}
    report = observe(args.seconds, args.faults, args.seed, **env)
    print("\n".join(report.lines()))
    is_good = report.count.is_kept and not report.problems and not report.left
    is_fresh = len(report.fresh_s) == 2 and max(report.fresh_s.values()) <= FRESH_S
    return 0 if is_good and is_fresh else 1


if __name__ == "__main__":
    sys.exit(main())
