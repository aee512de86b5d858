"""Trust documents: who may follow whom, and what is no document at all."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import SignatureError
from edged.store.trust_document import (
    Role,
    TrustError,
    check_self,
    check_successor,
    parse_trust,
    write_trust,
)
from tests.trust import Ring


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    return Ring(tmp_path_factory.mktemp("keys"))


def test_what_is_written_is_read(ring: Ring) -> None:
    document = ring.document(7, expires="2027-11-01", floors={"m": 3}, revoked=("0" * 64,))
    signed = parse_trust(ring.signed(document))
    assert signed.document == document
    assert sorted(signed.signatures) == sorted(ring[name].key_id for name in ("r1", "r2"))
    check_self(signed)
    assert str(signed.document.last_day) == "2027-11-01"


@pytest.mark.parametrize(
    ("by", "votes"), [("", 0), ("r1", 1), ("a b c", 0), ("r1 a", 1), ("r1 r1", 1)]
)
def test_a_document_needs_enough_of_its_own_root(ring: Ring, by: str, votes: int) -> None:
    signed = parse_trust(ring.signed(ring.document(), by))
    with pytest.raises(TrustError, match=f"signed by {votes} of 2 required of its own root"):
        check_self(signed)


class TestRotation:
    """Version 1 has two of r1, r2, r3; what follows takes them away or leaves them."""

    @pytest.mark.parametrize(
        ("root", "by"),
        [
            ("r1 r2 r3", "r1 r3"),
            ("r2 r3 r4", "r2 r3"),
            ("r3 r4 r5", "r1 r2 r4 r5"),
            ("n1 n2", "r1 r2 n1 n2"),
            ("r1 n1", "r1 r2 n1"),
        ],
    )
    def test_by_enough_of_both(self, ring: Ring, root: str, by: str) -> None:
        old = parse_trust(ring.signed(ring.document()))
        check_successor(old, parse_trust(ring.signed(ring.document(2, root), by)))

    @pytest.mark.parametrize(
        ("root", "by", "said"),
        [
            ("n1 n2", "n1 n2", "by 0 of 2 required of the root keys of version 1"),
            ("n1 n2", "r1 n1 n2", "by 1 of 2 required of the root keys of version 1"),
            ("n1 n2", "r1 r2 r3", "by 0 of 2 required of its own root"),
            ("n1 n2", "r1 r2 n1", "by 1 of 2 required of its own root"),
            ("r3 n1", "r1 r2 r3", "by 1 of 2 required of its own root"),
            ("r1 r2 r3", "a", "by 0 of 2 required of the root keys of version 1"),
        ],
    )
    def test_not_by_fewer(self, ring: Ring, root: str, by: str, said: str) -> None:
        old = parse_trust(ring.signed(ring.document()))
        with pytest.raises(TrustError, match=said):
            check_successor(old, parse_trust(ring.signed(ring.document(2, root), by)))

    @pytest.mark.parametrize("version", [1, 4, 5])
    def test_versions_only_rise(self, ring: Ring, version: int) -> None:
        old = parse_trust(ring.signed(ring.document(5)))
        with pytest.raises(TrustError, match="goes by version 5 already"):
            check_successor(old, parse_trust(ring.signed(ring.document(version, floors={"m": 1}))))

    def test_days_do_not_fall(self, ring: Ring) -> None:
        old = parse_trust(ring.signed(ring.document(1)))
        new = parse_trust(ring.signed(ring.document(2, issued="2026-10-31")))
        with pytest.raises(TrustError, match="before version 1"):
            check_successor(old, new)

    def test_signatures_mean_nothing_elsewhere(self, ring: Ring) -> None:
        """A signature over a bundle's manifest, or another version, is none here."""
        data = parse_trust(ring.signed(ring.document()))
        other = ring.document(2)
        with pytest.raises(TrustError, match="was changed after it was signed"):
            check_self(parse_trust(write_trust(other, data.signatures)))
        body = json.loads(write_trust(other))["trust"]
        as_bundle = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        votes = {ring[n].key_id: ring[n].sign(as_bundle) for n in ("r1", "r2")}
        with pytest.raises(TrustError, match="was changed after it was signed"):
            check_self(parse_trust(write_trust(other, votes)))


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"root": lambda r: Role((*r.keys, r.keys[0]), 2)}, "root: a key is listed twice"),
            ({"release": lambda r: Role(r.keys, 2)}, "release: 2 signatures are required of 1"),
            ({"issued": lambda _: "2026-02-30"}, "issued: 2026-02-30 is no day"),
            ({"expires": lambda _: "2026-13-01"}, "expires: 2026-13-01 is no day"),
            ({"revoked": lambda _: ("1" * 64, "0" * 64)}, "revoked: expected sorted"),
            ({"release": lambda _: Role(("A" * 43 + "=",))}, "weak Ed25519 key"),
        ],
    )
    def test_what_contradicts_itself(self, ring: Ring, change: dict[str, Any], said: str) -> None:
        document = ring.document(expires="2027-01-01")
        values = {name: how(getattr(document, name)) for name, how in change.items()}
        with pytest.raises(SignatureError, match=said):
            write_trust(msgspec.structs.replace(document, **values))

    def test_one_key_under_two_texts(self, ring: Ring) -> None:
        key = ring.role("a").keys[0]
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        other = key[:42] + letters[letters.index(key[42]) + 1] + "="
        document = msgspec.structs.replace(ring.document(), release=Role((key, other), 2))
        with pytest.raises(SignatureError, match="one form that base64 has"):
            write_trust(document)

    def test_a_revoked_key_that_may_sign(self, ring: Ring) -> None:
        with pytest.raises(TrustError, match="is a release key of the same document"):
            write_trust(ring.document(revoked=(ring["a"].key_id,)))

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data.replace(b'":', b'": '),
            lambda data: data.replace(b'"version":1', b'"version":1,"more":2'),
            lambda data: data.replace(b'"version":1', b'"version":0'),
            lambda data: data[:-2],
            lambda data: data + b"\n",
            lambda data: b"[" * 100_000,
            lambda data: b" " * (300 << 10),
            lambda _: b"",
            lambda _: b"PK\x03\x04",
        ],
    )
    def test_what_is_no_document(self, ring: Ring, change: Any) -> None:
        with pytest.raises(TrustError):
            parse_trust(change(ring.signed(ring.document())))

    @given(st.binary(max_size=200))
    def test_noise(self, data: bytes) -> None:
        with pytest.raises(TrustError):
            parse_trust(data)
