"""What a daemon with a store has promised so far, and whether an image after a cut keeps it.

The image is booted with the daemon's own parts, in this process: its configuration, its store, its
runtime. Old or new, wholly: both models of one change have to be of that change.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from edged.config.documents import FOLDER, read_document, read_state
from edged.errors import EdgedError
from edged.generation.history import History
from edged.generation.record import load_for_boot
from edged.store.bundle import open_bundle
from edged.store.floors import Floors
from edged.store.trust_store import TrustStore
from tests.chaos.images import mount_command
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.site import Site
from tests.generation.test_reload import Box, booted

Pair = tuple[int, int]
BROKEN = "models: [\n"
PRELOADED = ["__main__", "tests.chaos.promises", "onnxruntime", "edged.runtimes.onnxruntime"]
"""Imported once, and not by each of hundreds of processes."""
_OF_ITS_OWN = 0x00020000 | 0x40000000
"""CLONE_NEWNS, CLONE_NEWNET: a second daemon of one name would take the first one's broker away."""


@dataclass
class Promises:
    """What was answered to whoever asked, up to now.

    Args:
        pair: releases of m and k that were acknowledged.
        target: those of a change, or of a way back, that is under way.
        generation: the highest number that was acknowledged.
        floors: by model, what was on disk for sure.
        installed: bundle files, relative to the home, that were said to be there.
        canary: of the last rollout that was acknowledged to be over, and how it ended.
        is_partial: what the files ask for is half good, and a start serves that half.
        extra: release of d, the model of documents over MQTT, that was acknowledged; 0 for none.
        extras: those of a change that is under way.
        version: of the last document that was decided upon.
    """

    pair: Pair = (0, 0)
    targets: frozenset[Pair] = frozenset()
    generation: int = 0
    floors: dict[str, int] = field(default_factory=dict)
    installed: frozenset[str] = frozenset()
    canary: tuple[int, str] | None = None
    is_partial: bool = False
    extra: int = 0
    extras: frozenset[int] = frozenset()
    version: int = 0


@dataclass
class Found:
    """What the cuts found."""

    cuts: int = 0
    whole: int = 0
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    points: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    before: int = 0
    after: int = 0
    slowest_s: float = 0.0
    floors: dict[str, int] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether no promise was broken."""
        return not (self.lost or self.mixed or self.unverified or self.problems)

    def add(self, other: Found) -> None:
        """What one cut found."""
        for name in ("lost", "mixed", "unverified", "problems"):
            getattr(self, name).extend(getattr(other, name))
        self.before, self.after = self.before + other.before, self.after + other.after
        self.whole += other.whole
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        for model, least in self.floors.items():
            if other.floors.get(model, 0) < least:
                self.lost.append(f"the floor of {model} fell from {least}: {other.floors}")
        self.floors = {**self.floors, **other.floors}

    def lines(self) -> list[str]:
        """For people."""
        names = ", ".join(f"{name} {count}" for name, count in sorted(self.rounds.items()))
        return [
            f"cuts                                          {self.cuts}",
            f"at so many different steps                    {len(self.points)}",
            f"after them the old one serves                 {self.before}",
            f"after them the new one serves                 {self.after}",
            f"LOST: acknowledged, and not there             {len(self.lost)}",
            f"MIXED: neither the old nor the new            {len(self.mixed)}",
            f"UNVERIFIED: served or stored                  {len(self.unverified)}",
            f"whole daemons started after a cut             {self.whole}",
            f"slowest of them until it was ready            {self.slowest_s:.1f} s",
            f"meanwhile: {names}",
            *self.lost[:10], *self.mixed[:10], *self.unverified[:10], *self.problems[:10],
        ]  # fmt: skip


class Known(NamedTuple):
    """Args:
    key: the public one.
    digests: of every bundle that was made and signed, by model and release.
    """

    key: Path
    digests: dict[tuple[str, int], str]


class Image(NamedTuple):
    """What a cut left.

    Args:
        path: the copy of the image.
        home: where it is to be mounted, for what is on it names itself by that.
        is_broken: let the configuration's file be one that cannot be read.
        is_whole: start a whole daemon on it afterwards.
    """

    path: Path
    home: Path
    is_broken: bool
    is_whole: bool


def inspect(image: Image, promises: Promises, known: Known, where: str) -> Found:
    """Look at an image, in a process that has a view of its own of what is mounted."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_inspect, args=(theirs, image, promises, known, where))
    process.start()
    theirs.close()
    try:
        found: Found = ours.recv()
    except EOFError:
        found = Found(problems=[f"{where}: whoever looked at it died"])
    process.join()
    return found


def _inspect(pipe: Connection, image: Image, promises: Promises, known: Known, where: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the parts say of it is expected
    if ctypes.CDLL(None, use_errno=True).unshare(_OF_ITS_OWN):
        raise OSError(ctypes.get_errno(), "no mounts and network of its own")
    for command in (
        ["mount", "--make-rprivate", "/"],
        mount_command(image.path, image.home),
    ):
        subprocess.run(command, check=True, timeout=60)
    inspector = Inspector(known)
    inspector.look(image, promises, where)
    pipe.send(inspector.found)


class Inspector:
    """Looks at what is mounted.

    Args:
        known: what there may be.
    """

    def __init__(self, known: Known) -> None:
        self.found = self._found = Found()
        self._trust = TrustStore.from_files([known.key])
        self._digests = known.digests

    def look(self, image: Image, promises: Promises, where: str) -> None:
        """Check it."""
        site, found = Site(image.home), self.found
        files = site.config.read_bytes()
        if image.is_broken or promises.is_partial:
            site.config.write_text(BROKEN)
        self._check_files(image.home, promises, where)
        try:
            asyncio.run(asyncio.wait_for(self._boot(site, promises, where), 60))
        except (EdgedError, OSError, AssertionError, asyncio.TimeoutError) as exc:
            found.mixed.append(f"{where}: it does not boot: {exc!r}")
            return
        self._check_store(site, where)
        if image.is_whole:
            site.config.write_bytes(files)
            self._start_whole(image.home, promises, where)

    def _start_whole(self, home: Path, promises: Promises, where: str) -> None:
        """A daemon of its own, on the files as they were."""
        daemon, found = DaemonProcess(home), self.found
        for name in ("edged.sock", "admin.sock"):
            (home / name).unlink(missing_ok=True)
        begun = time.monotonic()
        try:
            daemon.start(wait=False)
            wait_for(daemon.is_up, 120)
            found.slowest_s = time.monotonic() - begun
            found.whole = 1
            serving = {one["name"]: one["serving"] for one in daemon.status()["models"]}
            pair = (serving["m"], serving["k"])
            self._check_extra(serving.get("d", 0), promises, f"{where}: a whole daemon")
            if not promises.is_partial and pair not in {promises.pair, *promises.targets}:
                found.mixed.append(f"{where}: a whole daemon serves {pair}")
        except AssertionError as exc:
            found.problems.append(f"{where}: {exc}")
        finally:
            daemon.stop()

    def _check_files(self, home: Path, promises: Promises, where: str) -> None:
        """What needs no daemon: floors, the number of the generation, installed files, rollouts."""
        found, floors = self._found, Floors(home / "state").all()
        for model, least in promises.floors.items():
            if floors.get(model, 0) < least:
                found.lost.append(f"{where}: floor of {model} is {floors.get(model)}, not {least}")
        found.floors = dict(floors)
        noted = home / "state/generation.json"
        try:
            number = int(json.loads(noted.read_bytes())["generation"])
        except (OSError, ValueError):
            number = 0
        if number < promises.generation:
            found.lost.append(f"{where}: generation {number}, not {promises.generation}")
        for name in promises.installed:
            try:
                with open_bundle(home / name) as bundle:
                    for member in bundle.manifest.members:
                        for _ in bundle.stream(member):
                            pass
            except (EdgedError, OSError) as exc:
                found.lost.append(f"{where}: {name} was installed: {exc}")
        self._check_documents(home / "state" / FOLDER, promises, where)
        if promises.canary is not None:
            release, phase = promises.canary
            try:
                told = json.loads((home / "state/rollouts/r.json").read_bytes())
            except (OSError, ValueError):
                told = {"before": [], "now": {"canary": 0, "phase": "unknown"}}
            ended = {one["canary"]: one["phase"] for one in [*told["before"], told["now"]]}
            if ended.get(release) != phase:
                found.lost.append(f"{where}: rollout of {release} was {phase}: {ended}")

    def _check_documents(self, folder: Path, promises: Promises, where: str) -> None:
        """A version that was decided upon is used for ever, and the one in effect is there."""
        try:
            state = read_state(folder)
        except ValueError as exc:
            self._found.mixed.append(f"{where}: {exc}")
            return
        if state.seen < promises.version:
            self._found.lost.append(f"{where}: document {promises.version} is new again: {state}")
        document = read_document(folder, state.current) if state.current else None
        if state.current and (document is None or b"bundles/d-" not in document.data):
            self._found.lost.append(
                f"{where}: document {state.current} is in effect, and not there"
            )

    def _check_extra(self, extra: int, promises: Promises, where: str) -> None:
        if extra != promises.extra and extra not in promises.extras:
            told = f"{promises.extra} or {sorted(promises.extras)}"
            kind = self._found.mixed if promises.extras else self._found.lost
            kind.append(f"{where}: d serves {extra}, not {told}")

    async def _boot(self, site: Site, promises: Promises, where: str) -> None:
        found = self._found
        load_for_boot(site.config, site.state)  # says what is wrong before anything is opened
        async with booted(site) as box:
            routes = box.dataplane.table.routes
            pair = (self._serving(box, "m", where), self._serving(box, "k", where))
            if pair == promises.pair:
                found.before += 1
            elif pair in promises.targets:
                found.after += 1
            elif not promises.targets:
                found.lost.append(f"{where}: {pair} serves, {promises.pair} was acknowledged")
            else:
                told = f"{pair} serves, of {promises.pair} and {sorted(promises.targets)}"
                found.mixed.append(f"{where}: {told}")
            extra = self._serving(box, "d", where)
            self._check_extra(extra, promises, where)
            for model, release in zip(("m", "k", "d"), (*pair, extra), strict=True):
                if release and await box.factor(model) != release + 1:
                    found.mixed.append(f"{where}: {model} answers as another release")
            if box.repository.digests() and not routes:
                found.mixed.append(f"{where}: no model is there")

    def _serving(self, box: Box, model: str, where: str) -> int:
        route = box.dataplane.table.routes.get(model)
        release = route.default_release() if route is not None else None
        if release is None:
            return 0
        key: Any = getattr(release, "key", None)
        if key is None or self._digests.get((model, release.number)) != key.digest:
            self._found.unverified.append(f"{where}: {model} serves what nobody signed")
        return release.number

    def _check_store(self, site: Site, where: str) -> None:
        """Every release of the store is whole and signed; nothing half is left beside it."""
        found = self._found
        repository = site.repository()
        try:
            for digest in repository.digests():
                stored = repository.release(digest)
                stored.verify(self._trust)
                for member in stored.manifest.members:
                    stored.read_member(member.name)
        except EdgedError as exc:
            found.unverified.append(f"{where}: {exc.message}")
        finally:
            repository.close()
        kept = repository_names(site.state)
        for entry in History(site.state / "history").entries():
            for digests in entry.releases.values():
                if not kept.issuperset(digests):
                    found.lost.append(f"{where}: generation {entry.generation} has no bundles")
        left = [*(site.state / "staging").iterdir(), *site.state.glob("history/.new-*")]
        if left:
            found.problems.append(f"{where}: left behind: {left[0].name}")


def repository_names(state: Path) -> set[str]:
    """What the store has, by name."""
    return {path.name for path in (state / "store").iterdir()}


def copy_of(image: Path, copy: Path) -> Path:
    """A copy of an image as it is at one moment: what was written meanwhile would be seen."""
    for _ in range(20):
        before = image.stat().st_mtime_ns
        shutil.copyfile(image, copy)
        if image.stat().st_mtime_ns == before:
            break
    return copy
