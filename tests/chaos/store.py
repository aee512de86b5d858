"""The power cut in the steps of changes, documents over MQTT, ways back, installs, floors and rollouts.

``python -m tests.chaos.store [--cuts 500] [--seed 1] [--pretend] [--fs xfs]`` prints what was found. The method
is that of ``power.py``: the daemon lives on an ext4 image, and a copy of the image is what a cut
would leave. Here the daemon waits at each of its fault points, and is stopped there or a moment
later; the copy is then booted (``promises.py``), half of the time with a configuration that cannot be
read, and a whole daemon is started on some. Needs root, loop devices and mosquitto.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from edged.client import Client
from edged.commands import generations
from edged.commands.generations import Refused, ask
from edged.commands.installed import remove
from edged.commands.rolling import end
from edged.config.documents import FOLDER, read_state
from edged.errors import EdgedError, NotFoundError
from edged.generation.documents import Documents
from edged.generation.history import Order
from edged.incoming import installing
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.floors import Floors
from tests.bundles import make_bundle, make_keys
from tests.chaos.images import mounted, new_image, words
from tests.chaos.promises import Found, Image, Known, Promises, copy_of, inspect
from tests.chaos.stopping import PRETENDS, STOPS_AT, STOPS_UNTIL
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import MOSQUITTO, Mosquitto
from tests.fakes.fleet import Fleet
from tests.models import double

IMAGE_BYTES = {"ext4": 24 << 20, "xfs": 48 << 20}
WHOLE_EVERY = 10
"""Every so many cuts a whole daemon is started on the copy."""
OFTEN = 0.4
"""How often the power is cut at a step that was reached before without a cut."""
LATER_S = 0.004
"""Some cuts come up to so long after a step."""
ROUNDS = {"change": 5, "document": 3, "back": 2, "hostile": 1, "rollout": 2, "restart": 1}


class Shop(DaemonProcess):
    """The daemon, with a socket for administrators."""

    def head(self) -> str:
        at = self.directory
        return (
            f"node: test\nstate_dir: {at}/state\n"
            f"listen: {{socket: {{path: {at}/edged.sock}}, admin: {{path: {at}/admin.sock}}}}\n"
        )

    def write(self, body: str, *, atomic: bool = True) -> None:
        """Synced, so that no cut is about who edits."""
        temporary = self.config.with_suffix(".tmp")
        temporary.write_text(self.head() + body)
        sync(temporary)
        temporary.replace(self.config)
        sync(self.directory)


def sync(path: Path) -> None:
    """Bring to disk what somebody other than the daemon wrote."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Plant:
    """The daemon on its image, who changes things, and who cuts; ``with Plant(…) as plant:``.

    Args:
        folder: for all of it.
        count: of cuts.
        seed: of what happens.
        pretends: the control, with syncs that do nothing.
        whole_every: see WHOLE_EVERY.
        kind: of the file system.
    """

    def __init__(
        self, folder: Path, count: int, seed: int, *, pretends: bool, whole_every: int, kind: str
    ) -> None:
        self.folder, self.count, self.pretends = folder, count, pretends
        self.found = Found()
        self._whole_every = whole_every
        self._promises = Promises()
        self._digests: dict[tuple[str, int], str] = {}
        self._rng, self._cut_rng = random.Random(seed), random.Random(seed + 1)
        self._mutex = threading.RLock()
        self._number, self._canary, self._floor = 0, 1, 0
        self._said_pair = (0, 0)
        self._versions: dict[int, int] = {}
        self._was: set[tuple[int, int]] = set()
        self._body = ""
        self._env: dict[str, str] = {}
        self._is_begun = False
        self._key, self._public = make_keys(folder)
        self._known = Known(self._public, self._digests)
        self._fleet_key, self._fleet_public = make_keys(folder, "fleet")
        self._broker = Mosquitto(folder)
        self.image = new_image(folder / "image", IMAGE_BYTES[kind], kind=kind)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Plant:  # noqa: PYI034 - typing.Self is 3.11
        with contextlib.ExitStack() as closing:
            home = closing.enter_context(mounted(self.image, self.folder / "live"))
            (home / "bundles").mkdir()
            os.sync()
            self.daemon = Shop(home, module="tests.chaos.stopping")
            for name in (STOPS_AT, STOPS_UNTIL):
                os.mkfifo(self.folder / name)
                self._env[name] = str(self.folder / name)
            self._env |= {PRETENDS: "1"} if self.pretends else {}
            self._said = os.open(self.folder / STOPS_AT, os.O_RDWR)
            self._hears = os.open(self.folder / STOPS_UNTIL, os.O_RDWR)
            is_over = threading.Event()
            thread = threading.Thread(target=self._listen, args=[is_over])
            thread.start()
            closing.callback(thread.join)
            closing.callback(is_over.set)
            closing.callback(self.daemon.stop)
            installing.fault = self._at_own
            # It waits at a step for as long as an image is looked at, on a busy machine for long.
            generations.Client = partial(Client, timeout=600)  # type: ignore[misc,assignment]
            closing.enter_context(self._broker)
            self._fleet = closing.enter_context(Fleet(self._broker, [self._fleet_key]))
            for model, release in (("r", 1), ("d", 1), ("d", 2)):
                self._make(model, release)
            self._next()
            self.daemon.write(self._body)
            self.daemon.start(**self._env)
            self._acknowledge()
            self._is_begun = True
            self._closing = closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def work(self) -> None:
        """Change things until there were cuts enough."""
        names = [name for name, times in ROUNDS.items() for _ in range(times)]
        while self.found.cuts < self.count:
            name = self._rng.choice(names)
            self.found.rounds[name] += 1
            getattr(self, f"_{name}")()
            with self._mutex:
                self._promises.targets = self._promises.extras = frozenset()
            if self._rng.random() < 0.3:
                self._cut("at rest")

    def _change(self) -> None:
        """A release of both models is installed and takes effect; now and then with a floor."""
        before = self._number
        self._next()
        self.daemon.write(self._body)
        self._ask(None)
        for model in ("m", "k"):
            with contextlib.suppress(NotFoundError, EdgedError):
                remove(self.daemon.config, model, before - 1)
            gone = f"bundles/{model}-{before - 1}.edgb"
            self._promises.installed -= {gone}

    def _back(self) -> None:
        """An operator goes back to the generation before."""
        with self._mutex:
            self._promises.targets = frozenset(self._was)
            self._promises.extras = frozenset({0, 1, 2})
        self._ask(Order(0))

    def _document(self) -> None:
        """A document over MQTT brings a model or exchanges it, or an operator has none any more."""
        notes = Documents(self.daemon.directory / "state" / FOLDER)
        with self._mutex:
            # Also the files, where an operator went back from them: a document is beside these.
            self._promises.targets = frozenset({(self._number, self._number)})
            self._promises.extras = frozenset({0, 1, 2})
        if self._rng.random() < 0.25 and notes.order_removal():
            self._ask(None)
            return
        version = max(self._versions, default=0) + 1
        self._versions[version] = release = 1 + version % 2
        with self.daemon.client(timeout=600) as client:
            against = client.status()["config"]["digest"]
        document = f"models:\n  d: {{bundle: bundles/d-{release}.edgb}}\n"
        self._fleet.want(version, document, against)
        self._fleet.until(lambda report: _is_decided(report, version), 300)
        with self._mutex:
            self._promises.version = version
        self._acknowledge()

    def _of_document(self) -> int:
        """The release of d that the document beside the files asks for."""
        state = read_state(self.daemon.directory / "state" / FOLDER)
        return self._versions.get(state.current, 0)

    def _hostile(self) -> None:
        """A bundle that nobody signed, then the files as they were."""
        make_bundle(self.daemon.directory / "evil.edgb", double(factor=99), name="m", release=999)
        good = self._body
        with self._mutex:
            self._promises.is_partial = True
        named = f"bundle: 'bundles/m-*.edgb', serve: {self._number}"
        self._body = good.replace(named, "bundle: evil.edgb")
        self.daemon.write(self._body)
        self._ask(None)
        self._body = good
        self.daemon.write(good)
        with self._mutex:
            self._promises.is_partial = False

    def _rollout(self) -> None:
        """A canary is begun, and promoted or given up."""
        self._canary += 1
        self._make("r", self._canary)
        self._write_body()
        with self._mutex:
            self._promises.targets = frozenset({(self._number, self._number)})
            self._promises.extras = frozenset({self._of_document()})
        self.daemon.write(self._body)
        if not self._ask(None):
            return
        self._promises.targets = self._promises.extras = frozenset()
        verb, phase = self._rng.choice([("promote", "promoted"), ("abort", "aborted")])
        end(str(self.daemon.directory / "admin.sock"), verb, "r")
        with self._mutex:
            self._promises.canary = (self._canary, phase)
        self._cut(f"after {verb}")

    def _restart(self) -> None:
        """It ends, at any moment or in good order, and starts again."""
        with self._mutex:
            self._promises.extras = frozenset({self._of_document()})
            self.daemon.kill() if self._rng.random() < 0.5 else None
        self.daemon.stop()
        self.daemon.socket.unlink(missing_ok=True)
        self.daemon.start(wait=False, **self._env)
        wait_for(self.daemon.is_up, 300)
        self._acknowledge()

    def _next(self) -> None:
        """Make the next release of both models, and the configuration that serves it."""
        self._said_pair = (self._number, self._number)
        self._number += 1
        if self._number % 4 == 0:
            self._floor = self._number - 1
        with self._mutex:
            # Also what the files say: with another bundle beside them they were not tried yet.
            self._promises.targets = frozenset({(self._number, self._number), self._said_pair})
            self._promises.extras = frozenset({self._of_document()})
        self._write_body()
        if self.daemon.config.exists():
            for model in ("m", "k"):
                self._install(model)
        else:
            for model in ("m", "k"):
                self._make(model, self._number)

    def _write_body(self) -> None:
        number = self._number
        stable, canary = max(1, self._canary - 1), self._canary
        rollout = (
            f"rollout: {{stable: {stable}, canary: {{release: {canary}, trafficPercent: 50}}, "
            "guard: {window: 1h}}"
            if canary > 1
            else "serve: 1"
        )
        self._body = (
            f"trust: {{keys: [{self._public}]}}\ntrial: {{enabled: false}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {self._broker.port}, longest_pause: 1s,\n"
            f"  desired: {{keys: [{self._fleet_public}]}}}}\n"
            "reload: {watch: false, confirm: {window: 0}}\nstore: {keep: 0, generations: 4}\n"
            "models:\n"
            f"  m: {{bundle: 'bundles/m-*.edgb', serve: {number}}}\n"
            f"  k: {{bundle: 'bundles/k-*.edgb', serve: {number}}}\n"
            f"  r: {{bundle: 'bundles/r-*.edgb', {rollout}}}\n"
        )

    def _bundle(self, path: Path, model: str, release: int) -> Path:
        more: dict[str, Any] = {"floor": self._floor} if self._floor and model != "r" else {}
        factor = release + 1 if model != "r" else 2
        make_bundle(path, double(factor=factor), name=model, release=release, key=self._key, **more)
        self._digests[model, release] = bundle_digest(read_manifest(path)[0])
        return path

    def _make(self, model: str, release: int) -> None:
        path = self.daemon.directory / f"bundles/{model}-{release}.edgb"
        self._bundle(path, model, release)
        sync(path)
        sync(path.parent)

    def _install(self, model: str) -> None:
        path = self._bundle(self.folder / "fresh.edgb", model, self._number)
        installing.install(self.daemon.config, path)
        with self._mutex:
            self._promises.installed |= {f"bundles/{model}-{self._number}.edgb"}
        path.unlink()

    def _ask(self, order: Order | None) -> bool:
        """Have the daemon look; what it acknowledges is a promise from then on."""
        home = self.daemon.directory
        try:
            ask(str(self.daemon.socket), home / "state", order, timeout_s=600, until="applied")
        except Refused:
            return False
        finally:
            self._acknowledge()
        return True

    def _acknowledge(self) -> None:
        with self.daemon.client(timeout=600) as client:
            status = client.status()
        serving = {one["name"]: one["serving"] for one in status["models"]}
        pair = (serving["m"], serving["k"])
        with self._mutex:
            promises = self._promises
            assert pair == promises.pair or pair in promises.targets, (pair, promises)
            extra = serving.get("d", 0)
            assert extra == promises.extra or extra in promises.extras, (extra, promises)
            promises.extra = extra
            self._was.add(pair)
            promises.pair, promises.generation = pair, status["generation"]

    def _listen(self, is_over: threading.Event) -> None:
        """Let the daemon go on at each of its steps, and cut at some."""
        rest = b""
        while not is_over.is_set():
            if not select.select([self._said], [], [], 0.1)[0]:
                continue
            rest += os.read(self._said, 4096)
            *lines, rest = rest.split(b"\n")
            for line in lines:
                point = line.decode()
                is_due = self._is_due(point)
                if is_due and self._cut_rng.random() < 0.6:
                    self._cut(point)
                    is_due = False
                self._note(point)
                os.write(self._hears, b".")
                if is_due:
                    time.sleep(self._cut_rng.uniform(0, LATER_S))
                    self._cut(f"after {point}")

    def _at_own(self, point: str) -> None:
        """A step of ``edged bundle install``, which is a process of its own elsewhere."""
        if self._is_due(point):
            self._cut(point)

    def _is_due(self, point: str) -> bool:
        """Steps that were not cut yet are cut first, the others now and then."""
        if self.found.cuts >= self.count or not self._is_begun:
            return False
        times = self.found.points[point] + self.found.points[f"after {point}"]
        return self._cut_rng.random() < OFTEN / (1 + times)

    def _note(self, point: str) -> None:
        """What is on disk once this step is reached."""
        if point.startswith("floor."):
            with self._mutex:
                self._promises.floors = dict(Floors(self.daemon.directory / "state").all())

    def _cut(self, where: str) -> None:
        with self._mutex:
            process = self.daemon.process
            if process is None or process.poll() is not None or self.found.cuts >= self.count:
                return
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            try:
                copy = copy_of(self.image, self.folder / f"copy-{self.found.cuts}")
            finally:
                process.send_signal(signal.SIGCONT)
            self.found.cuts += 1
            self.found.points[where] += 1
            number = self.found.cuts
            image = Image(copy, self.daemon.directory, number % 2 == 0, self._is_due_whole(number))
            try:
                self.found.add(
                    inspect(image, self._promises, self._known, f"cut {number}, {where}")
                )
            finally:
                copy.unlink()

    def _is_due_whole(self, number: int) -> bool:
        return number % self._whole_every == 0


def _is_decided(report: dict[str, Any], version: int) -> bool:
    said = report["desired"]
    return bool(said) and said["version"] == version and said["state"] != "trying"


def cuts(
    count: int,
    seed: int,
    *,
    pretends: bool = False,
    whole_every: int = WHOLE_EVERY,
    found: Found | None = None,
    kind: str = "ext4",
) -> Found:
    """Cut so often; what was found, also while it goes on."""
    with tempfile.TemporaryDirectory(prefix="edged-store-") as name:
        folder = Path(name)
        plant = Plant(folder, count, seed, pretends=pretends, whole_every=whole_every, kind=kind)
        plant.found = plant.found if found is None else found
        was = installing.fault
        try:
            with plant:
                plant.work()
        finally:
            installing.fault = was
            generations.Client = Client  # type: ignore[misc]
        return plant.found


def main() -> int:
    """The command line."""
    args = words(__doc__)
    if args is None:
        return 1
    if not MOSQUITTO:
        print("not done: needs mosquitto")
        return 1
    found = Found()
    try:
        cuts(args.cuts, args.seed, pretends=args.pretend, found=found, kind=args.fs)
    finally:  # also of a run that is stopped
        print("\n".join(found.lines()), flush=True)
    return 0 if found.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
