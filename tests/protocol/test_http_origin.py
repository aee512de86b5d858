"""Pages in a browser are told from programs; a name that was pointed here is none of ours."""

from __future__ import annotations

import pytest

from edged.protocol.http_origin import is_local_host, page_trouble


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]",
        "[::1]:80",
    ],
)
def test_this_machine(host: str) -> None:
    assert is_local_host(host)
    assert page_trouble({"host": host}, is_loopback=True) == ""


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io",
        "0.0.0.0", "[::]", "192.168.1.4:8000", "[fe80::1]", "[", "127.1", "2130706433",
    ],
)  # fmt: skip
def test_any_other_name(host: str) -> None:
    assert not is_local_host(host)
    assert "Host header" in page_trouble({"host": host}, is_loopback=True)
    assert page_trouble({"host": host}, is_loopback=False) == ""


def test_old_clients_send_no_host() -> None:
    assert page_trouble({}, is_loopback=True) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": ""},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-origin"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_loopback", [True, False])
def test_a_page(headers: dict[str, str], is_loopback: bool) -> None:
    assert "web page" in page_trouble(headers, is_loopback=is_loopback)


def test_who_types_an_address_is_no_page() -> None:
    assert page_trouble({"sec-fetch-site": "none"}, is_loopback=True) == ""
