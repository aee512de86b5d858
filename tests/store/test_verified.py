"""Signatures are verified once, and again as soon as they, or who is trusted, are others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.errors import SignatureError
from edged.store import verified as module
from edged.store.bundle import open_bundle
from edged.store.seen import Look, look_of
from edged.store.trust_store import TrustStore
from edged.store.verified import Verified
from tests.bundles import make_bundle
from tests.models import double


class Gate:
    """One bundle, and how often its signatures were verified."""

    def __init__(self, look: Look, trust: TrustStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.look, self.trust, self.count = look, trust, 0
        self.verified = Verified()
        real = TrustStore.verify

        def verify(*args: Any) -> tuple[str, ...]:
            self.count += 1
            return real(*args)

        monkeypatch.setattr(TrustStore, "verify", verify)

    def check(self, look: Look | None = None, trust: TrustStore | None = None) -> int:
        """Returns how often it was verified for this."""
        before = self.count
        self.verified.check(look or self.look, trust or self.trust)
        return self.count - before


def look_at(path: Path) -> Look:
    with open_bundle(path) as bundle:
        return look_of(bundle)


@pytest.fixture
def path(tmp_path: Path, keys: Any) -> Path:
    return make_bundle(tmp_path / "a.edgb", double(), key=keys.private)


@pytest.fixture
def gate(path: Path, keys: Any, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(look_at(path), keys.trust, monkeypatch)


def test_once(gate: Gate, path: Path, keys: Any) -> None:
    assert gate.check() == 1
    assert gate.check() == 0
    assert gate.check(look_at(path)) == 0, "read again it says the same"
    assert gate.check(trust=TrustStore.from_files([keys.public])) == 0, "the same keys"


@pytest.mark.parametrize("signatures", [None, b"", b"[]"])
def test_and_again_with_other_signatures(gate: Gate, signatures: bytes | None) -> None:
    """Its digest is the same: what is signed says nothing of who did."""
    gate.check()
    with pytest.raises(SignatureError):
        gate.check(replace(gate.look, signatures=signatures))
    assert gate.check() == 0


def test_and_again_by_other_keys(gate: Gate) -> None:
    gate.check()
    for _ in range(2):  # what was refused is not known the next time
        with pytest.raises(SignatureError):
            gate.check(trust=TrustStore.from_files([]))
    assert gate.check() == 1


def test_what_was_let_in_unsigned_is_not_known_once_signatures_are_required(gate: Gate) -> None:
    unsigned = replace(gate.look, signatures=None)
    assert gate.check(unsigned, TrustStore({}, required=False)) == 1
    assert gate.check(unsigned, TrustStore({}, required=False)) == 0
    with pytest.raises(SignatureError):
        gate.check(unsigned)


def test_what_is_kept_is_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CAP", 1)
    assert [gate.check(), gate.check()] == [1, 1]
