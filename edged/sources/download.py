"""A large file from a source, from the byte on where the last attempt ended.

Decides how often to try again, how fast to read, and when a source is too slow to wait for. What
came stays on disk when it breaks off.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edged.errors import BundleError, DigestMismatchError, SourceError
from edged.sources.partial import Partial
from edged.sources.web import Stream, Web

ATTEMPTS = 5
"""In a row without a byte between them; the next is somebody's next call."""
_FIRST_PAUSE_S = 0.5
"""Twice as long after each time that it breaks off, up to ``_LONGEST_WAIT_S``."""
_PROGRESS_BYTES = 64 << 10
"""Less than this between two failures counts as none: a byte a connection is no download."""
_FLOW_BYTES = 4 << 20
"""So much in one go, or as long as the longest pause, and pauses begin anew. Less does not: a
source that breaks off after each few kilobytes would be asked thousands of times without one."""
_LONGEST_WAIT_S = 10.0
"""A source that asks for more is asked again later, by whoever asked us."""
LEAST_RATE = 512
"""Bytes a second. Slower than the slowest line that brings a bundle within a week."""
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", re.ASCII)


@dataclass(slots=True)
class Pace:
    """How fast it may go, and must.

    Args:
        most: bytes a second; 0 for as fast as it comes.
        window_s: in each of these at least ``LEAST_RATE`` a second must come.
        clock: seconds.
        sleep: waits them.
    """

    most: int
    window_s: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _began: float = field(default=0.0, init=False)
    _bytes: int = field(default=0, init=False)
    _window_began: float = field(default=0.0, init=False)
    _window_bytes: int = field(default=0, init=False)

    def start(self) -> None:
        """A body begins."""
        self._began = self._window_began = self.clock()
        self._bytes = self._window_bytes = 0

    def took(self, count: int) -> None:
        """Bytes came; waits where they came too fast.

        Raises:
            SourceError: they come too slowly.
        """
        self._bytes += count
        self._window_bytes += count
        now = self.clock()
        if now - self._window_began >= self.window_s:
            if self._window_bytes < LEAST_RATE * (now - self._window_began):
                raise SourceError(
                    f"slower than {LEAST_RATE} bytes a second for {self.window_s:g} s"
                )
            self._window_began, self._window_bytes = now, 0
        if self.most:
            ahead = self._bytes / self.most - (now - self._began)
            if ahead > 0:
                self.sleep(ahead)
                # Waiting was our wish: it is not held against the source.
                self._window_began += ahead


Look = Callable[[Partial], bool]
"""Looks at what is there of a file, and raises what is wrong; whether it has seen enough."""


def fetch(web: Web, url: str, part: Partial, pace: Pace, look: Look | None = None) -> None:
    """Bring a file to its end.

    Args:
        web: the source.
        url: of the file.
        part: what is there of it.
        pace: how fast.
        look: asked as it grows, so that nothing more is fetched of what will be refused anyway.

    Raises:
        SourceError: the source is away or breaks off; what came stays.
        DigestMismatchError: what comes is not what was stated, twice.
        EdgedError: it does not give it, or the disk does not take it.
    """
    failures = damaged = breaks = 0
    seen = _Seen(part, look)
    while not part.is_whole:
        before, begun = part.at, pace.clock()
        try:
            _fetch_once(web, url, part, pace, seen)
        except DigestMismatchError:
            # Once: a chunk can be damaged on its way, and an old part can be of another state.
            damaged += 1
            if damaged > 1:
                raise
        except SourceError as exc:
            grown, lasted_s = part.at - before, pace.clock() - begun
            is_growing = grown >= _PROGRESS_BYTES
            failures = 0 if is_growing else failures + 1
            is_flowing = grown >= _FLOW_BYTES or (is_growing and lasted_s >= _LONGEST_WAIT_S)
            breaks = 0 if is_flowing else breaks
            pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(breaks, 10), _LONGEST_WAIT_S)
            breaks += 1
            wait_s = max(pause_s, exc.retry_after_ns / 1e9)
            if failures >= ATTEMPTS or wait_s > _LONGEST_WAIT_S:
                kept = f"; {part.at} of {part.wanted.size} bytes are kept for the next attempt"
                message = exc.message + (kept if part.at else "")
                raise SourceError(message, retry_after_ns=exc.retry_after_ns) from exc
            pace.sleep(wait_s)


class _Seen:
    """Asks ``look`` until it has seen enough; what is there already is shown first."""

    def __init__(self, part: Partial, look: Look | None) -> None:
        self._part, self._look = part, look
        self.check()

    def check(self) -> None:
        if self._look is not None and self._look(self._part):
            self._look = None


def _fetch_once(web: Web, url: str, part: Partial, pace: Pace, seen: _Seen) -> None:
    with web.stream(url, part.at, part.etag) as stream:
        _place(stream, part)
        if not part.at or not part.etag:
            part.remember(stream.headers.get("etag", ""))
        pace.start()
        while chunk := stream.read():
            part.append(chunk)
            seen.check()
            pace.took(len(chunk))
    if not part.is_whole:
        raise SourceError(f"it broke off after {part.at} of {part.wanted.size} bytes")


def _place(stream: Stream, part: Partial) -> None:
    """Whether what comes begins where we are; a source may begin anew."""
    length = stream.headers.get("content-length", "")
    if stream.status == 200:
        part.restart()
        stated = int(length) if length.isascii() and length.isdecimal() else part.wanted.size
        if stated != part.wanted.size:
            raise DigestMismatchError(
                f"the file has {stated} bytes; {part.wanted.size} are stated for it"
            )
        return
    etag = stream.headers.get("etag", part.etag)
    if part.etag and etag.startswith('"') and etag != part.etag:
        part.restart()
        raise DigestMismatchError("the file was changed between two requests")
    match = _RANGE.fullmatch(stream.headers.get("content-range", "").strip())
    wanted = (part.at, part.wanted.size - 1)
    if match is None or (int(match[1]), int(match[2])) != wanted:
        shown = stream.headers.get("content-range", "none")[:60]
        raise BundleError(f"asked for the bytes {wanted[0]}-{wanted[1]}; what comes is {shown!r}")
    if match[3] not in ("*", str(part.wanted.size)):
        part.restart()
        raise DigestMismatchError(
            f"the file has {match[3]} bytes now; {part.wanted.size} are stated for it"
        )
