"""What was admitted is not judged again, until anything that its judgement stands on is another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.errors import ApplyError, SignatureError
from edged.store import admission as module
from edged.store.admission import Admission
from edged.store.bundle import open_bundle
from edged.store.floors import BelowFloorError, FloorsLostError, FloorsNow
from edged.store.seen import Look, look_of
from edged.store.targets import NotForHereError
from edged.store.trust_store import TrustStore
from tests.bundles import make_bundle
from tests.models import double

HERE = {"architecture": "x86_64"}


class Gate:
    """One bundle before an admission that counts what it judges."""

    def __init__(self, path: Path, trust: TrustStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.trust, self.judged = path, trust, 0
        self.look = look_at(path / "a.edgb")
        self.admission = Admission()
        real = TrustStore.verify

        def verify(*args: Any) -> tuple[str, ...]:
            self.judged += 1
            return real(*args)

        monkeypatch.setattr(TrustStore, "verify", verify)

    def floors(self, found: Mapping[str, int] | ApplyError) -> FloorsNow:
        return FloorsNow(self.state, found)

    def check(self, look: Look | None = None, **other: Any) -> int:
        """Returns how often signatures were verified for it."""
        before = self.judged
        given = {"trust": self.trust, "device": dict(HERE), "floors": self.floors({})} | other
        self.admission.check(look or self.look, **given)
        return self.judged - before


def look_at(path: Path) -> Look:
    with open_bundle(path) as bundle:
        return look_of(bundle)


@pytest.fixture
def gate(tmp_path: Path, keys: Any, monkeypatch: pytest.MonkeyPatch) -> Gate:
    make_bundle(tmp_path / "a.edgb", double(), name="double", release=2, key=keys.private)
    return Gate(tmp_path, keys.trust, monkeypatch)


def test_judged_once(gate: Gate, keys: Any) -> None:
    assert gate.check() == 1
    assert gate.check() == 0
    same = TrustStore.from_files([keys.public])
    assert gate.check(trust=same, floors=gate.floors({})) == 0


def test_read_again_it_is_the_same(gate: Gate, tmp_path: Path) -> None:
    gate.check()
    assert gate.check(look_at(tmp_path / "a.edgb")) == 0


@pytest.mark.parametrize("signatures", [None, b"[]"])
def test_and_again_with_other_signatures(gate: Gate, signatures: bytes | None) -> None:
    """Its digest is the same: what is signed says nothing of who did."""
    gate.check()
    with pytest.raises(SignatureError):
        gate.check(replace(gate.look, signatures=signatures))


def test_and_again_by_other_words(gate: Gate, tmp_path: Path) -> None:
    gate.check()
    stranger = TrustStore.from_files([])
    with pytest.raises(SignatureError):
        gate.check(trust=stranger)
    with pytest.raises(SignatureError):  # what was refused is not admitted the next time
        gate.check(trust=stranger)
    assert gate.check() == 1
    with pytest.raises(BelowFloorError):
        gate.check(floors=gate.floors({"double": 3}))
    assert gate.check(floors=gate.floors({"double": 2})) == 1
    assert gate.check(device={**HERE, "class": "door"}) == 1


def test_targets_are_of_the_device(tmp_path: Path, gate: Gate, keys: Any) -> None:
    path = make_bundle(
        tmp_path / "b.edgb", double(), name="b", targets={"class": ("gate",)}, key=keys.private
    )
    look = look_at(path)
    assert gate.check(look, device={**HERE, "class": "gate"}) == 1
    with pytest.raises(NotForHereError):
        gate.check(look)
    assert gate.check(look, device=None) == 1


def test_floors_that_are_not_known_are_asked_each_time(gate: Gate) -> None:
    gate.check()
    for _ in range(2):
        with pytest.raises(FloorsLostError):
            gate.check(floors=gate.floors(FloorsLostError("gone")))
    assert gate.check() == 1


def test_what_is_kept_is_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CAP", 1)
    assert [gate.check(), gate.check()] == [1, 1]
