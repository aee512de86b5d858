"""Where a source may send us, and where it may not."""

from __future__ import annotations

import pytest

from edged.errors import BundleError
from edged.sources.address import Origin, Reach

HOME = Origin.of("https://r.example")
REACH = Reach(HOME, ("cdn.example", "*.store.example"))


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/x", "https://r.example/v2/x"),
        ("//r.example/x", "https://r.example/x"),
        ("https://R.EXAMPLE:443/x", "https://R.EXAMPLE:443/x"),
        ("https://r.example:8443/x", "https://r.example:8443/x"),
        ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
        ("https://a.b.store.example/x", "https://a.b.store.example/x"),
    ],
)
def test_where_to(location: str, target: str):
    assert REACH.follow("https://r.example/v2/", location) == target


@pytest.mark.parametrize(
    "location",
    [
        "http://r.example/x", "http://cdn.example/x", "https://evil.example/", "file:///etc/passwd",
        "ftp://r.example/", "https://user@r.example/", "https://r.example@evil.example/",
        "https://evil.example\\@r.example/", "https://cdn.example.evil/", "https://store.example/",
        "https://xcdn.example/", "https://127.0.0.1/", "https://[::1]/", "https://[bad",
        "https://r.example:99999/", "https://r.example/\nx", "https://r.example/ x",
        "https://r.example/é", "https://u:p@/x", "https://r.example/" + "x" * 9000,
    ],
)  # fmt: skip
def test_where_not_to(location: str):
    with pytest.raises(BundleError):
        REACH.follow("https://r.example/v2/", location)


def test_a_source_without_tls_keeps_to_itself():
    reach = Reach(Origin.of("http://127.0.0.1:5000"))
    assert reach.follow("http://127.0.0.1:5000/a", "/b") == "http://127.0.0.1:5000/b"
    with pytest.raises(BundleError, match="without TLS"):
        reach.follow("http://127.0.0.1:5000/a", "http://127.0.0.1:6000/b")


def test_a_login_belongs_to_scheme_host_and_port():
    assert Origin.of("https://R.example/x") == HOME == Origin.of("https://r.example:443")
    assert Origin.of("https://r.example:444") != HOME
    assert Origin.of("http://r.example:443") != HOME
