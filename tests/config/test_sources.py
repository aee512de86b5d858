"""Sources as an operator writes them, and references as they are written anywhere."""

from __future__ import annotations

import pytest

from edged.config.broker import Secret
from edged.config.schema import ModelConfig
from edged.config.sources import (
    Reference,
    SourceConfig,
    is_loopback,
    parse_reference,
    source_files,
    source_problems,
)
from edged.errors import InvalidRequestError
from edged.specs import Duration, Size

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("factory/digits", ("factory", "digits", "latest", "")),
        ("factory/digits:stable", ("factory", "digits", "stable", "")),
        ("f/bundles/line-3/digits:1.0", ("f", "bundles/line-3/digits", "1.0", "")),
        (f"f/digits@{DIGEST}", ("f", "digits", "latest", DIGEST)),
        (f"f/digits:3@{DIGEST}", ("f", "digits", "3", DIGEST)),
    ],
)
def test_references(text: str, expected: tuple[str, ...]):
    reference = parse_reference(text)
    assert reference == Reference(*expected)
    assert parse_reference(str(reference))[:2] == expected[:2]


@pytest.mark.parametrize(
    "text",
    [
        "", "digits", "factory/", "/digits", "factory/../x", "factory/a/../x", "factory//x",
        "factory/x:", "factory/x:..", "factory/x/", "Factory/x", "factory/x@sha256:12",
        f"factory/x@{DIGEST.upper()}", "factory/x?y=1", "factory/x#y", "factory/x y", "factory/x\n",
        "factory/%2e%2e", "factory/" + "x" * 256, "https://evil.example/x", "f/x" * 600,
    ],
)  # fmt: skip
def test_what_is_no_reference(text: str):
    with pytest.raises(InvalidRequestError, match="expected SOURCE/NAME"):
        parse_reference(text)


def problems(models: dict[str, ModelConfig] | None = None, **fields: object) -> dict[str, str]:
    source = SourceConfig(**{"kind": "oci", "url": "https://r.example", **fields})  # type: ignore[arg-type]
    return dict(source_problems({"r": source}, models or {}))


SECRET = Secret(secret="s")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "https://r.example:5000/"},
        {"kind": "mirror", "url": "https://r.example/bundles"},
        {"url": "http://127.0.0.1:5000", "insecure": True},
        {"url": "http://[::1]:5000", "insecure": True},
        {"username": "u", "password": SECRET, "token_server": "https://auth.example"},
        {"token": Secret(file="t")},
    ],
)
def test_what_works(fields: dict[str, object]):
    assert problems(**fields) == {}


@pytest.mark.parametrize(
    ("fields", "path", "text"),
    [
        ({"url": "http://r.example"}, "sources.r.url", "is without TLS"),
        ({"url": "http://r.example", "insecure": True}, "sources.r.url", "no"),
        ({"url": "http://10.0.0.1", "insecure": True}, "sources.r.url", "not a loopback"),
        ({"url": "http://127.0.0.1.example", "insecure": True}, "sources.r.url", "not a loopback"),
        ({"insecure": True}, "sources.r.url", "contradicts"),
        ({"url": "https://u:p@r.example"}, "sources.r.url", "holds a name or password"),
        ({"url": "https://r.example/x"}, "sources.r.url", "has no folder"),
        ({"url": "https://r.example?x"}, "sources.r.url", "has a ?"),
        ({"url": "https://r.example:99999"}, "sources.r.url", "is no address"),
        ({"url": "https://[r"}, "sources.r.url", "is no address"),
        ({"url": "https:///x"}, "sources.r.url", "names no host"),
        ({"token_server": "http://auth.example"}, "sources.r.token_server", "without TLS"),
        ({"kind": "mirror", "token_server": "https://a"}, "sources.r.token_server", "of no use"),
        ({"username": "u"}, "sources.r", "needs both"),
        ({"password": SECRET}, "sources.r", "needs both"),
        ({"username": "u", "password": SECRET, "token": SECRET}, "sources.r.token", "of no use"),
        ({"token": Secret()}, "sources.r.token", "exactly one of"),
        ({"url": "http://[::1]", "insecure": True, "ca": "c"}, "sources.r.ca", "without TLS"),
        ({"poll": Duration(10**9)}, "sources.r.poll", "expected 10s to 720h"),
        ({"timeout": Duration(0)}, "sources.r.timeout", "expected 1s to 10min"),
        ({"max_bytes": Size(5 << 30)}, "sources.r.max_bytes", "expected 1KiB to 4GiB"),
        ({"rate": Size(1)}, "sources.r.rate", "expected at least 1KiB"),
    ],
)
def test_what_does_not(fields: dict[str, object], path: str, text: str):
    found = problems(**fields)
    assert text in found[path], found


def test_a_model_names_a_source_that_there_is():
    def of(pull: str) -> dict[str, str]:
        return problems({"m": ModelConfig(bundle="b", pull=pull)})

    assert of("r/x:1") == {}
    assert "expected SOURCE/NAME" in of("r")["models.m.pull"]
    assert 'no source is named "rr" (did you mean "r"?); sources: r' in of("rr/x")["models.m.pull"]


def test_files():
    source = SourceConfig(
        kind="oci", url="https://r", ca="ca.pem", password=Secret(file="p"), token=SECRET
    )
    assert dict(source_files({"r": source})) == {
        "sources.r.ca": "ca.pem",
        "sources.r.password.file": "p",
    }


def test_loopback():
    assert is_loopback("localhost")
    assert is_loopback("127.3.2.1")
    assert not is_loopback("localhost.example")
    assert not is_loopback("0.0.0.0")
