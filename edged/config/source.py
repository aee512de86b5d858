"""Which files a configuration is made of, and whether their owner and mode can be trusted.

Decides what is read and refuses what others could have written. Never looks into the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edged.config.problems import ConfigProblemsError, Mark, Problem, problem_at
from edged.system.breath import breathe

if TYPE_CHECKING:
    from edged.config.schema import TrustConfig

MAX_FILE_BYTES = 1 << 20
"""A hand-written file of 1 MiB has some 30,000 lines; beyond that it is a mistake or an attack."""
MAX_TOTAL_BYTES = 8 << 20
MAX_FILES = 256

MAIN_NAME = "edged.yaml"
DROP_IN_DIRECTORY = "conf.d"

_ATTEMPTS = 5
"""A directory swapped while it is read is read again; one swapped for ever is refused."""


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a configuration, all read from one state of the directory.

    Args:
        root: absolute directory of the main file; relative paths start here.
        files: name relative to root -> bytes; the main file first, then conf.d in name order.
        trust: whom it trusts, in the place of what the files say (``Snapshot.narrowed``).
    """

    root: Path
    files: dict[str, bytes]
    trust: TrustConfig | None = None


class _ChangedError(Exception):
    """The directory was not the same before and after it was read."""


def main_file(path: Path) -> Path:
    """The main file, absolute, symlinks kept: ``path`` itself, or edged.yaml in that directory.

    A path that does not exist is taken for a file when it ends in .yaml or .yml.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the ..data link
    is_named = absolute.suffix in (".yaml", ".yml")
    is_file = not absolute.is_dir() and (is_named or absolute.exists())
    return absolute if is_file else absolute / MAIN_NAME


def is_drop_in(name: str) -> bool:
    """True for names in conf.d that are read; hidden files (editors' swap files) are not."""
    return name.endswith(".yaml") and not name.startswith(".")


def list_files(main: Path) -> list[str]:
    """Names of the files that make up the configuration, relative to the main file's directory.

    Raises:
        OSError: conf.d is there but cannot be listed.
    """
    try:
        found = sorted(entry.name for entry in (main.parent / DROP_IN_DIRECTORY).iterdir())
    except FileNotFoundError:
        found = []
    return [
        main.name,
        *(f"{DROP_IN_DIRECTORY}/{name}" for name in sorted(found) if is_drop_in(name)),
    ]


def read_source(path: Path) -> Source:
    """Read the main file and conf.d as they are at one moment.

    Raises:
        ConfigProblemsError: a file is missing, unreadable, too large, not a regular file, or could
            have been written by somebody else.
    """
    main = main_file(path)
    for _ in range(_ATTEMPTS):
        try:
            return _read_once(main)
        except _ChangedError:
            continue
    message = f"kept changing while it was read ({_ATTEMPTS} attempts); save it once and wait"
    raise ConfigProblemsError([problem_at(Mark(str(main.parent)), "", message)])


def _read_once(main: Path) -> Source:
    problems = list(_directory_problems(main))
    breathe()
    before = _fingerprint(main)
    files: dict[str, bytes] = {}
    total = 0
    for name in _names(main, problems):
        breathe()
        data = _read_file(main.parent / name, problems)
        if data is not None:
            files[name] = data
            total += len(data)
    if total > MAX_TOTAL_BYTES:
        text = f"has {total} bytes of configuration; at most {MAX_TOTAL_BYTES} are read"
        problems.append(problem_at(Mark(str(main.parent)), "", text))
    breathe()
    if _fingerprint(main) != before:
        raise _ChangedError
    if problems:
        raise ConfigProblemsError(problems)
    return Source(main.parent, files)


def _names(main: Path, problems: list[Problem]) -> list[str]:
    directory = main.parent / DROP_IN_DIRECTORY
    try:
        names = list_files(main)
        if directory.is_dir():
            for entry in sorted(directory.iterdir()):
                if entry.suffix == ".yml" and not entry.name.startswith("."):
                    text = "is not read because of its ending; rename it to .yaml or remove it"
                    problems.append(problem_at(Mark(str(entry)), "", text))
    except OSError as exc:
        text = f"cannot be listed: {exc.strerror}; it must be a directory readable by this user"
        problems.append(problem_at(Mark(str(directory)), "", text))
        return [main.name]
    # No copy's index could name it: neither a file of conf.d nor where all of them lie.
    if not _is_text(str(main)):
        text = "has a path that is not UTF-8; rename or move it"
        problems.append(problem_at(Mark(str(main)), "", text))
    for name in names[1:]:
        if not _is_text(name):
            text = "has a name that is not UTF-8; rename it"
            problems.append(problem_at(Mark(str(main.parent / name)), "", text))
    if len(names) > MAX_FILES:
        text = f"holds {len(names) - 1} files; at most {MAX_FILES - 1} are read"
        problems.append(problem_at(Mark(str(directory)), "", text))
    return names[:MAX_FILES]


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _fingerprint(main: Path) -> list[tuple[str, int, int, int, int, int]]:
    try:
        names = list_files(main)
    except OSError:
        names = [main.name]
    seen: list[tuple[str, int, int, int, int, int]] = []
    for name in names:
        try:
            info = (main.parent / name).stat()
        except OSError:
            seen.append((name, 0, 0, 0, 0, 0))
        else:
            times = (info.st_mtime_ns, info.st_ctime_ns)
            seen.append((name, info.st_dev, info.st_ino, *times, info.st_size))
    return seen


def _read_file(path: Path, problems: list[Problem]) -> bytes | None:
    """The bytes of one regular file, opened once and judged by its descriptor."""
    mark = Mark(str(path))
    try:
        # O_NONBLOCK: opening a FIFO must not hang; regular files ignore it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as exc:
        hint = _near(path) if exc.errno == errno.ENOENT else ""
        problems.append(problem_at(mark, "", f"cannot be read: {exc.strerror}{hint}"))
        return None
    try:
        info = os.fstat(descriptor)
        reason = "is not a regular file"
        if stat.S_ISDIR(info.st_mode):
            reason = "is a folder, where a file is expected"
        elif stat.S_ISREG(info.st_mode):
            reason = distrust(info, read_only=_is_read_only(descriptor)) or ""
        data = b"" if reason else _read_all(descriptor)
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}"
    finally:
        os.close(descriptor)
    if reason:
        problems.append(problem_at(mark, "", reason))
        return None
    if len(data) > MAX_FILE_BYTES:
        problems.append(problem_at(mark, "", f"is larger than {MAX_FILE_BYTES} bytes (1 MiB)"))
        return None
    return data


def _near(path: Path) -> str:
    """What is there in the place of a file that is not; a folder that is not there says that."""
    try:
        names = sorted(one.name for one in path.parent.iterdir() if one.is_file())
    except FileNotFoundError:
        return f"; there is no folder {path.parent} either"
    except OSError:
        return ""
    if path.with_suffix(".yml").name in names:
        return f"; {path.stem}.yml is there: rename it"
    found = [name for name in names if is_drop_in(name)]
    return f"; the folder has: {', '.join(found[:3])}" if found else ""


def _read_all(descriptor: int) -> bytes:
    """At most one byte more than a file may have."""
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(MAX_FILE_BYTES + 1)


def _directory_problems(main: Path) -> Iterator[Problem]:
    """Directories in which somebody else could put or replace a file of ours."""
    drop_ins = main.parent / DROP_IN_DIRECTORY
    candidates = [main.parent, drop_ins, Path(os.path.realpath(main)).parent]
    with contextlib.suppress(OSError):
        paths = (main.parent / name for name in list_files(main))
        candidates += [Path(os.path.realpath(path)).parent for path in paths]
    for directory in dict.fromkeys(Path(os.path.realpath(path)) for path in candidates):
        try:
            info = directory.stat()
            read_only = bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
        except OSError:
            continue  # missing conf.d is fine, a missing root shows when its file is opened
        reason = distrust(info, read_only=read_only)
        if reason:
            yield problem_at(Mark(str(directory)), "", reason)


def distrust(info: os.stat_result, *, read_only: bool, user: int | None = None) -> str | None:
    """Why a file or directory is not trusted, with what to do; None when it is.

    Args:
        info: its status.
        read_only: on a read-only mount the mode lets nobody write; Kubernetes mounts its config
            volumes read-only with mode 0777.
        user: whose files are trusted beside root's; default: the effective user.
    """
    me = os.geteuid() if user is None else user
    if info.st_mode & stat.S_IWOTH and not read_only:
        return (
            f"can be written by every user (mode {stat.S_IMODE(info.st_mode):04o}), "
            "so its content is not trusted; run: chmod o-w on it"
        )
    if info.st_uid not in (0, me):
        return (
            f"belongs to user id {info.st_uid}; only files of root and of user id {me} (this "
            "process) are trusted; run: chown root on it"
        )
    return None


def _is_read_only(descriptor: int) -> bool:
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
