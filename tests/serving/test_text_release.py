"""Requests to a model that makes texts: one answer or many, withdrawn, late, in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from edged import generating
from edged.config.generation import GenerationConfig
from edged.config.schema import BatchingConfig, ModelConfig, QueueConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
    QueueFullError,
    RunError,
    WorkerDiedError,
)
from edged.flow import Flow
from edged.generating import Piece, request
from edged.messages import InferRequest, InferResponse, StreamRequest, Ticket
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.router import Route
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from edged.serving.sequences.stateful import Shelves
from edged.serving.text_release import TextRelease
from edged.tensors import Array
from edged.workers.isolation import TextSession
from tests.fakes.clock import Clock, on_loop, turns
from tests.fakes.texts import text_manifest, whole

S = 1_000_000_000


class Puppet(TextSession):
    """A worker's session that makes what the test says; ``texts`` are those under way."""

    def __init__(self, ways: int) -> None:
        self._most = ways
        self.texts: list[Making] = []
        self.is_gone = False

    @property
    def ways(self) -> int:
        return self._most

    @property
    def pid(self) -> int:
        return 4711

    def attach(self, loop: asyncio.AbstractEventLoop, on_death: Callable[[str], None]) -> None:
        self.die = on_death

    def stream(self, inputs: Mapping[str, Array], on_part: Any, on_done: Any) -> Any:
        made = Making(self, inputs, on_part, on_done)
        assert len(self.texts) < self._most, "no way is free"
        self.texts.append(made)
        return made.stop

    def close(self) -> None:
        self.is_gone = True


class Making:
    def __init__(self, session: Puppet, inputs: Any, on_part: Any, on_done: Any) -> None:
        self.session, self.inputs = session, inputs
        self.on_part, self.on_done = on_part, on_done
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True

    def say(self, *words: str) -> None:
        for number, word in enumerate(words):
            outputs = generating.tensors([Piece(word, number)])
            del outputs["finish"]
            self.on_part(outputs)

    def end(self, word: str = "", finish: str = "length", error: EdgedError | None = None) -> None:
        self.session.texts.remove(self)
        outputs = {} if error else generating.tensors([Piece(word, 99, finish)])
        self.on_done(outputs, error)


class House:
    def __init__(self, ways: int = 1, **fields: Any) -> None:
        batching = BatchingConfig(instances=ways)
        self.config = ModelConfig(bundle="b", batching=batching, **fields)
        devices, key = Devices(), ReleaseKey("story", "d1", "")
        made = Shelves().make(key, text_manifest(), self.config, 0, Turn(), devices=devices)
        assert isinstance(made, TextRelease)
        self.release, self.session = made, Puppet(ways)
        made.move(Event.LOAD)
        made.loaded(self.session, "onnxruntime-genai", 10 * S, ((1, 10 * S),))
        made.move(Event.LOADED)
        made.move(Event.WARMED)
        self.plane = Dataplane()
        self.plane.swap(ServingTable(3, {"story": Route("story", {1: made}, 1)}))

    def ask(self, prompt: str = "so", *, ahead: int = 0, left_s: float = 0, **more: Any) -> Asked:
        return Asked(self, prompt, ahead, left_s, **more)


class Asked:
    def __init__(
        self, house: House, prompt: str, ahead: int, left_s: float, outputs: tuple[str, ...] = ()
    ) -> None:
        import time

        deadline = time.monotonic_ns() + int(left_s * S) if left_s else None
        fields = ("story", request(prompt), None, outputs, deadline, "uds")
        self.flow = Flow(ahead, 60.0)
        made = StreamRequest(*fields, flow=self.flow) if ahead else InferRequest(*fields)
        self.parts: list[InferResponse] = []
        self.final: InferResponse | None = None
        self.ticket: Ticket | None = house.plane.submit(made, self._on_response)

    def _on_response(self, response: InferResponse, final: bool) -> None:
        assert self.final is None, "answered twice"
        if final:
            self.final = response
        else:
            self.parts.append(response)

    @property
    def texts(self) -> list[str]:
        return [generating.text_of(part.outputs["text"]) for part in self.parts]

    @property
    def error(self) -> EdgedError | None:
        assert self.final is not None
        return self.final.error


@on_loop
async def test_one_answer():
    house = House()
    asked = house.ask()
    await turns()
    (text,) = house.session.texts
    text.say("a ", "b ")
    text.end("c")
    assert not asked.parts
    assert asked.final is not None
    assert whole(asked.final.outputs) == ("a b c", [0, 1, 99], "length")
    assert (asked.final.release, asked.final.generation) == (1, 3)
    assert house.release.in_flight == house.release.running == 0


@on_loop
async def test_pieces_as_they_come():
    house = House()
    asked = house.ask(ahead=8)
    await turns()
    (text,) = house.session.texts
    text.say("a ")
    assert asked.texts == ["a "]
    assert sorted(asked.parts[0].outputs) == ["text", "tokens"]
    text.say("b ")
    text.end("c", "eos")
    assert asked.texts == ["a ", "b "]
    assert asked.final is not None
    assert whole(asked.final.outputs) == ("c", [99], "eos")


@on_loop
async def test_who_reads_slowly_gets_more_at_once():
    """Nothing is lost, and the text does not wait."""
    house = House()
    asked = house.ask(ahead=1)
    await turns()
    (text,) = house.session.texts
    text.say("a ", "b ", "c ")
    assert asked.texts == ["a "]
    asked.flow.grant(1)
    assert asked.texts == ["a ", "b c "]
    asked.flow.grant(1)  # nothing is there yet: what comes goes at once
    text.say("d ", "e ")
    text.end("f")
    assert asked.texts == ["a ", "b c ", "d "]
    assert asked.final is not None
    assert whole(asked.final.outputs).text == "e f"
    asked.flow.grant(1)


@on_loop
async def test_only_the_outputs_that_are_wanted():
    house = House()
    asked = house.ask(ahead=8, outputs=("tokens",))
    await turns()
    (text,) = house.session.texts
    text.say("a ")
    text.end("c")
    assert [list(part.outputs) for part in asked.parts] == [["tokens"]]
    assert asked.final is not None
    assert list(asked.final.outputs) == ["tokens"]


@on_loop
async def test_caps_go_along():
    house = House(generation=GenerationConfig(max_new_tokens=7, max_prompt=9))
    house.ask()
    await turns()
    (text,) = house.session.texts
    assert text.inputs["caps"].tolist() == [7, 9]


@pytest.mark.parametrize("prompt", [b"{}", b"so", b'{"prompt": ""}'])
@on_loop
async def test_no_request(prompt: bytes):
    """It is refused before it takes a place."""
    house, answers = House(), []
    inputs = {"request": np.frombuffer(prompt, np.uint8)}
    made = house.plane.submit(InferRequest("story", inputs), lambda one, _: answers.append(one))
    assert made is None
    assert isinstance(answers[0].error, InvalidRequestError)
    assert 'model "story" release 1' in answers[0].error.message
    assert house.release.in_flight == 0


class TestEnds:
    @pytest.mark.parametrize("ahead", [0, 8])
    @on_loop
    async def test_withdrawn_while_it_is_made(self, ahead: int):
        house = House()
        asked, other = house.ask(ahead=ahead), house.ask()
        await turns()
        (text,) = house.session.texts
        text.say("a ", "b ")
        assert asked.ticket is not None
        assert asked.ticket.cancel()
        assert isinstance(asked.error, CancelledError)
        assert "after 2 tokens" in asked.error.message
        assert text.is_stopped
        text.say("c ")
        asked.flow.grant(5)
        assert house.session.texts == [text]  # its way is not free yet
        text.end(error=CancelledError("withdrawn"))
        await turns()
        (text,) = house.session.texts
        text.end("x")
        assert other.error is None
        assert house.release.in_flight == house.release.running == 0
        assert not asked.ticket.cancel()

    @on_loop
    async def test_withdrawn_while_it_waits(self):
        house = House()
        house.ask()
        await turns()
        waits = house.ask()
        assert waits.ticket is not None
        assert waits.ticket.cancel()
        assert isinstance(waits.error, CancelledError)
        assert len(house.session.texts) == 1

    @on_loop
    async def test_its_time_is_over(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        house = House()
        asked = house.ask(ahead=8, left_s=5)
        await turns()
        (text,) = house.session.texts
        text.say("a ")
        await clock.forward(4 * S)
        assert asked.final is None
        await clock.forward(2 * S)
        assert isinstance(asked.error, DeadlineExceededError)
        assert "the deadline passed after 1 tokens" in asked.error.message
        assert text.is_stopped
        text.end("late")
        assert house.release.in_flight == house.release.running == 0

    @on_loop
    async def test_in_time(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        house = House()
        asked = house.ask(left_s=5)
        await turns()
        house.session.texts[0].end("x")
        await clock.forward(9 * S)
        assert asked.error is None

    @on_loop
    async def test_a_short_time_is_no_reason_to_refuse_a_short_text(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """What texts took before says nothing of the next; only the clock does."""
        clock = Clock(monkeypatch)
        house = House()
        for _ in range(3):
            house.ask()
            await turns()
            await clock.forward(3 * S)
            house.session.texts[0].end("x")
        first, second = house.ask(left_s=1), house.ask(left_s=1)
        await turns()
        house.session.texts[0].end("x")
        await turns()
        house.session.texts[0].end("x")
        assert first.error is None
        assert second.error is None

    @pytest.mark.parametrize("error", [RunError("so"), WorkerDiedError("so")])
    @on_loop
    async def test_a_failure(self, error: EdgedError):
        house = House()
        asked = house.ask(ahead=8)
        await turns()
        (text,) = house.session.texts
        text.say("a ")
        text.end(error=error)
        assert asked.error is error
        assert house.release.in_flight == house.release.running == 0

    @on_loop
    async def test_who_drains_waits_for_its_texts(self):
        house, idle = House(), []
        house.release.on_idle = idle.append
        asked = house.ask()
        await turns()
        house.release.move(Event.RETIRE)
        assert not idle
        house.session.texts[0].end("x")
        assert asked.error is None
        assert idle == [house.release]


class TestSeveral:
    @on_loop
    async def test_as_many_as_there_are_ways(self):
        house = House(2)
        asked = [house.ask(ahead=8) for _ in range(3)]
        await turns()
        first, second = house.session.texts
        first.say("a ")
        second.say("b ")
        assert [one.texts for one in asked] == [["a "], ["b "], []]
        first.end("x")
        await turns()
        assert len(house.session.texts) == 2
        for text in list(house.session.texts):
            text.end("x")
        assert all(one.error is None for one in asked)

    @on_loop
    async def test_a_queue_has_bounds(self):
        house = House(queue=QueueConfig(max_rows=1))
        house.ask()
        await turns()
        house.ask()
        assert isinstance(house.ask().error, QueueFullError)

    @on_loop
    async def test_no_slot_is_taken_from_other_models(self):
        house = House()
        house.ask()
        await turns()
        assert house.release.slots.held.total == 1
        assert [name for name, _ in house.release._devices.items()] == ["cpu", "texts"]
        assert house.release._devices.of("onnxruntime").held.total == 0
