"""Generate over HTTP from a real daemon, as curl and Python's own client ask: texts and other models."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged import Client
from tests.bundles import make_bundle
from tests.compat.stand import OipDaemon
from tests.e2e.process import wait_for
from tests.fakes import texts
from tests.fakes.texts import greedy
from tests.fakes.web import Visitor
from tests.models import classifier, double, same

CURL = shutil.which("curl")
pytestmark = pytest.mark.slow

BODY = """\
trust: {require_signatures: false}
models:
  story:
    bundle: story-*.edgb
    runtime: [onnxruntime-genai]
    isolation: model
    generation: {max_new_tokens: 15000, max_prompt: 100}
  sorter: {bundle: sorter-2.edgb}
  text: {bundle: text-1.edgb}
  twice: {bundle: twice-1.edgb}
pipelines:
  lines:
    inputs: {x: "float32[n,4]"}
    steps:
    - {name: line, each: {from: x}}
    - {name: doubled, model: twice, inputs: line}
    - {name: all, gather: {from: doubled}}
    - {name: most, compute: max(all)}
    outputs: {y: all, most: most}
    stream: [y]
    max_rows: 20
"""
ENDLESS = "a"
STORY = "/v2/models/story/generate"
ASK = {"text_input": texts.PROMPT, "max_tokens": 24, "bad_words": "", "stop_words": ""}
LONG = json.dumps({"text_input": ENDLESS, "parameters": {"max_tokens": 15000}}).encode()


class Generating(OipDaemon):
    @property
    def web(self) -> Path:
        return self.directory / "h"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generating]:
    texts.needs_package()
    folder = tmp_path_factory.mktemp("generate")
    texts.make_text_bundle(folder / "story-1.edgb", context=16384)
    make_bundle(folder / "sorter-2.edgb", classifier(), name="sorter", release=2)
    make_bundle(folder / "text-1.edgb", same("string"), name="text")
    make_bundle(folder / "twice-1.edgb", double(), name="twice")
    made = Generating(folder)
    made.place = f"path: {made.web}"
    made.write(BODY)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def visitor(daemon: Generating) -> Iterator[Visitor]:
    made = Visitor(daemon.web)
    yield made
    made.close()


def in_flight(daemon: Generating, model: str = "story") -> int:
    lines = daemon.status()["releases"]
    return int(next(one["in_flight"] for one in lines if one["model"] == model))


def settled(daemon: Generating) -> int:
    """How many rows the pipeline's model has run, once it runs no more for now."""
    counts: list[int] = [-1]

    def rests() -> bool:
        lines = daemon.status()["releases"]
        counts.append(next(one["requests"] for one in lines if one["model"] == "twice"))
        return counts[-1] == counts[-2]

    wait_for(rests, every=0.3)
    return counts[-1]


def curl(daemon: Generating, path: str, document: Any) -> bytes:
    command = [str(CURL), "-sS", "-N", "--max-time", "60", "--unix-socket", str(daemon.web)]
    done = subprocess.run(
        [*command, f"http://localhost{path}", "-d", json.dumps(document)],
        capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout


def events(data: bytes) -> list[dict[str, Any]]:
    lines = data.split(b"\n\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"data: ") for line in lines)
    return [json.loads(line[6:]) for line in lines]


def test_whole(visitor: Visitor) -> None:
    status, document = visitor.ask("POST", STORY, json.dumps(ASK).encode())
    assert status == 200
    assert (document["model_name"], document["model_version"]) == ("story", "1")
    made = greedy()
    assert (document["text_output"], document["tokens"]) == (made.text, made.tokens)
    assert document["finish"] == made.finish


def test_piece_by_piece(visitor: Visitor) -> None:
    for _ in range(2):  # over one connection
        visitor.request("POST", f"{STORY}_stream", json.dumps({**ASK, "id": "mine"}).encode())
        response = visitor.getresponse()
        assert response.headers.get_content_type() == "text/event-stream"
        found = events(response.read())
        assert "".join(one["text_output"] for one in found) == greedy().text
        assert [token for one in found for token in one["tokens"]] == greedy().tokens
        assert ["finish" in one for one in found] == [False] * (len(found) - 1) + [True]
        assert {one["id"] for one in found} == {"mine"}


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl(daemon: Generating) -> None:
    assert json.loads(curl(daemon, STORY, ASK))["text_output"] == greedy().text
    found = events(curl(daemon, f"{STORY}_stream", ASK))
    assert "".join(one["text_output"] for one in found) == greedy().text
    answer = json.loads(
        curl(daemon, "/v2/models/sorter/generate", {"features": [0, 1, 2, 3, 4, 5]})
    )
    assert sum(answer["probabilities"]) == pytest.approx(1)
    assert answer["label"] in range(3)
    words = ["a", "äö", ""]
    assert json.loads(curl(daemon, "/v2/models/text/generate", {"x": words}))["y"] == words
    (only,) = events(curl(daemon, "/v2/models/text/generate_stream", {"x": words}))
    assert only["y"] == words


def test_the_first_comes_long_before_the_last(daemon: Generating, visitor: Visitor) -> None:
    """And a client that goes in the middle ends what is made for it."""
    visitor.request("POST", f"{STORY}_stream", LONG)
    response = visitor.getresponse()
    assert response.readline().startswith(b"data: ")
    assert in_flight(daemon) == 1
    visitor.close()
    response.close()
    wait_for(lambda: not in_flight(daemon))
    with Client(daemon.socket, timeout=60) as client:
        assert texts.whole(client.infer("story", texts.ask(max_new_tokens=24))) == greedy()


def test_a_client_that_goes_before_the_answer(daemon: Generating, visitor: Visitor) -> None:
    visitor.request("POST", STORY, LONG)
    wait_for(lambda: in_flight(daemon) == 1)
    visitor.close()
    wait_for(lambda: not in_flight(daemon))


def test_a_pipeline_that_answers_for_each_item(visitor: Visitor) -> None:
    body = json.dumps({"x": [[1, 2, 3, 4], [5, 6, 7, 8]]}).encode()
    visitor.request("POST", "/v2/models/lines/generate_stream", body)
    *items, last = events(visitor.getresponse().read())
    assert [one["y"] for one in items] == [[2, 4, 6, 8], [10, 12, 14, 16]]
    assert last["most"] == 16
    status, document = visitor.ask("POST", "/v2/models/lines/generate", body)
    assert (status, document["most"]) == (200, 16)
    assert document["y"] == [2, 4, 6, 8, 10, 12, 14, 16]


def test_a_reader_that_stops_is_waited_for(daemon: Generating, visitor: Visitor) -> None:
    """Items are made as they are read; what is read late is whole, and one that goes ends the rest."""
    rows = 1024
    values = [float(one) for one in range(4 * rows)]
    body = json.dumps({"x": values, "id": "i" * 1024}).encode()  # a megabyte of events
    made = settled(daemon)
    for is_read in (True, False):
        visitor.request("POST", "/v2/models/lines/generate_stream", body)
        response = visitor.getresponse()
        assert response.status == 200
        before = made
        made = settled(daemon)
        assert made - before < rows * 3 // 4  # the socket is full, so the rest waits
        assert in_flight(daemon, "lines") == 1
        if is_read:
            *items, last = events(response.read())
            assert [one["y"][0] for one in items] == [8.0 * row for row in range(rows)]
            assert last["most"] == 2 * (4 * rows - 1)
            made = settled(daemon)
            assert made - before == rows
        response.close()
    visitor.close()
    wait_for(lambda: in_flight(daemon, "lines") == 0)


def test_late(visitor: Visitor) -> None:
    document = {"text_input": ENDLESS, "parameters": {"timeout": 300_000}}
    status, answer = visitor.ask("POST", STORY, json.dumps(document).encode())
    assert status == 503
    assert answer["error"].startswith("Request timeout expired")
    visitor.request("POST", f"{STORY}_stream", json.dumps(document).encode())
    response = visitor.getresponse()
    data = response.read()
    # On a busy machine no token may come in time; then there is a status to say so.
    last = events(data)[-1] if response.status == 200 else json.loads(data)
    assert last["error"].startswith("Request timeout expired")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "Unable to parse"),
        (b'{"text_input": "a", "temprature": 1}', 400, "temprature"),
        (b'{"text_input": "a", "max_tokens": 0}', 400, "max_new_tokens"),
        (b'{"text_input": "' + b"x" * 300 + b'"}', 400, "at most 100 are taken"),
        (b'{"text_input": "' + b"x" * (70 << 20) + b'"}', 413, "limits.max_request"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}", 400, "unknown field"),
        (b'{"text_input": ' + b"[" * 1_000_000, 400, "Unable to parse"),
    ],
    ids=["cut off", "misspelt", "no tokens", "long prompt", "huge", "a million names", "deep"],
)
@pytest.mark.parametrize("path", [STORY, f"{STORY}_stream"])
def test_hostile(visitor: Visitor, path: str, body: bytes, status: int, words: str) -> None:
    try:
        found, document = visitor.ask("POST", path, body)
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413  # it is told, and cut off while it still sends
    else:
        assert (found, words in document["error"]) == (status, True), document
    visitor.close()
    found, document = visitor.ask("POST", STORY, json.dumps(ASK).encode())
    assert (found, document["text_output"]) == (200, greedy().text)
