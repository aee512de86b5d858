"""Downloads that break off, drip and lie; each from a real server on a loopback address."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("urllib3")

from edged.errors import BundleError, DeniedError, DigestMismatchError, EdgedError, SourceError
from edged.sources import download
from edged.sources.download import ATTEMPTS, LEAST_RATE, Pace, fetch
from edged.sources.partial import Partial, Wanted
from edged.sources.web import Web
from tests.sources.server import Request, Server

DATA = bytes(range(251)) * 1200
CHUNK = 64 << 10
CHUNKS = [DATA[at : at + CHUNK] for at in range(0, len(DATA), CHUNK)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PLAIN = Wanted(len(DATA), sha(DATA))
CHUNKED = Wanted(len(DATA), sha(DATA), CHUNK, tuple(map(sha, CHUNKS)))


class Downloads:
    def __init__(self, folder: Path, server: Server) -> None:
        self.path, self.server = folder / "x.part", server
        self.slept: list[float] = []

    def run(self, wanted: Wanted = PLAIN, timeout_s: float = 5.0, **more: object) -> bytes:
        pace = Pace(0, 60.0, sleep=self.slept.append)
        with Partial(self.path, wanted) as part:
            web = Web(self.server.url, timeout_s=timeout_s)
            fetch(web, self.server.url + "/x", part, pace, **more)  # type: ignore[arg-type]
            return part.finish().read_bytes()


@pytest.fixture
def downloads(tmp_path: Path, server: Server) -> Downloads:
    server.files["/x"] = DATA
    server.serve_files(etag='"1"')
    return Downloads(tmp_path, server)


def breaks_off(server: Server, *at: int) -> None:
    """Let the first answers end after so many bytes of the file."""
    ends = list(at)
    rest = server.answer

    def answer(request: Request) -> None:
        if not ends:
            rest(request)
            return
        end = ends.pop(0)
        shown = f"bytes {request.start}-{len(DATA) - 1}/{len(DATA)}"
        status = 206 if "range" in request.headers else 200
        length = len(DATA) - request.start
        request.reply(
            status, DATA[request.start : end],
            content_length=length, content_range=shown, etag='"1"',
        )  # fmt: skip

    server.answer = answer


def test_a_whole_file(downloads: Downloads):
    assert downloads.run() == DATA
    assert downloads.run() == DATA, "what is there already is not asked for"
    assert len(downloads.server.asked) == 1


@pytest.mark.hostile("X10 a file that is cut off at any byte")
@pytest.mark.parametrize("at", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 200_000, len(DATA) - 1])
@pytest.mark.parametrize("wanted", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_cut_off(downloads: Downloads, at: int, wanted: Wanted):
    breaks_off(downloads.server, at)
    assert downloads.run(wanted) == DATA
    first, second = downloads.server.asked
    assert "range" not in first.headers
    assert second.headers.get("range") == (f"bytes={at}-" if at else None)
    assert second.headers.get("if-range") == ('"1"' if at else None)


def test_cut_off_again_and_again_while_it_grows(downloads: Downloads):
    """It comes to its end, and is not asked again at once each time: pauses grow."""
    ends = range(66_000, len(DATA), 66_000)
    breaks_off(downloads.server, *ends)
    assert downloads.run() == DATA
    assert len(downloads.server.asked) == len(ends) + 1
    assert downloads.slept == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("grown", "lasted_s", "slept"),
    [
        (64 << 10, 0.1, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]),
        (4 << 20, 0.1, [0.5] * 8),
        (64 << 10, 12.0, [0.5] * 8),
    ],
    ids=["little", "much", "long"],
)
def test_pauses(monkeypatch: pytest.MonkeyPatch, grown: int, lasted_s: float, slept: list[float]):
    """They grow up to a limit, and begin anew after so much, or so long, in one go."""
    found: list[float] = []
    now = [0.0]
    pace = Pace(0, 60.0, clock=lambda: now[0], sleep=found.append)
    part: Any = SimpleNamespace(at=0, wanted=Wanted(9 * grown, ""), is_whole=False)

    def fetch_once(*_words: object) -> None:
        now[0] += lasted_s
        part.at += grown
        part.is_whole = part.at == part.wanted.size
        if not part.is_whole:
            raise SourceError("it broke off")

    monkeypatch.setattr(download, "_fetch_once", fetch_once)
    fetch(Web("http://x"), "", part, pace)
    assert found == slept


def test_a_byte_a_connection_is_no_growth(downloads: Downloads):
    breaks_off(downloads.server, *range(1, 100))
    with pytest.raises(SourceError, match="bytes are kept for the next attempt"):
        downloads.run()
    assert len(downloads.server.asked) == ATTEMPTS
    downloads.server.serve_files(etag='"1"')
    assert downloads.run() == DATA
    assert downloads.server.asked[-1].headers["range"] == f"bytes={ATTEMPTS}-"


def test_the_process_may_end_between(downloads: Downloads):
    breaks_off(downloads.server, 150_000, *[150_000] * ATTEMPTS)
    with pytest.raises(SourceError, match="150000 of 301200 bytes are kept"):
        downloads.run()
    downloads.server.asked.clear()
    downloads.server.serve_files(etag='"1"')
    assert downloads.run() == DATA
    assert [one.headers["range"] for one in downloads.server.asked] == ["bytes=150000-"]


def test_a_server_that_knows_no_ranges(downloads: Downloads):
    breaks_off(downloads.server, 100_000)
    rest = downloads.server.answer

    def answer(request: Request) -> None:
        request.headers.pop("range", None)
        rest(request)

    downloads.server.answer = answer
    assert downloads.run() == DATA


class TestLies:
    @pytest.mark.hostile("X2 a body without end, or longer than stated")
    @pytest.mark.parametrize("length", [None, len(DATA)], ids=["unstated", "stated"])
    def test_a_body_without_end(self, downloads: Downloads, length: int | None):
        def answer(request: Request) -> None:
            request.reply(200, DATA, content_length=length)
            for _ in range(100):
                request.send(bytes(65536))

        downloads.server.answer = answer
        if length is not None:
            assert downloads.run() == DATA, "what follows the stated length is not read"
            return
        with pytest.raises(DigestMismatchError, match="more comes"):
            downloads.run()
        assert downloads.path.stat().st_size <= len(DATA)
        assert len(downloads.server.asked) == 2

    @pytest.mark.hostile("X1 another length than is stated")
    @pytest.mark.parametrize("size", [1, len(DATA) - 1, len(DATA) + 1, 1 << 40])
    def test_another_length(self, downloads: Downloads, size: int):
        downloads.server.answer = lambda request: request.reply(200, DATA, content_length=size)
        with pytest.raises(DigestMismatchError, match=f"the file has {size} bytes"):
            downloads.run()

    @pytest.mark.hostile("X4 bytes of another digest than stated")
    def test_other_bytes(self, downloads: Downloads):
        downloads.server.files["/x"] = b"?" + DATA[1:]
        with pytest.raises(DigestMismatchError, match="sha256"):
            downloads.run()
        assert downloads.path.stat().st_size == 0

    @pytest.mark.hostile("X4 bytes of another digest than stated")
    def test_other_bytes_in_one_chunk(self, downloads: Downloads):
        bad = bytearray(DATA)
        bad[3 * CHUNK + 5] ^= 1
        downloads.server.files["/x"] = bytes(bad)
        with pytest.raises(DigestMismatchError, match="chunk 4 of 5"):
            downloads.run(CHUNKED)
        downloads.server.files["/x"] = DATA
        assert downloads.run(CHUNKED) == DATA
        asked = [one.headers.get("range") for one in downloads.server.asked]
        assert asked == [None, f"bytes={3 * CHUNK}-", f"bytes={3 * CHUNK}-"]

    @pytest.mark.parametrize(
        "said",
        ["", "bytes 0-1/2", "bytes 100001-301199/301200", "bytes 100000-301199/999999999",
         "bytes 100000-/301200", "lines 1-2/3", "bytes 100000-301198/301200", "9" * 9000],
    )  # fmt: skip
    def test_another_range(self, downloads: Downloads, said: str):
        breaks_off(downloads.server, 100_000)
        rest = downloads.server.answer

        def answer(request: Request) -> None:
            if request.start:
                request.reply(206, DATA[request.start :], content_range=said)
            else:
                rest(request)

        downloads.server.answer = answer
        if said.endswith("/999999999"):
            assert downloads.run() == DATA, "it is another file now: begun anew"
            return
        with pytest.raises(BundleError):
            downloads.run()

    @pytest.mark.hostile("X11 a tag or file that changes between two requests")
    @pytest.mark.parametrize("honours", [True, False], ids=["if-range", "no if-range"])
    def test_the_file_changes(self, downloads: Downloads, honours: bool):
        """Both halves are right for themselves; together they would be nobody's."""
        other = bytes(len(DATA))
        rest = downloads.server.answer

        def answer(request: Request) -> None:
            if not request.start:
                rest(request)
            elif honours:
                request.reply(200, other, etag='"2"')
            else:
                shown = f"bytes {request.start}-{len(other) - 1}/{len(other)}"
                request.reply(206, other[request.start :], content_range=shown, etag='"2"')

        downloads.server.answer = answer
        for wanted in (PLAIN, CHUNKED):
            downloads.path.unlink(missing_ok=True)
            downloads.server.serve_files(etag='"1"')
            breaks_off(downloads.server, 100_000)
            rest, downloads.server.answer = downloads.server.answer, answer
            try:
                got = downloads.run(wanted)
            except DigestMismatchError:
                assert honours, "the tag says so, and all of it is asked for again"
                continue
            assert got == DATA, "it was back when asked for as a whole"

    def test_it_has_less_now(self, downloads: Downloads):
        breaks_off(downloads.server, 100_000)
        rest = downloads.server.answer
        downloads.server.answer = lambda r: r.reply(416) if r.start else rest(r)
        with pytest.raises(SourceError, match="416"):
            downloads.run()

    @pytest.mark.parametrize(("status", "error"), [(403, DeniedError), (404, EdgedError)])
    def test_it_is_not_given(self, downloads: Downloads, status: int, error: type[EdgedError]):
        downloads.server.answer = lambda request: request.reply(status)
        with pytest.raises(error):
            downloads.run()
        assert len(downloads.server.asked) == 1


class TestPauses:
    def test_they_grow(self, downloads: Downloads):
        downloads.server.answer = lambda request: request.reply(500)
        with pytest.raises(SourceError):
            downloads.run()
        assert downloads.slept == [0.5, 1.0, 2.0, 4.0]

    @pytest.mark.parametrize(("asked", "waited"), [("3", [3.0]), ("3600", [])])
    def test_what_is_asked_for(self, downloads: Downloads, asked: str, waited: list[float]):
        rest = downloads.server.answer
        busy = [1]

        def answer(request: Request) -> None:
            if busy:
                busy.pop()
                request.reply(503, retry_after=asked)
            else:
                rest(request)

        downloads.server.answer = answer
        if waited:
            assert downloads.run() == DATA
        else:  # whoever asked us comes back then
            with pytest.raises(SourceError) as refused:
                downloads.run()
            assert refused.value.retry_after_ns == 3600 * 10**9
        assert downloads.slept == waited


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class TestPace:
    def test_no_faster_than_said(self):
        clock = Clock()
        pace = Pace(1000, 30.0, clock, clock.sleep)
        pace.start()
        for _ in range(50):
            pace.took(500)
            clock.now += 0.01
        assert clock.now - 1000 == pytest.approx(25, abs=0.1)

    @pytest.mark.hostile("X3 an answer that drips")
    def test_no_slower_than_can_be(self):
        clock = Clock()
        pace = Pace(0, 30.0, clock, clock.sleep)
        pace.start()

        def take(rate: float, seconds: int) -> None:
            for _ in range(seconds):
                clock.now += 1
                pace.took(int(rate))

        take(LEAST_RATE * 1.1, 600)
        with pytest.raises(SourceError, match="slower than 512 bytes a second"):
            take(LEAST_RATE * 0.5, 61)

    @pytest.mark.hostile("X3 an answer that drips")
    def test_what_dripped_is_kept(self, downloads: Downloads):
        def answer(request: Request) -> None:
            request.reply(200, DATA[:90_000], content_length=len(DATA), etag='"1"')
            downloads.server.drip(request, DATA[90_000:], every_s=5)

        downloads.server.answer = answer

        def give_up(seconds: float) -> None:
            raise KeyboardInterrupt

        web = Web(downloads.server.url, timeout_s=0.3)
        with Partial(downloads.path, PLAIN) as part, pytest.raises(KeyboardInterrupt):
            fetch(web, downloads.server.url + "/x", part, Pace(0, 60.0, sleep=give_up))
        downloads.server.serve_files(etag='"1"')
        assert downloads.run() == DATA
        assert int(downloads.server.asked[-1].headers["range"][6:-1]) >= 90_000


class TestLook:
    @pytest.fixture
    def looks(self) -> list[int]:
        return []

    def test_it_is_asked_until_it_has_seen_enough(self, downloads: Downloads, looks: list[int]):
        def look(part: Partial) -> bool:
            looks.append(part.at)
            return part.at > 0

        assert downloads.run(look=look) == DATA
        assert looks[0] == 0
        assert len([at for at in looks if at]) == 1

    def test_what_it_refuses_is_not_fetched(self, downloads: Downloads):
        look = _refusing(1)
        with pytest.raises(BundleError, match="nobody"):
            downloads.run(look=look)
        assert downloads.path.stat().st_size < len(DATA)


def _refusing(after: int) -> Callable[[Partial], bool]:
    def look(part: Partial) -> bool:
        if part.at >= after:
            raise BundleError("nobody")
        return False

    return look
