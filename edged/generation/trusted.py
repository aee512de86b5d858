"""Whose bundles are accepted: the configuration's keys, or the trust document in effect.

Decides which of them counts, what an expired document stops, and what may serve on although its
keys were retired. Expiry never touches what serves: it only stops what is new, and only where the
clock is known to be good.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from edged.config.load import Snapshot
from edged.config.problems import Problem
from edged.device.clock import is_synchronised
from edged.errors import EdgedError
from edged.manifest import Manifest
from edged.store.serving import serving_digests, serving_releases
from edged.store.trust_document import CAP_BYTES, SignedTrust, TrustError, check_self, parse_trust
from edged.store.trust_state import LostTrust, Trusted, TrustLostError, TrustState
from edged.store.trust_store import RetiredKeyError, TrustStore
from edged.telemetry.health import Health

log = logging.getLogger("edged.trust")

UNCHECKED = (
    "bundles are taken from ANYBODY: trust.require_signatures is false, which is for a test bench"
)


def load_trust(snapshot: Snapshot, state_dir: Path | None = None) -> TrustStore:
    """The keys that bundles are verified with.

    Args:
        snapshot: the configuration.
        state_dir: of the device; default: as the configuration or the service manager says.

    Raises:
        EdgedError: a file is missing, or not what it must be.
    """
    trust = snapshot.config.trust
    try:
        trusted = load_trusted(snapshot, state_dir)
    except TrustLostError as exc:
        revoked = exc.revoked
        with contextlib.suppress(EdgedError):
            if trust.root is not None:
                revoked |= {*read_trust(snapshot.resolve(trust.root)).document.revoked}
        is_required = trust.require_signatures
        return LostTrust({}, 1, is_required, lost=exc.message, revoked=revoked)
    if trusted is not None:
        return trusted.store(required=trust.require_signatures)
    paths = [snapshot.resolve(key) for key in trust.keys]
    return TrustStore.from_files(paths, trust.threshold, trust.require_signatures)


def load_trusted(snapshot: Snapshot, state_dir: Path | None = None) -> Trusted | None:
    """The trust document in effect; None where the configuration lists keys.

    What the device keeps goes first: the configured file is where it began.

    Raises:
        TrustError: nothing is kept, and the configured file is not good.
        TrustLostError: what is kept is damaged. An older one would trust keys that were revoked.
    """
    root = snapshot.config.trust.root
    if root is None:
        return None
    kept = TrustState(state_dir or _state_of(snapshot)).read()
    return kept or Trusted(read_trust(snapshot.resolve(root)))


def adopted(snapshot: Snapshot, state_dir: Path) -> tuple[Trusted | None, TrustStore]:
    """For a configuration that is to serve: what its document is, kept from now on, and its keys.

    Raises:
        EdgedError: see ``load_trust``. What is lost is said by whatever is verified.
    """
    adopt(snapshot, state_dir)
    trust = load_trust(snapshot, state_dir)
    return None if isinstance(trust, LostTrust) else load_trusted(snapshot, state_dir), trust


def read_trust(path: Path) -> SignedTrust:
    """Read a trust document that is signed by its own root.

    Raises:
        TrustError: it cannot be read, or is not.
    """
    try:
        # O_NONBLOCK: a pipe by that name would keep us waiting.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise TrustError(f"{path}: not a file")
            data = file.read(CAP_BYTES + 1)
    except OSError as exc:
        raise TrustError(f"{path}: cannot read the trust document: {exc.strerror}") from exc
    try:
        signed = parse_trust(data)
        check_self(signed)
    except EdgedError as exc:
        raise TrustError(f"{path}: {exc.message}") from exc
    return signed


def adopt(snapshot: Snapshot, state_dir: Path) -> None:
    """Keep the configured document, so that no older one counts again; a full disk may wait."""
    root = snapshot.config.trust.root
    state = TrustState(state_dir)
    try:
        if root is None:
            return
        kept = state.read()
    except TrustLostError as exc:
        log.error("%s", exc.message)
        return
    try:
        state.adopt(read_trust(snapshot.resolve(root)) if kept is None else kept.signed)
    except OSError as exc:
        log.warning("the trust document could not be kept in %s: %s", state_dir, exc.strerror)


def apply_trust(
    snapshot: Snapshot, file: Path, state_dir: Path | None = None, *, anew: bool = False
) -> str:
    """Go by another trust document from now on; returns what was done, for people.

    Args:
        snapshot: the configuration.
        file: the document.
        state_dir: of the device; default: as the configuration or the service manager says.
        anew: also where what the device went by is lost: it must follow the configured file then.

    Raises:
        TrustError: the configuration has no ``trust.root``, or the document may not follow.
    """
    root = snapshot.config.trust.root
    if root is None:
        raise TrustError(
            "the configuration lists its keys itself (trust.keys); a trust document counts where "
            "trust.root names the first one"
        )
    new, first = read_trust(file), None
    state = TrustState(state_dir or _state_of(snapshot))
    if anew or state.read() is None:
        first = read_trust(snapshot.resolve(root))
    is_new = state.apply(new, first, anew=anew)
    version = new.document.version
    if not is_new:
        return f"trust version {version} is kept already, and installs go by it"
    log.info("trust version %d is kept, and installs go by it", version)
    return f"trust version {version} is kept, and installs go by it"


def about_serving(trust: TrustStore, state_dir: Path) -> list[str]:
    """What becomes of releases that serve and that nobody who is trusted now signed."""
    found = []
    for stored in serving_releases(state_dir):
        name, number = stored.manifest.name, stored.manifest.release
        try:
            stored.verify(trust)
        except RetiredKeyError:
            found.append(
                f"release {number} of {name} serves on, although no key of now signed it: have it "
                "signed by one (edged-convert sign BUNDLE --key KEY) and install it again"
            )
        except EdgedError as exc:
            found.append(
                f"release {number} of {name} serves until the next restart and no longer: "
                f"{exc.message}"
            )
    return found


def check_not_expired(trusted: Trusted | None) -> None:
    """Refuse what is new under an expired document; asked before something is installed.

    Raises:
        TrustError: it is, and the clock that says so is known to be good.
    """
    said = None if trusted is None else expiry(trusted)
    if said and is_synchronised():
        raise TrustError(
            f"{said}; what serves goes on, and nothing new is taken before: edged trust apply FILE"
        )
    if said:
        log.warning("%s, by a clock that nobody has set: taken all the same", said)


def expiry(trusted: Trusted, today: date | None = None) -> str:
    """That a document is too old for what is new; empty while it is not."""
    last = trusted.document.last_day
    today = today or datetime.now(timezone.utc).date()
    if last is None or today <= last:
        return ""
    return f"trust version {trusted.document.version} expired on {last}"


def may_serve_on(state_dir: Path, manifest: Manifest, digest: str) -> bool:
    """Whether a release is the one that serves its model here, by the disk: it was trusted."""
    try:
        return serving_digests(state_dir).get(manifest.name) == digest
    except OSError:
        return False


def tell_trust(
    snapshot: Snapshot, trusted: Trusted | None, retired: Mapping[str, str], health: Health
) -> None:
    """Say in the log and the status what is not as it should be, at every start and change."""
    if not snapshot.config.trust.require_signatures:
        log.warning("%s", UNCHECKED)
    if warnings := _warnings(snapshot, trusted, retired):
        health.degrade("trust", "; ".join(warnings))
    else:
        health.restore("trust")


def trust_warnings(snapshot: Snapshot, state_dir: Path | None = None) -> list[Problem]:
    """What ``edged check`` says of it, with its place."""
    found = []
    trust = snapshot.config.trust
    if not trust.require_signatures:
        found.append(snapshot.problem("trust.require_signatures", UNCHECKED))
    if trust.root is None:
        return found
    try:
        kept, first = load_trusted(snapshot, state_dir), read_trust(snapshot.resolve(trust.root))
    except TrustLostError as exc:
        return [*found, snapshot.problem("trust.root", exc.message)]
    except EdgedError:
        return found  # is a problem, which is said
    if kept is None:
        return found
    now, named = kept.document, first.document
    if named.version > now.version or (named.version == now.version and named != now):
        text = (
            f"{trust.root} holds version {named.version}, which is not what this device goes by "
            f"(version {now.version}); run: edged trust apply, or edged trust forget"
        )
        found.append(snapshot.problem("trust.root", text))
    if said := expiry(kept):
        found.append(snapshot.problem("trust.root", f"{said}: nothing new is installed"))
    return found


def trust_document(
    snapshot: Snapshot, trusted: Trusted | None, retired: Mapping[str, str]
) -> dict[str, Any]:
    """What the status says of it."""
    trust = snapshot.config.trust
    document = None if trusted is None else trusted.document
    warnings = _warnings(snapshot, trusted, retired)
    return {
        "required": trust.require_signatures,
        "threshold": trust.threshold if document is None else document.release.threshold,
        "version": None if document is None else document.version,
        "expires": str(document.last_day) if document and document.last_day else None,
        "retired": dict(retired),
        "warnings": warnings if trust.require_signatures else [UNCHECKED, *warnings],
    }


def _warnings(snapshot: Snapshot, trusted: Trusted | None, retired: Mapping[str, str]) -> list[str]:
    """A list of sentences for people."""
    said = expiry(trusted) if trusted is not None else ""
    found = [f"{said}: nothing new is installed"] if said else []
    if snapshot.narrowed is not None:
        found.append(
            "the configuration came back by itself, and trusts nobody of its own time whom the "
            "later one did not trust any more"
        )
    return found + [
        f"model {name} serves on, although {why}" for name, why in sorted(retired.items())
    ]


def _state_of(snapshot: Snapshot) -> Path:
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else snapshot.resolve(snapshot.config.state_dir)
