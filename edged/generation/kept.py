"""The bundles of a generation that comes back: those that it had, and no others.

Decides where one is taken from: the store, or a file that the configuration names and that has the
same contents. What has others never stands for it: it would serve under the generation's name.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from edged.config.snapshot import Snapshot
from edged.errors import BundleError, EdgedError, SignatureError
from edged.generation.trusted import load_trust, may_serve_on
from edged.manifest import Manifest
from edged.store.repository import Repository, StoredRelease
from edged.store.seen import SEEN
from edged.store.stored import open_release
from edged.store.trust_store import RetiredKeyError, TrustStore


def in_store(repository: Repository, digest: str) -> StoredRelease:
    """A release that is in the store as a whole.

    Raises:
        EdgedError: it is not, or that cannot be known now.
    """
    stored = repository.release(digest)
    if not stored.is_whole():
        raise BundleError("it is damaged in the store")
    return stored


def same_file(snapshot: Snapshot, model: str, digest: str, why: EdgedError) -> Path:
    """A file with the contents of a release that the store has lost.

    Raises:
        BundleError: there is none.
    """
    for path in snapshot.bundle_paths(model):
        with contextlib.suppress(EdgedError, OSError):
            if SEEN.digest(path) == digest:
                return path
    number = snapshot.kept.generation if snapshot.kept is not None else 0
    raise BundleError(
        f"generation {number} served it, and no file that the configuration names has its contents "
        f"either ({why.message}); install that bundle again, or go to another one: edged history"
    ) from why


def stored_before(repository: Repository, why: RetiredKeyError) -> StoredRelease:
    """What the store has of a file whose keys are not trusted now; raises SignatureError.

    By what was verified: by now another one may lie there, whose keys were revoked.
    """
    try:
        return repository.release(why.digest)
    except EdgedError:  # what nobody had before is no release that was left lying there
        raise SignatureError(why.message) from why


def check_retired(
    state_dir: Path | None, manifest: Manifest, digest: str, why: SignatureError
) -> None:
    """The same for ``edged check``: raises unless it is what serves its model."""
    if state_dir is None:
        raise why
    if not may_serve_on(state_dir, manifest, digest):
        is_known = (state_dir / "store" / digest).is_dir()
        raise why if is_known else SignatureError(why.message)


def releases_of(snapshot: Snapshot, model: str) -> tuple[Path, ...] | None:
    """The digests that a model had, as paths; None of a configuration that does not come back."""
    if snapshot.kept is None:
        return None
    return tuple(map(Path, snapshot.kept.releases.get(model, ())))


def is_there(snapshot: Snapshot, state_dir: Path) -> bool:
    """Whether the store has all that a generation served, as far as a look at its folders tells."""
    models = snapshot.config.models
    paths = [releases_of(snapshot, model) for model in models]
    return all(ones and all((state_dir / "store" / one).is_dir() for one in ones) for ones in paths)


def is_trusted(snapshot: Snapshot, state_dir: Path) -> bool:
    """Whether anything that a generation served was signed by whom it trusts now."""
    models = snapshot.config.models
    digests = [one.name for model in models for one in releases_of(snapshot, model) or ()]
    try:
        trust = load_trust(snapshot, state_dir)
    except (EdgedError, OSError):
        return False
    return not models or any(_is_signed(state_dir, digest, trust) for digest in digests)


def _is_signed(state_dir: Path, digest: str, trust: TrustStore) -> bool:
    try:
        open_release(state_dir / "store", digest).verify(trust)
    except RetiredKeyError:
        return True  # may serve on; whether it does is asked when it is built
    except (EdgedError, OSError):
        return False
    return True
