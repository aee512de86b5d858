"""Whether a bundle may be used here at all: its signatures, its targets, its model's floor.

Decides nothing twice: what was admitted is not judged again until it, or what it is judged by, is
something else. A change of one model would otherwise verify the signatures of hundreds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from edged.store.floors import FloorsNow
from edged.store.seen import Look
from edged.store.targets import check_here
from edged.store.trust_store import TrustStore

_CAP = 4096
"""More bundles than a configuration names."""


class Admission:
    """What was admitted to one store. Thread-safe."""

    def __init__(self) -> None:
        self._terms: tuple[Any, ...] = ()
        self._admitted: dict[str, bytes | None] = {}
        """By digest, which is the manifest's, the signatures."""
        self._mutex = threading.Lock()

    def check(
        self,
        look: Look,
        trust: TrustStore,
        device: Mapping[str, str] | None,
        floors: FloorsNow,
    ) -> None:
        """Refuse a bundle that may not be used here.

        Args:
            look: what it says of itself.
            trust: whose signatures count.
            device: its labels; None where targets do not matter.
            floors: those of now.

        Raises:
            SignatureError: not enough trusted signatures.
            IncompatibleError: it needs a newer edged, is for other devices, or is below the floor.
            ApplyError: what the floors are is not known.
        """
        terms = (trust, device, floors)
        with self._mutex:
            if terms != self._terms or len(self._admitted) >= _CAP:
                self._admitted.clear()
            self._terms = terms  # whoever asks for hundreds brings the same objects each time
            is_known = look.digest in self._admitted
            if is_known and self._admitted[look.digest] == look.signatures:
                return
        trust.verify(look.manifest_bytes, look.signatures)
        check_here(look.manifest, device)
        floors.check(look.manifest, look.digest)
        with self._mutex:
            if self._terms == terms:
                self._admitted[look.digest] = look.signatures
