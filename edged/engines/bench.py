"""Where engines are made: the folder, the files, the lock that one builder on the device holds.

Everything here blocks, and is called on a thread, or by ``edged build``. A build: the model goes
into a process of its own (``process.py``), what comes back is held against the golden samples, and
only then sealed and kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from edged.comparing import compare
from edged.engines.attempts import Attempts
from edged.engines.built import Built
from edged.engines.cache import EngineCache
from edged.engines.job import BuildJob
from edged.engines.process import BuildProcess
from edged.engines.seal import open_seal
from edged.engines.sources import Wish, job_for
from edged.engines.timings import keep_timings, read_timings
from edged.errors import BuildError, Code, EdgedError
from edged.runtimes.engine import Fingerprint, Host, differences
from edged.store.stored import Stored
from edged.tensors import Array

_LOCK = "building.lock"
_FOLDER = "build-"


class Process(Protocol):
    """What builds; ``BuildProcess`` is the real one."""

    @property
    def step(self) -> str:
        """What it is doing."""
        ...

    def pause(self) -> None:
        """Let it stand still."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self) -> None:
        """Until it has ended."""
        ...

    def result(self, precision: str) -> Built:
        """What it left."""
        ...

    def close(self) -> None:
        """Remove what it left."""
        ...


Start = Callable[[Path, BuildJob, bytes, Mapping[str, Array], bytes], Process]
"""Starts a build; see ``BuildProcess``."""


class Task(NamedTuple):
    """One build.

    Args:
        model: its name, for messages.
        stored: the release.
        wish: which of its files, and how.
    """

    model: str
    stored: Stored
    wish: Wish


class BusyBenchError(EdgedError):
    """Another process builds on this device."""

    code = Code.RESOURCE_EXHAUSTED


class EngineBench:
    """The place for builds in one state directory.

    Args:
        directory: of the engines.
        cache: where they are kept.
        start: starts the process that builds.
    """

    def __init__(self, directory: Path, cache: EngineCache, start: Start = BuildProcess) -> None:
        self._directory = directory
        self.cache = cache
        self.attempts = Attempts(directory)
        self._start = start

    def is_taken(self) -> bool:
        """Whether somebody builds here now."""
        try:
            with self.held():
                return False
        except BusyBenchError:
            return True
        except OSError:
            return False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who builds on this device.

        Raises:
            BusyBenchError: somebody else does.
            OSError: the folder cannot be written.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._directory / _LOCK, flags, 0o600)
        try:
            owner = self._directory.stat()
            if os.geteuid() == 0 and owner.st_uid:
                os.fchown(fd, owner.st_uid, owner.st_gid)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(fd)
            raise BusyBenchError("another process builds an engine on this device") from exc
        except BaseException:
            os.close(fd)
            raise
        try:
            yield
        finally:
            os.close(fd)

    def begin(self, task: Task, memory_bytes: int) -> Process:
        """Start a build; whoever calls holds the bench.

        Raises:
            EdgedError: the bundle has not what a build needs, or no process can be started.
            OSError: the folder cannot be written.
        """
        self._sweep()
        manifest, entry = task.stored.manifest, task.wish.entry
        golden = task.stored.golden(entry)
        if golden is None:
            raise BuildError("the bundle has no golden samples to hold an engine against")
        model = task.stored.read_member(entry.file)
        timing = read_timings(self._directory, open_seal(self._directory))
        folder = self._directory / f"{_FOLDER}{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        job = job_for(manifest, task.wish.source.options, memory_bytes)
        try:
            return self._start(folder, job, model, golden[0], timing)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def accept(self, task: Task, built: Built, host: Host) -> Fingerprint:
        """Hold an engine against the golden samples, and keep it.

        Raises:
            GoldenMismatchError: it does not give the promised answers.
            BuildError: it was built for another host than this device was when it was asked for.
            EdgedError, OSError: it cannot be kept.
        """
        manifest, entry = task.stored.manifest, task.wish.entry
        golden, promised = task.stored.golden(entry), manifest.golden_of(entry)
        if golden is None or promised is None:
            raise BuildError("the bundle has no golden samples to hold an engine against")
        compare(built.answers, golden[1], promised.tolerances, f'the engine of "{task.model}"')
        inside = built.engine.fingerprint
        if wrong := differences(inside.host, host):
            raise BuildError(f"the device changed during the build: {'; '.join(wrong)}")
        self.cache.keep(task.wish.source, built.engine, task.model)
        with contextlib.suppress(OSError):
            keep_timings(self._directory, open_seal(self._directory), built.timing_cache)
        return inside

    def _sweep(self) -> None:
        """Folders of builds that nobody is at any more: the bench is ours."""
        for path in self._directory.glob(f"{_FOLDER}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
