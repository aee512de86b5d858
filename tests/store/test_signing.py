"""The one form that signatures have, and what is said of any other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError, SignatureError
from edged.store import signing


def canonical(entries: list[dict[str, str]]) -> bytes:
    return json.dumps({"signatures": entries}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "signatures.json"),
        (b"{}", "signatures"),
        (b'{"signatures":[],"x":1}', "x"),
        (b'{"signatures": []}', "canonical"),
        (b'{"signatures":[{"key":"k","signature":"!"}]}', "base64"),
        (b'{"signatures":[{"key":"k","signature":"AAAA"}]}', "3 bytes"),
        (b" " * (65 << 10), "limit"),
        (canonical([{"key": f"{i:02}", "signature": ""} for i in range(17)]), "limit is 16"),
        (canonical([{"key": k, "signature": ""} for k in ("b", "a")]), "sorted"),
    ],
)
def test_malformed(data: bytes, message: str):
    with pytest.raises(SignatureError, match=message):
        signing.parse_signatures(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_raises_our_errors_only(noise: bytes):
    try:
        signing.parse_signatures(noise)
    except EdgedError:
        return
