"""The power of the whole daemon, cut again and again: what it had acknowledged is on its disk.

``python -m tests.chaos.power [--cuts 500] [--seed 1] [--pretend] [--fs xfs]`` prints what was found. The
daemon lives on an ext4 image that is mounted by loop; the image is copied while it works. The copy holds
what had reached the block layer: what was only in the file system's cache is gone, as after a cut. It
does not model a drive that lies. Needs root and loop devices.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from edged.broker.results import FOLDER
from edged.outbox.disk import Disk
from edged.outbox.segment_log import SegmentLog
from tests.bundles import make_bundle
from tests.chaos.book import Book
from tests.chaos.images import mounted, new_image, words
from tests.chaos.parties import Device, Listener
from tests.chaos.tap import Tap
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import Mosquitto
from tests.models import double

CAP = "16MiB"
WHOLE_EVERY = 25
"""Every so many cuts a whole daemon is started on the copy, and delivers what it finds."""
AWAY_EVERY = 10
"""Every so many cuts the broker of results goes, or comes back."""


@dataclass
class Found:
    """What the cuts found."""

    cuts: int = 0
    owed: int = 0
    lost: int = 0
    whole: int = 0
    whole_lost: int = 0
    slowest_start_s: float = 0.0
    acknowledged: int = 0
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"cuts                                         {self.cuts}",
            f"requests acknowledged                        {self.acknowledged}",
            f"results owed, over all cuts                  {self.owed}",
            f"LOST: acknowledged, and not in the outbox    {self.lost}",
            f"whole daemons started after a cut            {self.whole}",
            f"LOST: owed, and not delivered by them        {self.whole_lost}",
            f"slowest of them until it was ready           {self.slowest_start_s:.1f} s",
            *self.problems,
        ]


def body(first: int, second: int) -> str:
    return (
        "trust: {require_signatures: false}\n"
        f"mqtt: {{host: 127.0.0.1, port: {first}, protocol: '5', longest_pause: 1s,\n"
        f"  outbox: {{max_bytes: {CAP}}},\n"
        f"  results: {{host: 127.0.0.1, port: {second}, protocol: '5', longest_pause: 1s}}}}\n"
        "models:\n  m: {bundle: m-1.edgb}\nbindings:\n"
        "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: m, codec: json, timeout: 60s}\n"
    )


def owed(book: Book) -> set[int]:
    """What was acknowledged, and which no broker has the result of."""
    with book.lock:
        return {number for number, fate in book.fates.items() if fate.acked and not fate.taken}


def in_outbox(folder: Path) -> set[int]:
    """The results that an outbox opened after the cut would deliver."""
    log = SegmentLog(Disk(folder), 16 << 20, 0, b"next one")
    log.open()
    found: set[int] = set()
    while entries := log.read(1000):
        found.update(int(one.key.rpartition(b"/")[2]) for one in entries)
        log.finish([one.sequence for one in entries])
    log.close()
    return found


class Plant:
    """The daemon on its image, its brokers, and who asks; ``with Plant(folder) as plant:``.

    Args:
        folder: for all of it.
        pretends: the control, with syncs that do nothing.
    """

    def __init__(self, folder: Path, *, pretends: bool, kind: str = "ext4") -> None:
        self.folder = folder
        self.book = Book()
        self.image = new_image(folder / "image", kind=kind)
        self._module = "tests.chaos.pretending" if pretends else "edged"
        for name in ("first", "second", "third"):
            (folder / name).mkdir()
        self._first = Mosquitto(folder / "first", "max_inflight_messages 200")
        self.second = Mosquitto(folder / "second", persistent=True)
        self._copies = 0
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Plant:  # noqa: PYI034 - typing.Self is 3.11
        with contextlib.ExitStack() as closing:
            home = closing.enter_context(mounted(self.image, self.folder / "live"))
            make_bundle(home / "m-1.edgb", double(), name="m", release=1)
            os.sync()
            for broker in (self._first, self.second):
                closing.enter_context(broker)
            first, second = (
                closing.enter_context(Tap("127.0.0.1", broker.port, self.book))
                for broker in (self._first, self.second)
            )
            self.device = Device(self._first.port, self.book, 0.02)
            closing.callback(self.device.close)
            self.daemon = DaemonProcess(home, module=self._module)
            self.daemon.write(body(first.port, second.port))
            closing.callback(self.daemon.stop)
            self.daemon.start()
            self.device.start()
            self._closing = closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def cut(self) -> tuple[Path, set[int]]:
        """The image as a cut now would leave it, and what is owed then."""
        process = self.daemon.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        try:
            assert process.returncode is None
            # A file of its own each time: somebody else's mount namespace may keep the last one in use,
            # and a loop device that is still there would show what it knew.
            self._copies += 1
            copy = self.folder / f"copy-{self._copies}"
            return shutil.copyfile(self.image, copy), owed(self.book)
        finally:
            process.send_signal(signal.SIGCONT)

    def wait_for_more(self, acknowledged: int) -> None:
        """Until so many more are acknowledged."""
        goal = self.acknowledged() + acknowledged
        wait_for(lambda: self.acknowledged() >= goal, 120, 0.005)

    def acknowledged(self) -> int:
        with self.book.lock:
            return sum(fate.acked > 0 for fate in self.book.fates.values())


def start_whole(folder: Path, copy: Path, due: set[int], found: Found) -> None:
    """A fresh daemon on the copy delivers what is owed, to a broker of its own."""
    book = Book()
    with (
        mounted(copy, folder / "after") as home,
        Mosquitto(folder / "third") as third,
        Listener(third.port, book, "third"),
    ):
        daemon = DaemonProcess(home)
        (home / "edged.sock").unlink(missing_ok=True)
        daemon.write(body(1, third.port))
        begun = time.monotonic()
        try:
            daemon.start()
            found.slowest_start_s = max(found.slowest_start_s, time.monotonic() - begun)
            status = daemon.status()
            if not status["ready"]:
                found.problems.append(f"not ready after a cut: {status['degradations']}")
            with contextlib.suppress(AssertionError):
                wait_for(
                    lambda: due <= {n for n, fate in list(book.fates.items()) if fate.heard}, 60
                )
            heard = {number for number, fate in book.fates.items() if fate.heard}
            found.whole_lost += len(due - heard)
            found.whole += 1
        finally:
            daemon.stop()


def cuts(
    count: int,
    seed: int,
    *,
    pretends: bool = False,
    whole_every: int = WHOLE_EVERY,
    kind: str = "ext4",
) -> Found:
    """Cut so often; what was found."""
    rng = random.Random(seed)
    found = Found()
    with tempfile.TemporaryDirectory(prefix="edged-power-") as name:
        folder = Path(name)
        with Plant(folder, pretends=pretends, kind=kind) as plant:
            is_up = False
            plant.second.stop()
            for number in range(1, count + 1):
                if number % AWAY_EVERY == 0:
                    plant.second.stop() if is_up else plant.second.start()
                    is_up = not is_up
                plant.wait_for_more(rng.randrange(60))
                copy, due = plant.cut()
                found.cuts += 1
                found.owed += len(due)
                with mounted(copy, folder / "after") as home:
                    outbox = home / "state" / FOLDER
                    kept = in_outbox(outbox) if outbox.is_dir() else set()
                copy.unlink()
                found.lost += len(due - kept)
                if number % whole_every == 0:
                    # Another cut: reading the copy above has changed it.
                    copy, due = plant.cut()
                    start_whole(folder, copy, due, found)
                    copy.unlink()
            found.acknowledged = plant.acknowledged()
            found.problems += [
                line for line in plant.daemon.log.read_text().splitlines() if "Traceback" in line
            ]
    return found


def main() -> int:
    """The command line."""
    args = words(__doc__)
    if args is None:
        return 1
    found = cuts(args.cuts, args.seed, pretends=args.pretend, kind=args.fs)
    print("\n".join(found.lines()))
    return 0 if not (found.lost or found.whole_lost or found.problems) else 1


if __name__ == "__main__":
    sys.exit(main())
