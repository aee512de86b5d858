"""A configuration as it was at one moment: values, places, bytes and the directory it came from.

Decides how paths in it resolve and what its digest covers. Never parses; never opens a bundle.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from msgspec import structs

from edged.config.access_check import name_problems
from edged.config.binding import BindingConfig
from edged.config.broker_lines import files_of_brokers
from edged.config.problems import Mark, Problem, field_path, parent_path, problem_at
from edged.config.schema import Config, TrustConfig
from edged.config.sources import source_files
from edged.config.tls_files import TLS_FILES, tls_file_problems, tls_sections, tls_warnings
from edged.system.breath import breathe

_MAX_MATCHES = 1000
"""A glob that names more bundles than this was meant for something else."""


_has_magic = functools.lru_cache(4096)(glob.has_magic)


@functools.lru_cache(4096)
def _resolved(root: Path, path: str) -> Path:
    """Of hundreds of models, asked for again and again, and the same after each change."""
    return Path(os.path.normpath(root / path))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a generation of before was, beside its files.

    Args:
        generation: its number.
        digest: of its content (``candidate.content_digest``).
        releases: by model, the digests of its bundles in the store.
    """

    generation: int
    digest: str
    releases: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A loaded, checked configuration.

    Args:
        config: the values.
        root: absolute directory that relative paths start from (that of edged.yaml).
        files: name relative to root -> bytes, in the order read.
        marks: field path -> place, for every field that was written.
        environment: each variable that a value used, with what it said.
        kept: of a generation that comes back; its bundles are those in the store.
        narrowed: whom it trusts, where it came back and keys of its files were revoked since.
        left_out: why the document that came over MQTT is not part of it, where it should be.
    """

    config: Config
    root: Path
    files: Mapping[str, bytes]
    marks: Mapping[str, Mark] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)
    kept: Kept | None = None
    narrowed: TrustConfig | None = None
    left_out: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 (hex) over the name and bytes of every file."""
        digest = hashlib.sha256(b"edged-config-v1\0")
        for name, data in self.files.items():
            encoded = os.fsencode(name)
            digest.update(b"%d:%b%d:" % (len(encoded), encoded, len(data)))
            digest.update(data)
        for name, value in sorted(self.environment.items()):
            said = os.fsencode(value)
            digest.update(b"$%b:%d:%b" % (name.encode(), len(said), said))
        return digest.hexdigest()

    def resolve(self, path: str) -> Path:
        """A path from the configuration, absolute; relative ones start at ``root``."""
        return _resolved(self.root, path)

    def with_absolute_socket(self) -> Snapshot:
        """The same with the sockets' paths resolved: they are compared and bound, not opened."""
        listen = self.config.listen
        path = str(self.resolve(listen.socket.path))
        listen = structs.replace(listen, socket=structs.replace(listen.socket, path=path))
        if listen.admin is not None:
            path = str(self.resolve(listen.admin.path))
            listen = structs.replace(listen, admin=structs.replace(listen.admin, path=path))
        if listen.metrics is not None and listen.metrics.path is not None:
            path = str(self.resolve(listen.metrics.path))
            listen = structs.replace(listen, metrics=structs.replace(listen.metrics, path=path))
        if listen.http is not None and listen.http.path is not None:
            path = str(self.resolve(listen.http.path))
            listen = structs.replace(listen, http=structs.replace(listen.http, path=path))
        if listen.grpc is not None and listen.grpc.path is not None:
            path = str(self.resolve(listen.grpc.path))
            listen = structs.replace(listen, grpc=structs.replace(listen.grpc, path=path))
        for place, tls in tls_sections(listen):
            paths = {name: str(self.resolve(getattr(tls, name))) for name in TLS_FILES}
            web = structs.replace(getattr(listen, place), tls=structs.replace(tls, **paths))
            listen = structs.replace(listen, **{place: web})
        config = structs.replace(self.config, listen=listen, bindings=self._with_absolute_schemas())
        return replace(self, config=config)

    def _with_absolute_schemas(self) -> tuple[BindingConfig, ...]:
        """Bindings read their descriptors where no root is known."""
        found = []
        for binding in self.config.bindings:
            schema = binding.schema
            if schema is not None:
                path = str(self.resolve(schema.descriptors))
                schema = structs.replace(schema, descriptors=path)
            found.append(structs.replace(binding, schema=schema))
        return tuple(found)

    def bundle_paths(self, model: str) -> tuple[Path, ...]:
        """The bundle files of a model, sorted; a plain path is there even if the file is not.

        Raises:
            KeyError: no such model.
        """
        patterns = self.config.models[model].bundles
        if len(patterns) == 1:  # as nearly always, and of hundreds
            return tuple(self._matches(patterns[0]))
        found: set[Path] = set()
        for pattern in patterns:
            found.update(self._matches(pattern))
        return tuple(sorted(found))

    def bundle_folders(self) -> set[Path]:
        """Where the models' bundles lie, or would."""
        named: set[str] = set()
        for model in self.config.models.values():
            breathe()
            named.update(map(os.path.dirname, model.bundles))
        return {self.resolve(one) for one in named}

    def _matches(self, pattern: str) -> list[Path]:
        if not _has_magic(pattern):
            return [self.resolve(pattern)]
        # The root may itself have brackets in its name; only the operator's part is a pattern.
        start = "" if os.path.isabs(pattern) else str(self.root)  # noqa: PTH117
        names = glob.glob(pattern, root_dir=start or None)  # noqa: PTH207 - root_dir is the point
        paths = (Path(os.path.normpath(os.path.join(start, name))) for name in names)  # noqa: PTH118
        found = (path for path in paths if os.path.isfile(path))  # noqa: PTH113 - raises nothing
        return sorted(found)[:_MAX_MATCHES]

    def mark(self, path: str) -> Mark:
        """Where a field was written; for one that was not, the nearest one around it."""
        while path and path not in self.marks:
            path = parent_path(path)
        if path in self.marks:
            return self.marks[path]
        return Mark(str(self.root / next(iter(self.files), "")))

    def problem(self, path: str, message: str) -> Problem:
        """A problem with a field, at its place."""
        return problem_at(self.mark(path), path, message)


def full_digest(snapshot: Snapshot, fingerprint: Callable[[Path], str]) -> str:
    """The digest of the files and of every bundle they name.

    Args:
        snapshot: the configuration.
        fingerprint: answers for one bundle, e.g. its size and the sha256 of its manifest; what it
            raises as OSError counts as "not readable".
    """
    digest = hashlib.sha256(snapshot.digest.encode())
    for model in sorted(snapshot.config.models):
        for path in snapshot.bundle_paths(model):
            breathe()
            try:
                said = fingerprint(path)
            except OSError:
                said = "unreadable"
            digest.update(f"\0{model}\0{path}\0{said}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def check_files(
    snapshot: Snapshot, is_known: Callable[[Path], bool] = lambda _: False
) -> list[Problem]:
    """Look whether the files that the configuration names are there and readable.

    Separate from loading, because ``edged check`` also runs where the device's files are not.

    Args:
        snapshot: the configuration.
        is_known: whether a bundle's file was read before and is that file still.
    """
    names = [snapshot.problem(path, text) for path, text in name_problems(snapshot.config)]
    return [*_bundle_problems(snapshot, is_known), *_named_file_problems(snapshot), *names]


def expiry_warnings(snapshot: Snapshot, now: datetime) -> list[Problem]:
    """Certificates of our own that are out of date, or soon will be."""
    return [
        snapshot.problem(f"listen.{place}.tls.{name}", text)
        for place, tls in tls_sections(snapshot.config.listen)
        for name, text in tls_warnings(tls, now)
    ]


def _bundle_problems(snapshot: Snapshot, is_known: Callable[[Path], bool]) -> Iterator[Problem]:
    for name, model in snapshot.config.models.items():
        for index, pattern in enumerate(model.bundles):
            matches = snapshot._matches(pattern)  # noqa: SLF001 - same module
            if matches and all(map(is_known, matches)):  # as nearly always, and asked of hundreds
                breathe()
                continue
            base = field_path(field_path("models", name), "bundle")
            path = base if isinstance(model.bundle, str) else field_path(base, index)
            if not matches:
                full = snapshot.resolve(pattern)
                yield snapshot.problem(path, f"no file matches {full}{_what_is_there(full)}")
            for match in matches:
                breathe()
                if is_known(match):
                    continue
                if os.path.isdir(match):  # noqa: PTH112 - is_dir raises where we may not look
                    text = f"{match} is a folder; write {pattern}/{name}-*.edgb for what is in it"
                    yield snapshot.problem(path, text)
                else:
                    yield from _unreadable(snapshot, path, match)


def _what_is_there(pattern: Path) -> str:
    """Of a pattern that nothing matches: what lies in its folder, for who mistyped it."""
    if glob.has_magic(str(pattern.parent)):
        return ""
    try:
        found = sorted(one.name for one in pattern.parent.iterdir() if one.suffix == ".edgb")
    except FileNotFoundError:
        return "; there is no such folder"
    except (OSError, ValueError):
        return ""
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"; its folder has: {', '.join(found[:3])}{more}" if found else ""


def _named_file_problems(snapshot: Snapshot) -> Iterator[Problem]:
    config = snapshot.config
    for index, key in enumerate(config.trust.keys):
        yield from _unreadable(snapshot, f"trust.keys[{index}]", snapshot.resolve(key))
    if config.trust.root is not None:
        yield from _unreadable(snapshot, "trust.root", snapshot.resolve(config.trust.root))
    for place, own in tls_sections(config.listen):
        for name, text in tls_file_problems(own):
            yield snapshot.problem(f"listen.{place}.tls.{name}", text)
    for path, file in source_files(config.sources):
        yield from _unreadable(snapshot, path, snapshot.resolve(file))
    for path, file in files_of_brokers(config):
        yield from _unreadable(snapshot, path, snapshot.resolve(file))


def _unreadable(snapshot: Snapshot, path: str, file: Path) -> Iterator[Problem]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as exc:
        yield snapshot.problem(path, f"cannot read {file}: {exc.strerror}")
        return
    os.close(descriptor)
    if not file.is_file():
        what = "a folder, where a file is expected" if file.is_dir() else "not a regular file"
        yield snapshot.problem(path, f"{file} is {what}")
