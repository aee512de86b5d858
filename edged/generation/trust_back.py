"""Whom a generation that comes back trusts: what was taken away since stays away.

Decides what becomes of its ``trust`` section on a way back that no operator ordered, and what is
told of one that an operator did. A key that was taken out of ``trust.keys`` was revoked: nothing
that happens by itself may trust it again. Keys are told by what they are, not by their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from edged.config.schema import TrustConfig
from edged.config.snapshot import Snapshot
from edged.errors import SignatureError
from edged.generation.access_back import rights_again
from edged.store.trust_store import TrustStore


def narrow(back: Snapshot, now: Snapshot) -> Snapshot:
    """A generation that comes back by itself, trusting only whom it and what was since both trust.

    Args:
        back: the generation.
        now: the configuration that came after it.

    Returns:
        The generation as it was, where that trusts nobody else; else with another ``trust``.
    """
    old, new = back.config.trust, now.config.trust
    required = old.require_signatures or new.require_signatures
    if old.root is not None or new.root is not None:
        # Who signs for one has no word in the other: the later one counts.
        trust = _resolved(now)
        is_same = old.root is not None and str(back.resolve(old.root)) == trust.root
    else:
        ids, threshold = set(_keys(back)), max(old.threshold, new.threshold)
        both = {key: path for key, path in _keys(now).items() if key in ids}
        keys = tuple(map(str, both.values()))
        trust = structs.replace(old, keys=keys, threshold=threshold)
        paths = _paths(back, old.keys)
        is_same = ids == set(both) and threshold == old.threshold and all(map(_exists, paths))
    if is_same and required == old.require_signatures:
        return back
    trust = structs.replace(trust, require_signatures=required)
    return replace(back, config=structs.replace(back.config, trust=trust), narrowed=trust)


def regained(back: Snapshot, now: Snapshot) -> str:
    """What a generation trusts or allows and the one after it does not; empty for nothing."""
    return "; ".join([*_regained(back, now), *filter(None, [rights_again(back, now)])])


def _regained(back: Snapshot, now: Snapshot) -> Iterator[str]:
    old, new = back.config.trust, now.config.trust
    if new.require_signatures and not old.require_signatures:
        yield "bundles are taken from anybody again (trust.require_signatures)"
    if new.root is not None and old.root is None:
        yield "trust.keys count again, in the place of the trust document"
    if old.root is not None:
        if new.root is None:
            yield "the trust document counts again, in the place of trust.keys"
        return
    keys = _keys(now) if new.root is None else {}
    for key, path in _keys(back).items():
        if key not in keys:
            yield f"key {key[:16]} ({path}) is trusted again"
    if new.root is None and old.threshold < new.threshold:
        yield f"{old.threshold} signatures are enough again, where {new.threshold} had to be"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that was closed to us, say: no start may end with that
        return False


def _keys(snapshot: Snapshot) -> dict[str, Path]:
    """By key, its file; one that cannot be read trusts nobody, and is said where it is used."""
    found: dict[str, Path] = {}
    for path in _paths(snapshot, snapshot.config.trust.keys):
        try:
            store = TrustStore.from_files([path])
        except SignatureError:
            continue
        found |= dict.fromkeys(store.keys, path)
    return found


def _resolved(snapshot: Snapshot) -> TrustConfig:
    trust = snapshot.config.trust
    keys = tuple(map(str, _paths(snapshot, trust.keys)))
    root = None if trust.root is None else str(snapshot.resolve(trust.root))
    return structs.replace(trust, keys=keys, root=root)


def _paths(snapshot: Snapshot, keys: Iterable[str]) -> list[Path]:
    return [snapshot.resolve(key) for key in keys]
