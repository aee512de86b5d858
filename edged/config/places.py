"""Which names in which directories a configuration hangs on, links included; and what is there now.

Decides where to look and what a state of the files looks like as one hash. Never waits and never
parses. A file reached through symlinks depends on every link on the way (Kubernetes swaps the link
``..data``, not the file), so each of them is a place.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edged.config.source import DROP_IN_DIRECTORY, MAX_FILE_BYTES, list_files

_MAX_LINKS = 40
"""As the kernel: more links than this on one path are a loop."""
DROP_INS = "*.yaml"


@dataclass(slots=True)
class Place:
    """Names that matter in one directory.

    Args:
        names: exact ones.
        patterns: shell patterns; they never match hidden names.
    """

    names: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)

    def matters(self, name: str) -> bool:
        """Whether an event on ``name`` may change the configuration."""
        if name in self.names:
            return True
        return not name.startswith(".") and any(
            fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns
        )


def find_places(main: Path) -> dict[Path, Place]:
    """The directories to watch and the names that matter in each; directories may be missing.

    Args:
        main: the main file, absolute.
    """
    places: dict[Path, Place] = {}
    drop_ins = main.parent / DROP_IN_DIRECTORY
    _add(places, main.parent)
    _add(places, drop_ins)
    places.setdefault(Path(os.path.realpath(drop_ins)), Place()).patterns.add(DROP_INS)
    for name in _listed(main):
        _add(places, main.parent / name)
    return places


def find_followed(paths: Iterable[Path]) -> dict[Path, Place]:
    """Likewise for other files.

    Args:
        paths: absolute; the last part may be a shell pattern. Where an earlier part is one, only
            the poll sees changes.
    """
    places: dict[Path, Place] = {}
    for path in paths:
        if glob.has_magic(str(path.parent)):
            continue
        _add(places, path.parent)
        if glob.has_magic(path.name):
            real = Path(os.path.realpath(path.parent))
            places.setdefault(real, Place()).patterns.add(path.name)
        else:
            _add(places, path)
    return places


def _add(places: dict[Path, Place], path: Path) -> None:
    for directory, name in trace(path):
        places.setdefault(directory, Place()).names.add(name)


def trace(path: Path) -> Iterator[tuple[Path, str]]:
    """What ``path`` hangs on, as (real directory, name): links, the last part, a missing part.

    Args:
        path: absolute; may be missing or a loop.
    """
    current = Path("/")
    parts = [part for part in reversed(path.parts) if part != "/"]
    links = 0
    while parts:
        part = parts.pop()
        if part == "..":
            current = current.parent
            continue
        here = current / part
        try:
            target = here.readlink()
        except OSError:  # not a link, or not there
            target = None
        if target is None or links >= _MAX_LINKS:
            if not parts or not here.is_dir():
                yield current, part
                return
            current = here
            continue
        links += 1
        yield current, part
        if target.is_absolute():
            current = Path("/")
        parts += [item for item in reversed(target.parts) if item != "/"]


def fingerprint(main: Path) -> str:
    """One hash for the state of the configuration: names, owners, modes and content.

    Content, because a writer may restore the time, and because coarse clocks give two saves the
    same one.

    Raises:
        Nothing: what cannot be read is part of the state.
    """
    digest = hashlib.sha256()
    for directory in (main.parent, main.parent / DROP_IN_DIRECTORY):
        digest.update(_status(directory).encode())
    for name in _listed(main):
        digest.update(os.fsencode(name) + b"\0")
        digest.update(_content(main.parent / name))
    return digest.hexdigest()


def fingerprint_followed(paths: Iterable[Path]) -> str:
    """One hash for followed files, by inode, size and times: they are too large to be read often.

    Raises:
        Nothing, as above.
    """
    digest = hashlib.sha256()
    for path in paths:
        has_magic = glob.has_magic(str(path))
        matches = glob.glob(str(path)) if has_magic else [str(path)]  # noqa: PTH207 - absolute
        for match in sorted(matches):
            digest.update(os.fsencode(match) + b"\0" + _stamp(match).encode())
    return digest.hexdigest()


def _listed(main: Path) -> list[str]:
    try:
        return list_files(main)
    except OSError:
        return [main.name]


def _status(path: Path) -> str:
    try:
        info = path.stat()
    except OSError as exc:
        return f"e{exc.errno};"
    return f"{info.st_mode}:{info.st_uid};"


def _stamp(path: str) -> str:
    try:
        info = os.stat(path)  # noqa: PTH116 - a str is at hand
    except OSError as exc:
        return f"e{exc.errno};"
    # The time of change too: nobody can set that one, not even to 1970.
    return f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns};"


def _content(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as exc:
        return b"e%d;" % (exc.errno or 0)
    try:
        info = os.fstat(descriptor)
        digest.update(f"{info.st_mode}:{info.st_uid};".encode())
        if stat.S_ISREG(info.st_mode):
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                digest.update(file.read(MAX_FILE_BYTES + 1))
    except OSError as exc:
        digest.update(b"e%d;" % (exc.errno or 0))
    finally:
        os.close(descriptor)
    return digest.digest()
