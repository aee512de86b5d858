"""What an operator says about sources of bundles, and how a reference to one is written.

Words, and the checks between them. No source is there unless the operator names one, and nothing
that a peer, a bundle or a message says is ever fetched.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta

from edged.config.broker import Secret
from edged.config.problems import did_you_mean, field_path, quote
from edged.config.section import Path, Section
from edged.errors import InvalidRequestError
from edged.specs import Duration, Size

SourceName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]
PullReference = Annotated[str, Meta(min_length=3, max_length=512)]
Url = Annotated[str, Meta(pattern=r"^https?://[!-~]{1,500}\Z")]
HostPattern = Annotated[str, Meta(pattern=r"^(\*\.)?[A-Za-z0-9][A-Za-z0-9.:-]{0,252}\Z")]

_COMPONENT = r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*"
_REFERENCE = re.compile(
    rf"([a-z0-9][a-z0-9_-]{{0,31}})/({_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_LONGEST_NAME = 255
_SECOND = 10**9
_MOST_BYTES = 4 << 30
"""A bundle is below 4 GiB: its offsets have 32 bits."""


class SourceConfig(Section, frozen=True, kw_only=True):
    """A place that bundles are fetched from; what comes is held to ``trust`` as any other."""

    kind: Annotated[
        Literal["oci", "mirror"],
        Meta(description="oci: a registry; mirror: files on a web server, docs/sources.md"),
    ]
    url: Annotated[Url, Meta(description="https://HOST[:PORT], of a mirror with its folder")]
    username: Annotated[str | None, Meta(description="name to log in with; default: anonymous")] = (
        None
    )
    password: Secret | None = None
    token: Annotated[
        Secret | None, Meta(description="sent as it is (Bearer), in place of name and password")
    ] = None
    token_server: Annotated[
        Url | None,
        Meta(
            description="https://HOST of another host that may be shown name and password, where a "
            "registry sends us there; default: none"
        ),
    ] = None
    hosts: Annotated[
        tuple[HostPattern, ...],
        Meta(
            max_length=16,
            description="other hosts that we may be sent on to, without what we log in with; "
            "names, or *.example.com",
        ),
    ] = ()
    ca: Annotated[Path | None, Meta(description="CA file; default: the system's")] = None
    insecure: Annotated[
        bool, Meta(description="true: without TLS, on this very machine (a loopback address) only")
    ] = False
    poll: Annotated[
        Duration,
        Meta(description="how often models with pull are asked for, give or take a tenth"),
    ] = Duration(3600 * _SECOND)
    timeout: Annotated[
        Duration, Meta(description="for connecting, for an answer to begin, and for silence in it")
    ] = Duration(30 * _SECOND)
    max_bytes: Annotated[
        Size, Meta(description="most bytes of one bundle; a larger one is not begun")
    ] = Size(1 << 30)
    rate: Annotated[
        Size | None, Meta(description="most bytes a second of a download; default: no limit")
    ] = None


class Reference(NamedTuple):
    """What is asked of which source.

    Args:
        source: its name in the configuration.
        name: of the repository in the registry, or of the model on the mirror.
        tag: which of them; of no meaning beside a digest.
        digest: ``sha256:HEX``; empty for whatever the tag means.
    """

    source: str
    name: str
    tag: str
    digest: str

    def __str__(self) -> str:
        shown = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.source}/{self.name}{shown}"


def parse_reference(text: str) -> Reference:
    """``SOURCE/NAME[:TAG][@sha256:HEX]``, the tag being ``latest`` unless said.

    Raises:
        InvalidRequestError: it is written in another way.
    """
    match = _REFERENCE.fullmatch(text) if len(text) <= 1024 else None
    if match is None or len(match[2]) > _LONGEST_NAME:
        raise InvalidRequestError(
            f"{quote(text)}: expected SOURCE/NAME[:TAG][@sha256:DIGEST], such as "
            "factory/digits:stable, with a SOURCE of the configuration"
        )
    return Reference(match[1], match[2], match[3] or "latest", match[4] or "")


def source_problems(
    sources: Mapping[str, SourceConfig], models: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    for name, source in sources.items():
        yield from _problems_of(source, field_path("sources", name))
    for name, model in models.items():
        if model.pull is None:
            continue
        path = f"{field_path('models', name)}.pull"
        try:
            wanted = parse_reference(model.pull)
        except InvalidRequestError as exc:
            yield path, exc.message
            continue
        if wanted.source not in sources:
            known = sorted(sources)
            near, listed = did_you_mean(wanted.source, known), ", ".join(known) or "none"
            yield path, f"no source is named {quote(wanted.source)}{near}; sources: {listed}"


def source_files(sources: Mapping[str, SourceConfig]) -> Iterator[tuple[str, str]]:
    """Field paths, and the files that they name."""
    for name, source in sources.items():
        path = field_path("sources", name)
        if source.ca is not None:
            yield f"{path}.ca", source.ca
        for field in ("password", "token"):
            secret = getattr(source, field)
            if secret is not None and secret.file is not None:
                yield f"{path}.{field}.file", secret.file


def _problems_of(source: SourceConfig, path: str) -> Iterator[tuple[str, str]]:
    found = list(_address(source.url, f"{path}.url", insecure=source.insecure))
    yield from found
    if not found and source.kind == "oci" and urlsplit(source.url).path.strip("/"):
        yield f"{path}.url", "names a registry, which has no folder; it belongs into the reference"
    if source.token_server is not None:
        yield from _address(source.token_server, f"{path}.token_server", insecure=source.insecure)
        if source.kind == "mirror":
            yield f"{path}.token_server", "is of no use: only registries send us there; remove it"
    if (source.username is None) != (source.password is None):
        yield path, "needs both username and password to log in, or neither"
    if source.token is not None and source.password is not None:
        yield f"{path}.token", "is of no use beside a password; remove one of the two"
    for field in ("password", "token"):
        secret = getattr(source, field)
        if secret is not None and (secret.secret is None) == (secret.file is None):
            yield f"{path}.{field}", "needs exactly one of secret: NAME and file: PATH"
    if source.insecure and source.ca is not None:
        yield f"{path}.ca", "is of no use without TLS; remove it, or insecure"
    ranges = (
        ("poll", 10 * _SECOND, 30 * 24 * 3600 * _SECOND, "10s to 720h"),
        ("timeout", _SECOND, 600 * _SECOND, "1s to 10min"),
        ("max_bytes", 1 << 10, _MOST_BYTES, "1KiB to 4GiB"),
        ("rate", 1 << 10, 1 << 40, "at least 1KiB, or leave it out"),
    )
    for field, low, high, words in ranges:
        value = getattr(source, field)
        if value is not None and not low <= value <= high:
            yield f"{path}.{field}", f"is outside what can work; expected {words}"


def _address(url: str, path: str, *, insecure: bool) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as exc:
        yield path, f"is no address: {exc}"
        return
    if not host:
        yield path, "names no host; expected https://HOST[:PORT]"
    elif "@" in parts.netloc:
        yield path, "holds a name or password; write username, and password: {secret: NAME}"
    elif parts.query or parts.fragment:
        yield path, "has a ? or #; expected https://HOST[:PORT] and a folder at most"
    elif parts.scheme == "http" and not insecure:
        yield path, "is without TLS; write https://, or insecure: true on this very machine"
    elif parts.scheme == "http" and not is_loopback(host):
        yield path, f"is without TLS, and {quote(host)} is not a loopback address; write https://"
    elif parts.scheme == "https" and insecure:
        yield path, "is with TLS, which insecure: true contradicts; remove one of the two"


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine by its address; names could be anybody's, but one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
