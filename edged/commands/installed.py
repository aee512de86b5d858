"""``edged bundle list`` and ``remove``: the files that the configuration takes bundles from.

Decides whether a file may go: not one that the configuration names, nor a model's last, nor, unless
asked for, the one whose going lets an older release serve. The daemon's store keeps what it keeps:
a generation that comes back needs no file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from edged.commands.rendering import table
from edged.config.load import Snapshot, load
from edged.config.schema import ModelConfig
from edged.errors import ApplyError, EdgedError, IncompatibleError, NotFoundError
from edged.faults import fault
from edged.generation.record import find_state_dir
from edged.generation.release_checks import check_releases, check_rollout
from edged.generation.trusted import load_trust
from edged.manifest import Manifest
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.trust_store import TrustStore


class _Found(NamedTuple):
    path: Path
    data: bytes
    manifest: Manifest
    signatures: bytes | None
    size: int


def listed(config: Path) -> list[dict[str, Any]]:
    """Every bundle that the configuration takes, by model, the newest first.

    Manifests and signatures are read, members are not: ``problem`` says what that shows, and is
    empty otherwise. ``chosen`` and ``role`` are the configuration's word: what serves, the daemon
    says, which may have refused it.

    Raises:
        EdgedError: the configuration or a key is bad.
    """
    snapshot = load(config)
    trust = load_trust(snapshot, find_state_dir(config))
    document = []
    for model in sorted(snapshot.config.models):
        found, bad = _bundles(snapshot, model)
        configured = snapshot.config.models[model]
        serve = configured.rollout.stable if configured.rollout else configured.serve
        newest = max((one.manifest.release for one in found), default=0)
        wanted = newest if serve == "newest" else serve
        for one in sorted(found, key=lambda one: -one.manifest.release):
            signed, problem = _signers(one, trust)
            document.append(
                {
                    "model": model,
                    "release": one.manifest.release,
                    "version": one.manifest.version,
                    "digest": bundle_digest(one.data),
                    "bytes": one.size,
                    "file": str(one.path),
                    "signed_by": signed,
                    "chosen": one.manifest.release == wanted,
                    "role": _role(configured, one.manifest.release, wanted),
                    "problem": problem,
                }
            )
        for path, why in bad.items():
            document.append({"model": model, "file": str(path), "problem": why})
    return document


def render_listed(document: list[dict[str, Any]]) -> str:
    """Lines for a person."""
    if not document:
        return "no bundle is where the configuration looks"
    head = ("model", "release", "digest", "bytes", "signatures", "file", "state")
    rows = [
        (
            one["model"],
            one.get("release", "?"),
            one.get("digest", "?")[:12],
            one.get("bytes", "?"),
            len(one.get("signed_by", ())),
            one["file"],
            one["problem"] or one["role"],
        )
        for one in document
    ]
    return table(head, rows)


def _role(configured: ModelConfig, release: int, wanted: int | str) -> str:
    """What a release is for; which side of a rollout answers, its end decides."""
    rollout = configured.rollout
    if rollout is None:
        return "chosen" if release == wanted else ""
    sides = {"stable": rollout.stable}
    if rollout.canary is not None:
        sides["canary"] = rollout.canary.release
    if rollout.shadow is not None:
        sides.setdefault("shadow", rollout.shadow.release)
    named = next((side for side, number in sides.items() if number == release), "")
    return named or ("ab" if release in rollout.weights else "")


def remove(config: Path, model: str, release: int, *, older: bool = False) -> str:
    """Remove a release's file; returns what was done, for people.

    Args:
        config: edged.yaml or its directory.
        model: its name.
        release: its number.
        older: also if an older release serves then.

    Raises:
        EdgedError: it is not there, or cannot go.
    """
    snapshot = load(config)
    if model not in snapshot.config.models:
        known = ", ".join(sorted(snapshot.config.models)) or "none"
        raise NotFoundError(f'no model "{model[:64]}" is configured; the models are: {known}')
    found, _ = _bundles(snapshot, model)
    gone = [one.path for one in found if one.manifest.release == release]
    left = {one.manifest.release: one.manifest for one in found if one.manifest.release != release}
    have = ", ".join(map(str, sorted(one.manifest.release for one in found))) or "none"
    if not gone:
        raise NotFoundError(f"no bundle of {model} holds release {release}; they hold: {have}")
    _check_left(snapshot, model, release, left, older=older)
    for path in gone:
        try:
            path.unlink(missing_ok=True)
            fault("remove.unlinked")
            _sync(path.parent)
        except OSError as exc:
            raise ApplyError(f"{path} cannot be removed: {exc.strerror}") from exc
    return "\n".join(f"{path} is removed" for path in gone)


def _bundles(snapshot: Snapshot, model: str) -> tuple[list[_Found], dict[Path, str]]:
    """A model's bundles, and the files that are none with the reason."""
    found, bad = [], {}
    for path in snapshot.bundle_paths(model):
        try:
            data, manifest, signatures = read_manifest(path)
            size = path.stat().st_size
        except EdgedError as exc:
            bad[path] = exc.message
        except OSError as exc:
            bad[path] = exc.strerror or str(exc)
        else:
            found.append(_Found(path, data, manifest, signatures, size))
    return found, bad


def _signers(one: _Found, trust: TrustStore) -> tuple[list[str], str]:
    try:
        return list(trust.verify(one.data, one.signatures)), ""
    except EdgedError as exc:
        return [], exc.message


def _check_left(
    snapshot: Snapshot, model: str, release: int, left: dict[int, Manifest], *, older: bool
) -> None:
    config = snapshot.config.models[model]
    if not left:
        raise IncompatibleError(
            f"release {release} is the only one of {model}: the model would be gone; take it out "
            "of the configuration first"
        )
    problems = check_releases(snapshot, model, config, set(left))
    problems += check_rollout(snapshot, model, left)
    if problems:
        raise IncompatibleError(f"the configuration needs release {release}: {problems[0]}")
    if config.serve == "newest" and release > max(left) and not older:
        raise IncompatibleError(
            f"release {release} is the newest of {model}: without it release {max(left)} serves; "
            "to go back like that: --older"
        )


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
