"""Texts from a real daemon: whole, piece by piece, withdrawn, late, several at once, through reloads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from edged import Client, generating
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    RuntimeFailureError,
)
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes import texts
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.texts import ask, greedy, whole

BODY = """\
trust: {require_signatures: false}
models:
  story:
    bundle: story-*.edgb
    runtime: [onnxruntime-genai]
    isolation: model
    batching: {instances: 2}
    generation: {max_new_tokens: MOST, max_prompt: 100}
"""
CONTEXT, LONG = 16384, 15000
"""Tokens that take a good while beside what else a test does."""
ENDLESS = "a"
"""After it the model goes on to the end of the context; after others it comes to an end."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts.needs_package()
    path = tmp_path_factory.mktemp("texts")
    texts.make_text_bundle(path / "story-1.edgb", context=CONTEXT)
    return path


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonProcess]:
    with running(folder, body()) as made:
        yield made


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with Client(daemon.socket, timeout=30) as made:
        yield made


def body(most: int = LONG) -> str:
    return BODY.replace("MOST", str(most))


def line(daemon: DaemonProcess) -> dict:
    return next(one for one in daemon.status()["releases"] if one["model"] == "story")


def test_whole(client: Client):
    assert whole(client.infer("story", ask(max_new_tokens=24))) == greedy()


def test_piece_by_piece(client: Client):
    answers = list(client.stream("story", ask(max_new_tokens=24)))
    assert "".join(generating.text_of(one["text"]) for one in answers) == greedy().text
    assert [int(token) for one in answers for token in one["tokens"]] == greedy().tokens
    assert [one.index for one in answers] == list(range(len(answers)))
    assert len(answers) > 2
    assert generating.text_of(answers[-1]["finish"]) == "length"
    assert answers[-1].is_last


def test_first_pieces_come_before_the_last_is_made(client: Client):
    """Seen by what is done: nothing of a text that is left after its first piece is made."""
    with client.stream("story", ask(ENDLESS, max_new_tokens=LONG), ahead=1) as answers:
        first = next(answers)
    assert first["tokens"].size < LONG / 2


@pytest.mark.slow
def test_it_is_endless():
    """Else other tests show less than they say."""
    text = texts.session(**texts.named(CONTEXT))
    assert whole(text.run(ask(ENDLESS, max_new_tokens=3000))).finish == "length"


def test_bounds(client: Client):
    with pytest.raises(InvalidRequestError, match="max_new_tokens"):
        client.infer("story", request=np.frombuffer(b'{"prompt": "a", "max_new_tokens": 0}', "u1"))
    with pytest.raises(InvalidRequestError, match="at most 100 are taken"):
        client.infer("story", ask("x" * 300))
    with pytest.raises(InvalidRequestError, match="takes JSON"):
        client.infer("story", request=ask()["request"][1:])


def test_several_at_once_and_more_than_there_are_ways(client: Client):
    prompts = ["the pump", "an oven", "the end", "a", "b"]
    streams = [client.stream("story", ask(prompt, max_new_tokens=40)) for prompt in prompts]
    for prompt, answers in zip(prompts, streams, strict=True):
        tokens = [int(token) for one in answers for token in one["tokens"]]
        assert tokens == greedy(prompt, 40).tokens


def test_withdrawn(daemon: DaemonProcess, client: Client):
    for _ in range(6):
        for _ in client.stream("story", ask(ENDLESS, max_new_tokens=LONG)):
            break
    wait_for(lambda: not line(daemon)["in_flight"])
    pending = client.submit("story", ask(ENDLESS, max_new_tokens=LONG))
    pending.cancel()
    with pytest.raises(CancelledError):
        pending.result()
    assert whole(client.infer("story", ask(max_new_tokens=24))) == greedy()


def test_a_client_that_is_gone(daemon: DaemonProcess):
    other = Client(daemon.socket)
    answers = other.stream("story", ask(ENDLESS, max_new_tokens=LONG))
    next(answers)
    other.close()
    wait_for(lambda: not line(daemon)["in_flight"])


def test_late(client: Client):
    with pytest.raises(DeadlineExceededError, match="deadline"):
        client.infer("story", ask(ENDLESS), timeout=0.2)
    assert whole(client.infer("story", ask(max_new_tokens=24))) == greedy()


def test_what_is_kept_is_given_back(daemon: DaemonProcess, client: Client):
    process = psutil.Process(line(daemon)["worker_pid"])

    def withdraw(count: int) -> None:
        for _ in range(count):
            for _ in client.stream("story", ask(ENDLESS, max_new_tokens=LONG)):
                break
        wait_for(lambda: not line(daemon)["in_flight"])

    # What one such text takes the allocator keeps; thirty of them would be several times as much.
    withdraw(10)
    before = process.memory_info().rss
    withdraw(30)
    assert process.memory_info().rss < before + (16 << 20)


def test_its_process_is_killed_and_another_serves(daemon: DaemonProcess, client: Client):
    answers = client.stream("story", ask(ENDLESS, max_new_tokens=LONG))
    next(answers)
    psutil.Process(line(daemon)["worker_pid"]).kill()
    with pytest.raises(RuntimeFailureError, match="died of SIGKILL"):
        list(answers)
    wait_for(lambda: line(daemon)["state"] == "ready" and line(daemon)["worker_pid"])
    assert whole(client.infer("story", ask(max_new_tokens=24))) == greedy()


@pytest.mark.slow
def test_a_text_goes_on_while_another_release_takes_over(folder: Path, tmp_path: Path):
    made = texts.session(**texts.named(CONTEXT))
    long = whole(made.run(ask(ENDLESS, max_new_tokens=3000))).tokens
    (tmp_path / "story-1.edgb").write_bytes((folder / "story-1.edgb").read_bytes())
    with running(tmp_path, body()) as daemon, Client(daemon.socket, timeout=30) as client:
        answers = client.stream("story", ask(ENDLESS, max_new_tokens=3000))
        found = [next(answers)]
        texts.make_text_bundle(tmp_path / "story-2.edgb", release=2, context=CONTEXT)
        daemon.write(body(30))
        wait_for(lambda: whole(client.infer("story", ask(max_new_tokens=9))).tokens)
        found += answers
        assert [int(t) for one in found for t in one["tokens"]] == long
        assert found[0].release == 1
        wait_for(lambda: client.infer("story", ask(max_new_tokens=1)).release == 2)
        assert len(whole(client.infer("story", ask(ENDLESS))).tokens) == 30


BINDINGS = """\
mqtt: {{host: 127.0.0.1, port: {port}}}
bindings:
- {{name: pieces, from: in/pieces, to: out/pieces, model: story, codec: raw, stream: true}}
- {{name: whole, from: in/whole, to: out/whole, model: story, codec: raw}}
"""


@pytest.mark.slow
@pytest.mark.broker
def test_texts_of_devices(folder: Path, tmp_path: Path):
    (tmp_path / "story-1.edgb").write_bytes((folder / "story-1.edgb").read_bytes())
    asked = ask(max_new_tokens=24)["request"].tobytes()
    with (
        Mosquitto(tmp_path) as broker,
        running(tmp_path, body() + BINDINGS.format(port=broker.port)) as daemon,
    ):
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        with Device(broker, "out/+", "edged/+/error/+") as device:
            device.publish("in/pieces", asked)
            pieces = [json.loads(device.one().payload)]
            while not pieces[-1]["final"]:
                pieces.append(json.loads(device.one().payload))
            device.publish("in/whole", asked)
            once = json.loads(device.one().payload)
            device.publish("in/pieces", b"the pump is hot")
            refused = json.loads(device.one().payload)
    assert [one["index"] for one in pieces] == list(range(len(pieces)))
    assert "".join(one["text"] for one in pieces) == once["text"] == greedy().text
    assert [token for one in pieces for token in one["tokens"]] == once["tokens"] == greedy().tokens
    assert pieces[-1]["finish"] == once["finish"] == "length"
    assert len(pieces) > 1
    assert "takes JSON like" in json.dumps(refused)
