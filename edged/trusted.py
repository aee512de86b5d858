"""Whose bundles are accepted: the keys that a configuration names, ready to verify with."""

from __future__ import annotations

import logging
from typing import Any

from edged.config.load import Snapshot
from edged.config.problems import Problem
from edged.store.signing import TrustStore

log = logging.getLogger("edged.trust")

UNCHECKED = (
    "bundles are taken from ANYBODY: trust.require_signatures is false, which is for a test bench"
)


def load_trust(snapshot: Snapshot) -> TrustStore:
    """The operator's keys.

    Raises:
        EdgedError: a key file is missing or not an Ed25519 public key.
    """
    trust = snapshot.config.trust
    paths = [snapshot.resolve(key) for key in trust.keys]
    return TrustStore.from_files(paths, trust.threshold, trust.require_signatures)


def warn_of_trust(snapshot: Snapshot) -> None:
    """Say in the log, at every start and change, what no device in the field should do."""
    if not snapshot.config.trust.require_signatures:
        log.warning("%s", UNCHECKED)


def trust_warnings(snapshot: Snapshot) -> list[Problem]:
    """The same for ``edged check``, with its place."""
    if snapshot.config.trust.require_signatures:
        return []
    return [snapshot.problem("trust.require_signatures", UNCHECKED)]


def trust_document(snapshot: Snapshot) -> dict[str, Any]:
    """What the status says of it."""
    trust = snapshot.config.trust
    return {
        "required": trust.require_signatures,
        "threshold": trust.threshold,
        "warnings": [] if trust.require_signatures else [UNCHECKED],
    }
