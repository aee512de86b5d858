"""Bundles whose signatures were verified, for as long as the same keys are trusted.

Decides nothing of its own: it spares the same answer. A change of one model would otherwise verify
the signatures of hundreds.
"""

from __future__ import annotations

import threading

from edged.store.seen import Look
from edged.store.trust_store import TrustStore

_CAP = 4096
"""More bundles than a configuration names."""


class Verified:
    """Those of one store. Thread-safe."""

    def __init__(self) -> None:
        self._trust: TrustStore | None = None
        self._known: dict[str, bytes | None] = {}
        """By digest, which is the manifest's, the signatures."""
        self._mutex = threading.Lock()

    def check(self, look: Look, trust: TrustStore) -> None:
        """Refuse a bundle that too few trusted keys signed.

        Args:
            look: what it says of itself.
            trust: whose signatures count.

        Raises:
            SignatureError: see ``TrustStore.verify``.
        """
        with self._mutex:
            is_other = self._trust is not trust and self._trust != trust
            if is_other or len(self._known) >= _CAP:
                self._known.clear()
            self._trust = trust  # whoever asks for hundreds brings the same one each time
            is_known = look.digest in self._known
            if is_known and self._known[look.digest] == look.signatures:
                return
        trust.verify(look.manifest_bytes, look.signatures)
        with self._mutex:
            if self._trust is trust:
                self._known[look.digest] = look.signatures
