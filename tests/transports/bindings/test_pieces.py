"""A message that asks for a text: pieces in order, the acknowledgement with the last, and ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edged import generating
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    EdgedError,
    FieldError,
    RunError,
)
from edged.generating import Piece
from edged.manifest import Manifest, canonical_json, parse_manifest
from edged.messages import InferResponse, OnResponse, StreamRequest
from edged.specs import OutputProcessing
from edged.transports.bindings.bindings import Bindings
from tests.fakes.session import FakeSession
from tests.fakes.texts import text_manifest
from tests.transports.bindings.test_bindings import Bench, binding, on_loop

ASK = b'{"prompt": "so"}'


class Text:
    """One request, answered as the test says."""

    def __init__(self, request: StreamRequest, on_response: OnResponse) -> None:
        self.request, self.on_response = request, on_response
        self.is_cancelled = False

    def cancel(self) -> bool:
        self.is_cancelled = True
        self.end(error=CancelledError("withdrawn"))
        return True

    def say(self, *words: str) -> None:
        """As the release does: what there is no room for is kept."""
        for number, word in enumerate(words):
            outputs = generating.tensors([Piece(word, number)])
            del outputs["finish"]
            self.request.flow.give()
            self.on_response(InferResponse("story", 1, 7, outputs), False)

    def end(self, word: str = "", error: Any = None) -> None:
        outputs = {} if error else generating.tensors([Piece(word, 9, "length")])
        self.on_response(InferResponse("story", 1, 7, outputs, error), True)


class Door:
    def __init__(self) -> None:
        self.texts: list[Text] = []
        manifest = text_manifest()
        self.manifests: dict[str, Manifest] = {"story": manifest}

    def manifest(self, model: str, _release: int | str | None = None) -> Manifest | None:
        return self.manifests.get(model)

    def submit(self, request: StreamRequest, on_response: OnResponse) -> Text:
        assert request.inputs["request"].tobytes() == ASK
        self.texts.append(Text(request, on_response))
        return self.texts[-1]


def story(**words: Any) -> Any:
    return binding(**{"model": "story", "codec": "raw", "stream": True, **words})


class TextBench(Bench):
    """Bindings between a session that does as it is told and the door above."""

    def __init__(self, **words: Any) -> None:
        self.session, self.door = FakeSession(auto=False), Door()
        self.executor = ThreadPoolExecutor(1)
        self.bindings = Bindings(self.session, self.door, base="edged/n", executor=self.executor)
        self.bindings.swap(self.bindings.prepare([story(**words)]))
        self.bindings.start()
        self.session.connect()
        self.session.puback_all()


def bench(**words: Any) -> tuple[TextBench, Door]:
    made = TextBench(**words)
    return made, made.door


@on_loop
async def test_pieces_and_then_the_acknowledgement():
    made, door = bench()
    message = made.session.receive("in/hall", ASK)
    (text,) = door.texts
    text.say("a ", "b ")
    text.end("c")
    who = {"model": "story", "release": 1, "generation": 7}
    assert made.session.documents("out/hall") == [
        who | {"index": 0, "final": False, "text": "a ", "tokens": [0]},
        who | {"index": 1, "final": False, "text": "b ", "tokens": [1]},
        who | {"index": 2, "final": True, "text": "c", "tokens": [9], "finish": "length"},
    ]
    assert not made.session.acked
    made.session.puback_all()
    assert made.session.acked == [message.mid]
    assert made.counters()["answered"] == 1


@on_loop
async def test_a_slow_broker_gets_fewer_and_larger_messages():
    """Room comes back with what the broker acknowledges."""
    made, door = bench()
    made.session.receive("in/hall", ASK)
    flow = door.texts[0].request.flow
    door.texts[0].say(*["a "] * 16)
    assert not flow.has_room
    made.session.puback()
    assert flow.has_room
    made.session.puback_all()
    assert flow.left == 16


@on_loop
async def test_the_connection_breaks_meanwhile():
    """The text ends, nothing is acknowledged, and the message comes again."""
    made, door = bench()
    made.session.receive("in/hall", ASK)
    door.texts[0].say("a ")
    made.session.disconnect()
    assert door.texts[0].is_cancelled
    assert not made.session.acked
    made.session.connect()
    made.session.puback_all()
    message = made.session.receive("in/hall", ASK, dup=True)
    door.texts[1].say("a ")
    door.texts[1].end("c")
    made.session.puback_all()
    assert [one["index"] for one in made.session.documents("out/hall")] == [0, 0, 1]
    assert made.session.acked == [message.mid]


@pytest.mark.parametrize("error", [RunError("so"), DeadlineExceededError("late")])
def test_an_error_ends_it(error: EdgedError):
    async def run() -> None:
        made, door = bench()
        message = made.session.receive("in/hall", ASK)
        door.texts[0].say("a ")
        door.texts[0].end(error=error)
        made.session.puback_all()
        (letter,) = made.letters()
        assert letter["code"] == error.code.value
        assert made.session.acked == [message.mid]

    asyncio.run(run())


@on_loop
async def test_only_of_models_that_make_texts():
    made = Bench(binding())
    with pytest.raises(FieldError, match='model "sum" makes no texts'):
        made.bindings.prepare([binding(stream=True)])


@on_loop
async def test_as_one_message():
    made, door = bench(stream=False)
    made.session.receive("in/hall", ASK)
    assert not isinstance(door.texts[0].request, StreamRequest)
    door.texts[0].on_response(
        InferResponse("story", 1, 7, generating.tensors([Piece("a c", 9, "eos")])), True
    )
    (answer,) = made.session.documents("out/hall")
    assert {name: answer[name] for name in ("text", "tokens", "finish")} == {
        "text": "a c", "tokens": [9], "finish": "eos",
    }  # fmt: skip
    assert isinstance(text_manifest().output_processing["text"], OutputProcessing)
    assert parse_manifest(canonical_json(text_manifest())).makes_texts
