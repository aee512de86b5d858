"""``edged bundle install``: a bundle is verified, then put where the configuration looks for it.

Decides whether a file may join a model's bundles. It is copied beside them first, under a name that
no pattern takes; the copy is what is verified, and the copy gets the name: so a bundle is there
wholly and verified, or not at all, whenever this ends. What serves is the configuration's word.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from edged.config.load import Snapshot
from edged.errors import ApplyError, BundleError, ConfigError, EdgedError, IncompatibleError
from edged.faults import fault
from edged.generation.record import find_state_dir, load_in_effect
from edged.generation.trusted import check_not_expired, load_trust, load_trusted
from edged.incoming.quota import check_quota
from edged.manifest import Manifest
from edged.specs import size_words
from edged.store.bundle import Bundle, bundle_digest, check_model, open_bundle, read_manifest
from edged.store.floors import Floors
from edged.store.head import Head
from edged.store.signing import parse_signatures
from edged.store.targets import check_requires, check_targets, device_words
from edged.store.trust_state import LostTrust
from edged.store.trust_store import TrustStore

_TEMPORARY = ".install-"
_CHUNK_BYTES = 1 << 20
_LOCK_S, _LOCK_POLL_S = 60.0, 0.05
_RESERVE = 1.2
"""Room asked for beyond the file itself: a full disk stops more than an update."""


class NoPlaceError(IncompatibleError):
    """The device cannot take it now; the bundle is none the worse for it."""


def install(
    config: Path,
    file: Path,
    *,
    older: bool = False,
    leap: bool = False,
    state_dir: Path | None = None,
) -> str:
    """Install a bundle; returns what was done, for people.

    Args:
        config: edged.yaml or its directory.
        file: the bundle.
        older: also where a newer release of the model is there already.
        leap: also one that is further above it than ``trust.max_leap``.
        state_dir: of the device; default: as the configuration or the service manager says.

    Raises:
        NoPlaceError: it cannot be written.
        EdgedError: it is not trusted, not whole, not for this device, or nobody asks for it.
    """
    state = state_dir or find_state_dir(config)
    snapshot = load_in_effect(config, state)
    data, manifest, signatures = read_manifest(file)
    # From the original, so that nothing is written of what nobody signed.
    head = Head(data, manifest, signatures)
    trust, target = admit(state, snapshot, head, older=older, leap=leap)
    with _alone(target.parent):
        is_there = target.exists()
        if is_there:
            _check_there(target, bundle_digest(data))
            if not _is_better_signed(trust, target, signatures):
                return f"{target} is there already"
        temporary = _copy(file, target.parent)
        try:
            fault("install.copied")
            with open_bundle(temporary) as bundle:
                _verify(bundle, trust, bundle_digest(data))
            fault("install.verified")
            _name(temporary, target, over=is_there)
            fault("install.named")
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    said = "" if trust.required else "; NOT CHECKED WHO SIGNED IT (trust.require_signatures)"
    said += ", signed by others than before" if is_there else ""
    return f"{target}: release {manifest.release} of {manifest.name}{said}"


def admit(
    state_dir: Path, snapshot: Snapshot, head: Head, *, older: bool, leap: bool = False
) -> tuple[TrustStore, Path]:
    """All that its first bytes say against a bundle; also asked before the rest is fetched.

    Returns:
        Whom we trust, and the name that it would get.

    Raises:
        EdgedError: it is not trusted, not for this device, older, or nobody asks for it.
    """
    trust = load_trust(snapshot, state_dir)
    if isinstance(trust, LostTrust) and trust.required:
        raise ApplyError(trust.lost)  # no fault of the bundle: an inbox keeps it
    trust.verify(head.data, head.signatures)
    check_requires(head.manifest)
    check_targets(head.manifest, device_words(snapshot.config.labels))
    floors = Floors(state_dir)
    floors.check(head.manifest, bundle_digest(head.data))
    check_quota(state_dir, snapshot, head.manifest)
    target = _target(snapshot, head.manifest)
    is_there = target.exists()
    if not is_there:
        check_not_expired(load_trusted(snapshot, state_dir))
    newest = _check_others(snapshot, head.manifest, bundle_digest(head.data), older=older)
    if not leap:
        known = max(newest, floors.all().get(head.manifest.name, 0))
        check_leap(head.manifest, known, snapshot.config.trust.max_leap)
    if is_there:
        _check_there(target, bundle_digest(head.data))
    return trust, target


def _target(snapshot: Snapshot, manifest: Manifest) -> Path:
    """The name under which the model's patterns take it."""
    name, models = manifest.name, snapshot.config.models
    if name not in models:
        known = ", ".join(sorted(models)) or "none"
        raise ConfigError(f'no model "{name}" is configured; the models are: {known}')
    for pattern in models[name].bundles:
        folder, _, last = str(snapshot.resolve(pattern)).rpartition("/")
        for shown in (f"{name}-{manifest.release}.edgb", f"{name}.edgb"):
            if fnmatch.fnmatchcase(shown, last) and not any(sign in folder for sign in "*?["):
                return Path(folder) / shown
    shown = ", ".join(models[name].bundles)
    raise ConfigError(
        f'{name}-{manifest.release}.edgb is no file that models.{name}.bundle takes ("{shown}"); '
        f"write a pattern, such as bundles/{name}-*.edgb"
    )


def _check_there(target: Path, digest: str) -> None:
    """Refuse a name that something else has: it is never replaced, and nobody may believe it was.

    Raises:
        NoPlaceError: it has.
    """
    try:
        data, manifest, _ = read_manifest(target)
        what = f"release {manifest.release} of {manifest.name}"
        is_same = bundle_digest(data) == digest
    except EdgedError as exc:
        what, is_same = f"no whole bundle ({exc.message})", False
    if not is_same:
        raise NoPlaceError(
            f"{target} is there and holds {what}; no file is ever replaced: remove it, or write a "
            "pattern for `bundle` that takes NAME-RELEASE.edgb"
        )


def check_leap(manifest: Manifest, known: int, most: int) -> None:
    """Refuse a number that can only be a mistake: no number after it would be higher.

    Numbers that are dates or seconds go far with each release, and never to twice what they were.

    Args:
        manifest: of the bundle.
        known: the newest release, or the floor, of its model here; 0 for none.
        most: ``trust.max_leap``.

    Raises:
        IncompatibleError: it is too far above.
    """
    if known and most and manifest.release > known + max(most, known):
        raise IncompatibleError(
            f"release {manifest.release} of {manifest.name} is far above release {known}, the "
            f"newest here: no later one could follow a number that is a mistake (trust.max_leap, "
            f"{most}); where it is none: edged bundle install --leap"
        )


def _is_better_signed(trust: TrustStore, target: Path, signatures: bytes | None) -> bool:
    """Whether of the same contents the one there is not trusted any more, or signed by fewer."""
    try:
        data, _, old = read_manifest(target)
        trust.verify(data, old)
        return _signers(old) < _signers(signatures)
    except EdgedError:
        return True


def _signers(signatures: bytes | None) -> set[str]:
    return set() if signatures is None else {name for name, _ in parse_signatures(signatures)}


def _check_others(snapshot: Snapshot, manifest: Manifest, digest: str, *, older: bool) -> int:
    """Refuse a number that stands for other contents, and a step back that nobody asked for.

    Returns:
        The newest release that is there; 0 for none.
    """
    newest = 0
    for path in snapshot.bundle_paths(manifest.name):
        try:
            data, other, _ = read_manifest(path)
        except EdgedError:
            continue  # edged check says what is wrong with it
        if other.release == manifest.release and bundle_digest(data) != digest:
            raise BundleError(
                f"release {manifest.release} of {manifest.name} is there with other contents "
                f"({path.name}); a release number is never used twice"
            )
        newest = max(newest, other.release)
    if manifest.release < newest and not older:
        raise IncompatibleError(
            f"release {manifest.release} of {manifest.name} is older than release {newest}, which "
            "is there; to install it all the same: edged bundle install --older"
        )
    return newest


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One installation at a time, by hand, inbox or source; what a killed one left is removed."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        way = f"; make it: mkdir -p {folder}" if isinstance(exc, FileNotFoundError) else ""
        raise NoPlaceError(f"cannot write to {folder}: {exc.strerror}{way}") from exc
    try:
        with contextlib.suppress(OSError):  # a network's folder may know no locks
            _lock(fd, folder)
            for old in folder.glob(f"{_TEMPORARY}*"):
                old.unlink()
        yield
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path) -> None:
    """Not waited for without end: whoever may read a folder may lock it, and say nothing."""
    limit = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise NoPlaceError(
                    f"something else is being installed into {folder} for {_LOCK_S:g} s, or "
                    "somebody holds its lock (lsof says who); try again later"
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _copy(file: Path, folder: Path) -> Path:
    """A synced copy in the folder, under a name that no pattern takes."""
    temporary = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        with _made(temporary) as copy, file.open("rb") as source:
            size, disk = os.fstat(source.fileno()).st_size, os.statvfs(folder)
            free = disk.f_bavail * disk.f_frsize
            if free < size * _RESERVE:
                raise NoPlaceError(
                    f"{folder} has {size_words(free)} free; this bundle needs "
                    f"{size_words(int(size * _RESERVE))}; make room, then try again"
                )
            left = size  # a file that grows meanwhile is not read for ever
            while left and (chunk := source.read(min(left, _CHUNK_BYTES))):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(copy, view) :]
                left -= len(chunk)
            os.fsync(copy)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise NoPlaceError(f"cannot write to {folder}: {exc.strerror}") from exc
    except EdgedError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextlib.contextmanager
def _made(path: Path) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    os.fchmod(fd, 0o644)  # the daemon is another user than whoever installs, and nothing is secret
    try:
        yield fd
    finally:
        os.close(fd)


def _verify(bundle: Bundle, trust: TrustStore, digest: str) -> None:
    """Everything that can be said without a runtime; the daemon has its golden samples answered."""
    if bundle.digest != digest:
        raise BundleError("the file was changed while it was copied; try again")
    trust.verify(bundle.manifest_bytes, bundle.signatures)
    for member in bundle.manifest.members:
        if member.type == "onnx":
            check_model(member, b"".join(bundle.stream(member)), bundle.manifest)
        else:
            for _ in bundle.stream(member):
                pass


def _name(temporary: Path, target: Path, *, over: bool) -> None:
    """Give the copy its name, in one step; over nothing but the same contents, signed anew."""
    try:
        (os.replace if over else os.link)(temporary, target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise NoPlaceError(f"cannot write {target}: {exc.strerror}") from exc
