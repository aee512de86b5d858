"""``edged bundle pull``: a bundle is fetched from a source of the configuration, and installed.

Decides what is fetched at all; it lies in ``downloads`` until ``install`` takes it as it takes any
file. Nothing that install refuses is kept, and what was refused is not fetched again until the
source or the configuration changes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edged.commands.downloads import Download, Note
from edged.config.load import Snapshot
from edged.config.sources import Reference, SourceConfig, parse_reference
from edged.credential import read_secret
from edged.errors import (
    ApplyError,
    BundleError,
    ConfigError,
    DigestMismatchError,
    EdgedError,
    SourceError,
)
from edged.faults import fault
from edged.generation.record import find_state_dir, load_in_effect
from edged.generation.trusted import load_trust
from edged.incoming.installing import NoPlaceError, admit, install
from edged.sources.found import Found
from edged.sources.opened import Settings, find, open_source
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.floors import Floors
from edged.store.head import Head, read_head

if TYPE_CHECKING:
    from edged.sources.partial import Partial
    from edged.sources.web import Web


class Pulled(msgspec.Struct, frozen=True):
    """What a pull came to.

    Args:
        state: ``installed``, or ``current``: what the source has is here.
        text: for people.
        digest: what the reference meant at the source.
    """

    state: str
    text: str
    digest: str


@dataclass(slots=True)
class Meter:
    """What a pull took of the line, also one that failed.

    Args:
        bytes: of the bundle, before they were unpacked; some lines are paid by them.
    """

    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Pull:
    """One pull, on its way."""

    config: Path
    snapshot: Snapshot
    reference: Reference
    model: str
    older: bool
    leap: bool
    download: Download
    meter: Meter


def pull_model(
    config: Path, model: str, *, state_dir: Path | None = None, meter: Meter | None = None
) -> Pulled:
    """What the daemon does now and then: ask for a model what its ``pull`` says.

    Args:
        config: edged.yaml or its directory.
        model: its name.
        state_dir: of the device; default: as the configuration or the service manager says.
        meter: told what came over the line.

    Raises:
        EdgedError: as ``pull``; what was refused before is refused again unfetched.
    """
    state = state_dir or find_state_dir(config)
    snapshot = load_in_effect(config, state)
    if model not in snapshot.config.models or snapshot.config.models[model].pull is None:
        raise ConfigError(f'models.{model[:64]}.pull: no such model, or it has no "pull"')
    reference = parse_reference(str(snapshot.config.models[model].pull))
    job = _job(config, state, snapshot, reference, model=model, meter=meter)
    return _pull(job, again=False)


def pull(
    config: Path,
    text: str,
    *,
    older: bool = False,
    leap: bool = False,
    state_dir: Path | None = None,
    meter: Meter | None = None,
) -> Pulled:
    """Fetch a bundle and install it.

    Args:
        config: edged.yaml or its directory.
        text: the reference, as ``factory/digits:stable``.
        older: also where a newer release of the model is there already.
        leap: also one that is further above it than ``trust.max_leap``.
        state_dir: as ``pull_model``.
        meter: as ``pull_model``.

    Raises:
        EdgedError: the source is away or has no such bundle, or the bundle is refused.
    """
    state = state_dir or find_state_dir(config)
    snapshot = load_in_effect(config, state)
    reference = parse_reference(text)
    job = _job(config, state, snapshot, reference, older=older, leap=leap, meter=meter)
    return _pull(job, again=True)


def _job(
    config: Path,
    state_dir: Path,
    snapshot: Snapshot,
    reference: Reference,
    *,
    model: str = "",
    older: bool = False,
    leap: bool = False,
    meter: Meter | None,
) -> _Pull:
    download = Download(state_dir, reference)
    return _Pull(config, snapshot, reference, model, older, leap, download, meter or Meter())


def _pull(job: _Pull, *, again: bool) -> Pulled:
    snapshot, reference, download = job.snapshot, job.reference, job.download
    settings = _settings(snapshot, reference.source)
    with download.locked():
        web = open_source(settings)
        found = find(web, settings, reference.name, reference.tag, reference.digest)
        note, against = download.read_note(), _against(job)
        if note.digest == found.digest and note.bundle and _has(job, note.bundle):
            download.touch_note()
            return Pulled("current", f"{reference}: what it has is here already", found.digest)
        if found.bundle and _has(job, found.bundle):
            return Pulled("current", f"{reference}: what it has is here already", found.digest)
        if not again and note.refused and (note.digest, note.against) == (found.digest, against):
            raise BundleError(f"{note.refused} (refused before; the source has nothing else yet)")
        try:
            text, bundle = _bring(job, web, settings, found)
        except (BundleError, ConfigError) as exc:
            if not _is_passing(exc):
                download.clean()
                told = Note(found.digest, refused=exc.message[:500], against=against)
                download.write_note(told)
            raise
        download.write_note(Note(found.digest, bundle))
        return Pulled("installed", text, found.digest)


def _bring(job: _Pull, web: Web, settings: Settings, found: Found) -> tuple[str, str]:
    """Fetch, and install; what was done, and the bundle's digest."""
    from edged.sources.download import Pace, fetch  # noqa: PLC0415
    from edged.sources.partial import Partial  # noqa: PLC0415
    from edged.sources.unpack import unpack  # noqa: PLC0415

    with Partial(job.download.path("part"), found.wanted) as part:
        job.download.check_room(found.wanted.size - part.at)
        pace = Pace(settings.rate, 4 * settings.timeout_s)
        try:
            fetch(web, found.url, part, pace, None if found.is_packed else _look(job))
            file = part.finish()
        except DigestMismatchError as exc:
            # Damaged on its way, or on the server: the bundle itself may be good.
            raise SourceError(f"{job.reference}: {exc.message}") from exc
        finally:
            job.meter.bytes += part.came
    fault("pull.fetched")
    if found.is_packed:
        unpack(file, job.download.path("edgb"), settings.max_bytes)
        file = job.download.path("edgb")
        fault("pull.unpacked")
    try:
        return _install(job, found, file)
    finally:
        with contextlib.suppress(OSError):
            job.download.path("edgb").unlink()


def _install(job: _Pull, found: Found, file: Path) -> tuple[str, str]:
    data, manifest, signatures = read_manifest(file)
    digest = bundle_digest(data)
    if found.bundle and found.bundle != digest:
        raise DigestMismatchError(f"the bundle is sha256:{digest}; the source states another")
    _check_model(job, Head(data, manifest, signatures))
    state_dir = job.download.state_dir
    text = install(job.config, file, older=job.older, leap=job.leap, state_dir=state_dir)
    fault("pull.installed")
    job.download.clean()
    return text, digest


def _look(job: _Pull) -> Callable[[Partial], bool]:
    """Looks at manifest and signatures as soon as they are there."""

    def look(part: Partial) -> bool:
        head = read_head(part.descriptor, part.at, part.wanted.size)
        if head is None:
            return False
        _check_model(job, head)
        admit(job.download.state_dir, job.snapshot, head, older=job.older, leap=job.leap)
        return True

    return look


def _check_model(job: _Pull, head: Head) -> None:
    if job.model and head.manifest.name != job.model:
        raise BundleError(
            f"{job.reference} is a bundle of {head.manifest.name}; models.{job.model}.pull asks "
            f"for one of {job.model}"
        )


def _is_passing(exc: EdgedError) -> bool:
    """Whether the device, not the bundle, is what must change: then what came is kept."""
    return isinstance(exc, ApplyError | NoPlaceError) or "make room" in exc.message


def _against(job: _Pull) -> str:
    """What a refusal was decided by: while it is the same, so is the refusal."""
    trust = load_trust(job.snapshot, job.download.state_dir)
    said = [job.snapshot.digest, str(trust.version), *sorted(trust.keys)]
    said += [f"{model}@{n}" for model, n in sorted(Floors(job.download.state_dir).all().items())]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


def _settings(snapshot: Snapshot, name: str) -> Settings:
    source = snapshot.config.sources.get(name)
    if source is None:
        known = ", ".join(sorted(snapshot.config.sources)) or "none"
        raise ConfigError(f'no source "{name}" is configured; the sources are: {known}')
    return Settings(
        kind=source.kind,
        url=source.url,
        login=_login(snapshot, source),
        token=read_secret(snapshot, source.token) if source.token is not None else "",
        token_server=source.token_server or "",
        hosts=source.hosts,
        ca=str(snapshot.resolve(source.ca)) if source.ca is not None else None,
        timeout_s=source.timeout / 1e9,
        max_bytes=int(source.max_bytes),
        rate=int(source.rate or 0),
    )


def _login(snapshot: Snapshot, source: SourceConfig) -> tuple[str, str] | None:
    if source.username is None or source.password is None:
        return None
    return source.username, read_secret(snapshot, source.password)


def _has(job: _Pull, digest: str) -> bool:
    """Whether a bundle lies where the configuration looks, signed by those who count now."""
    trust = load_trust(job.snapshot, job.download.state_dir)
    for model in job.snapshot.config.models:
        for path in job.snapshot.bundle_paths(model):
            with contextlib.suppress(EdgedError):
                data, _, signatures = read_manifest(path)
                if bundle_digest(data) == digest:
                    trust.verify(data, signatures)
                    return True
    return False
