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
from tests.models import classifier, same

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


def in_flight(daemon: Generating) -> int:
    lines = daemon.status()["releases"]
    return int(next(one["in_flight"] for one in lines if one["model"] == "story"))


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
