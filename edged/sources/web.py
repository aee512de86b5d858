"""Requests to one source over HTTP: what is sent to whom, and how much of an answer is taken.

Decides redirects, logins, caps and time limits, and what a status means. The library below does
none of it by itself: no redirect, no retry, no decompression, no proxy, no cookies. It is imported
with this file, which the daemon never does.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import urllib3
from urllib3.exceptions import HTTPError

from edged.errors import ApplyError, BundleError, DeniedError, NotFoundError, SourceError
from edged.sources.address import Origin, Reach
from edged.sources.deadline import deadline
from edged.version import __version__

MOST_REDIRECTS = 5
_STEP_BYTES = 256 << 10
_MOST_PAUSE_S = 24 * 3600
_LARGEST = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Args:
        data: at most as many bytes as were asked for.
        headers: their names in lower case.
        url: where it came from, after redirects.
    """

    data: bytes
    headers: Mapping[str, str]
    url: str


@dataclass(slots=True)
class Stream:
    """An answer whose body is read in pieces.

    Args:
        status: 200 or 206.
        headers: their names in lower case.
        read: the next piece; empty at the end.
    """

    status: int
    headers: Mapping[str, str]
    read: Callable[[], bytes]


@dataclass(slots=True)
class Web:
    """One source's web server.

    Args:
        url: the source's address, without a slash at the end.
        authorization: header to log in with; empty for none.
        hosts: where else it may send us.
        ca: CA file; None for the system's.
        timeout_s: for connecting, for an answer to begin, for silence in it.
    """

    url: str
    authorization: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    ca: str | None = None
    timeout_s: float = 30.0
    challenge: Callable[[str], str] | None = field(default=None)
    """Asked with what a 401 demands; returns the header to log in with from now on, or ""."""
    _reach: Reach = field(init=False)
    _pool: urllib3.PoolManager = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self._reach = Reach(Origin.of(self.url), self.hosts)
        options: dict[str, object] = {}
        if self.url.startswith("https:"):
            try:
                context = ssl.create_default_context(cafile=self.ca)
            except OSError as exc:
                raise ApplyError(f"{self.ca}: no CA file: {exc.strerror or exc}") from exc
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            options["ssl_context"] = context
        self._pool = urllib3.PoolManager(
            num_pools=4,
            retries=False,
            timeout=urllib3.Timeout(connect=self.timeout_s, read=self.timeout_s),
            headers={"User-Agent": f"edged/{__version__}", "Accept-Encoding": "identity"},
            **options,
        )

    def document(self, url: str, accept: str, cap: int) -> Answer:
        """A small document, whole within twice the time limit.

        Args:
            url: where.
            accept: types that are wanted.
            cap: most bytes of it.

        Raises:
            EdgedError: it is not to be had, or larger.
        """
        headers = {"Accept": accept}
        with (
            deadline(2 * self.timeout_s, _host(url)),
            _worded(url),
            self._response(url, headers) as (response, at),
        ):
            self._expect(response, at, {200})
            length = response.headers.get("Content-Length", "")
            if _LARGEST.fullmatch(length) and int(length) > cap:
                raise BundleError(f"{_host(at)}: a document of {length} bytes; at most {cap}")
            parts, size = [], 0
            while chunk := response.read1(_STEP_BYTES, decode_content=False):
                size += len(chunk)
                if size > cap:
                    raise BundleError(f"{_host(at)}: a document of more than {cap} bytes")
                parts.append(chunk)
            return Answer(b"".join(parts), _plain(response), at)

    @contextlib.contextmanager
    def stream(self, url: str, start: int, etag: str) -> Iterator[Stream]:
        """A large file from a byte on; the caller counts what comes.

        Raises:
            EdgedError: it is not to be had, or broke off.
        """
        headers = {"Accept": "application/octet-stream, */*"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if etag:
                headers["If-Range"] = etag
        with contextlib.ExitStack() as stack:
            with deadline(2 * self.timeout_s, _host(url)):
                response, at = stack.enter_context(self._response(url, headers))
                self._expect(response, at, {200, 206} if start else {200})

            def read() -> bytes:
                with _worded(at), deadline(2 * self.timeout_s, _host(at)):
                    return response.read1(_STEP_BYTES, decode_content=False) or b""

            yield Stream(response.status, _plain(response), read)

    @contextlib.contextmanager
    def _response(
        self, url: str, headers: dict[str, str]
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        """The answer after redirects; one demand to log in is met."""
        at, is_asked = url, False
        for _ in range(MOST_REDIRECTS + 1):
            response = self._ask(at, headers)
            try:
                location = response.headers.get("Location")
                if response.status in (301, 302, 303, 307, 308) and location:
                    at = self._reach.follow(at, location)
                    continue
                demand = response.headers.get("WWW-Authenticate", "")
                if response.status == 401 and not is_asked and self._meet(at, demand):
                    is_asked = True
                    continue
                yield response, at
                return
            finally:
                response.close()
        raise BundleError(f"{_host(url)}: more than {MOST_REDIRECTS} redirects; a circle?")

    def _ask(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        sent = {**self._pool.headers, **headers}
        if self.authorization and Origin.of(url) == self._reach.home:
            sent["Authorization"] = self.authorization
        with _worded(url):
            response = self._pool.request(
                "GET", url, headers=sent, preload_content=False, decode_content=False,
                redirect=False, retries=False,
            )  # fmt: skip
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            response.close()
            raise BundleError(
                f"{_host(url)}: compressed ({coding[:20]!r}), which was not asked for"
            )
        return response

    def _meet(self, url: str, demand: str) -> bool:
        if self.challenge is None or Origin.of(url) != self._reach.home:
            return False
        login = self.challenge(demand)
        self.authorization = login or self.authorization
        return bool(login)

    def _expect(self, response: urllib3.BaseHTTPResponse, url: str, wanted: set[int]) -> None:
        if response.status not in wanted:
            _refuse(response.status, response.headers.get("Retry-After", ""), url)


def pause_s(text: str, now: float) -> float:
    """Seconds that a Retry-After asks for, within a day; 0 for none that can be read."""
    text = text.strip()
    if _LARGEST.fullmatch(text):
        return float(min(int(text), _MOST_PAUSE_S))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        until = email.utils.parsedate_to_datetime(text[:64]).timestamp()
        return min(max(until - now, 0.0), float(_MOST_PAUSE_S))
    return 0.0


def _refuse(status: int, retry_after: str, url: str) -> NoReturn:
    host = _host(url)
    if status in (401, 403):
        raise DeniedError(
            f"{host}: it does not let us in ({status}); see username, password and token of the "
            "source"
        )
    if status in (404, 410):
        raise NotFoundError(f"{host}: nothing of that name and tag is there ({status})")
    if status == 416:
        raise SourceError(f"{host}: it has less than was fetched before ({status})")
    if status in (408, 425, 429) or status >= 500:
        pause = pause_s(retry_after, time.time())
        raise SourceError(
            f"{host}: not now ({status})"
            + (f"; to be asked again in {pause:.0f} s" if pause else ""),
            retry_after_ns=int(pause * 1e9),
        )
    raise BundleError(f"{host}: an answer that is of no use to us ({status})")


@contextlib.contextmanager
def _worded(url: str) -> Iterator[None]:
    """What the library and the kernel say, in our words."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as exc:
        cause: BaseException = exc
        while cause.__cause__ is not None or cause.__context__ is not None:
            cause = cause.__cause__ or cause.__context__ or cause
        said = str(cause)[:200].replace("\n", " ") or type(cause).__name__
        raise SourceError(f"{_host(url)}: {said}") from exc


def _plain(response: urllib3.BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _host(url: str) -> str:
    """For messages: the rest of an address may be a signed one, and so a secret."""
    origin = Origin.of(url)
    return origin.host if origin.port in (80, 443) else f"{origin.host}:{origin.port}"
