"""The message that brings a configuration: what is signed, and what nobody can make of it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError, InvalidRequestError, SignatureError
from edged.generation.envelope import Envelope, load_signers, open_envelope, seal
from edged.store.keys import generate_key
from edged.store.signing import Signer, sign_manifest
from edged.store.trust_store import TrustStore

NONE = TrustStore({}, 1, required=False)
CAP = 1 << 16


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    return [generate_key(folder / name) for name in "abc"]


def envelope(**words: object) -> Envelope:
    return Envelope(
        **{"version": 3, "node": "n", "against": 12, "document": "models: {}\n", **words}
    )  # type: ignore[arg-type]


def signed(keys: list[tuple[Path, Path]], which: str = "a", **words: object) -> bytes:
    return seal(envelope(**words), [Signer.from_file(keys["abc".index(one)][0]) for one in which])


def test_enough_of_the_right_keys(keys: list[tuple[Path, Path]]) -> None:
    trust = load_signers([keys[0][1], keys[1][1]], 2, is_required=True)
    opened = open_envelope(signed(keys, "ab"), trust, "n", CAP)
    assert opened.envelope.document == "models: {}\n"
    for which in ("", "a", "ac", "c"):
        with pytest.raises(SignatureError, match="of 2 required"):
            open_envelope(signed(keys, which), trust, "n", CAP)


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 4), ("node", "*"), ("against", 13), ("against", "12" * 8), ("document", "")],
)
def test_every_field_is_signed(keys: list[tuple[Path, Path]], field: str, value: object) -> None:
    trust = load_signers([keys[0][1]], 1, is_required=True)
    found = json.loads(signed(keys)) | {field: value}
    with pytest.raises(SignatureError, match="the document was changed after it was signed"):
        open_envelope(json.dumps(found).encode(), trust, "n", CAP)


def test_where_there_are_keys_one_must_have_signed(keys: list[tuple[Path, Path]]) -> None:
    unsigned = signed(keys, "")
    assert open_envelope(unsigned, load_signers([], 1, is_required=False), "n", CAP)
    with pytest.raises(SignatureError):
        open_envelope(unsigned, load_signers([keys[0][1]], 1, is_required=False), "n", CAP)
    with pytest.raises(SignatureError):
        open_envelope(unsigned, load_signers([], 1, is_required=True), "n", CAP)


def test_a_signature_of_a_bundle_is_none_of_a_document(keys: list[tuple[Path, Path]]) -> None:
    """The same key, and the very bytes: what they were signed for differs."""
    signer = Signer.from_file(keys[0][0])
    one = envelope()
    words = json.loads(sign_manifest(one.statement, [signer]))
    payload = json.dumps(msgspec.to_builtins(one) | words).encode()
    trust = load_signers([keys[0][1]], 1, is_required=True)
    with pytest.raises(SignatureError, match="was changed"):
        open_envelope(payload, trust, "n", CAP)


def test_for_whom(keys: list[tuple[Path, Path]]) -> None:
    assert open_envelope(signed(keys, node="*"), NONE, "n", CAP)
    with pytest.raises(InvalidRequestError, match='is for node "m"; this is "n"'):
        open_envelope(signed(keys, node="m"), NONE, "n", CAP)


def test_against_what() -> None:
    digest = "0123456789abcdef" * 4
    assert envelope(against=12).is_against(12, digest)
    assert not envelope(against=11).is_against(12, digest)
    assert envelope(against=digest[:12]).is_against(1, digest)
    assert not envelope(against="1" * 12).is_against(1, digest)


TWICE = {"key": "a", "signature": "!"}
BAD = (
    b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"version": 0}',
    b'{"version":1,"node":"n","against":1,"document":"","more":1}',
    b'{"version":1,"node":"n","against":"01234567890","document":""}',
    b'{"version":1,"node":"n\\n","against":1,"document":""}',
    b'{"version":1,"node":"n","against":-1,"document":""}',
    b'{"version":1.5,"node":"n","against":1,"document":""}',
    b'{"version":1,"node":"n","against":1,"document":null}',
    b'{"version":1,"node":"n","against":1,"document":"\\ud800"}',
    json.dumps(
        {"version": 1, "node": "n", "against": 1, "document": "", "signatures": [TWICE, TWICE]}
    ).encode(),
)  # fmt: skip


@pytest.mark.parametrize("payload", BAD)
def test_what_is_no_message(payload: bytes) -> None:
    with pytest.raises((InvalidRequestError, SignatureError)):
        open_envelope(payload, NONE, "n", CAP)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(payload: bytes) -> None:
    try:
        open_envelope(payload, NONE, "n", CAP)
    except EdgedError:
        return


def test_too_long() -> None:
    with pytest.raises(InvalidRequestError, match="max_size allows 10"):
        open_envelope(b"x" * 11, NONE, "n", 10)
