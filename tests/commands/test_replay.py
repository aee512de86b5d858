"""A replay with a daemon that answers in this process; the real one is in test_mqtt_commands.py."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from edged.commands.replay import ClientDoor, ReplaySession, replay
from edged.config.binding import BindingConfig
from edged.errors import InvalidRequestError, ModelNotFoundError, QueueFullError
from edged.messages import InferRequest
from edged.protocol.broker_session import Message
from edged.transports.bindings.bindings import Bindings
from tests.fakes.door import FakeDoor

VIB = BindingConfig(name="vib", from_="in/{site}", to="out/{site}", model="sum")


def message(payload: bytes, topic: str = "in/hall", **words) -> Message:
    return Message(1, 1, topic, payload, 0, False, False, time.monotonic_ns())._replace(**words)


def outcomes(*messages):
    async def main():
        session, found = ReplaySession(), []
        with ThreadPoolExecutor(1) as executor:
            bindings = Bindings(session, FakeDoor(), base="edged/n", executor=executor)
            bindings.swap(bindings.prepare([VIB]))
            bindings.start()
            for one in messages:
                found.append(await session.give(one))
        return found

    return asyncio.run(main())


def test_each_message_has_what_came_of_it():
    good, bad, foreign = outcomes(
        message(b'{"a": 1, "b": 2}'), message(b"no"), message(b"{}", "elsewhere")
    )
    assert [one.topic for one in good.published] == ["out/hall"]
    assert [one.topic for one in bad.published] == ["edged/n/error/vib"]
    assert foreign.published == ()
    assert all(one.is_acknowledged for one in (good, bad, foreign))


def test_the_door_asks_once_for_a_manifest_and_hands_errors_on():
    asked = []

    def call(verb, **words):
        asked.append(words)
        raise ModelNotFoundError("none")

    def infer(*_, **__):
        raise QueueFullError("full")

    door = ClientDoor(SimpleNamespace(call=call, infer=infer))
    assert door.manifest("m") is None
    assert door.manifest("m") is None
    assert len(asked) == 1
    answers = []
    door.submit(InferRequest("m", {"x": np.zeros(1)}), lambda *found: answers.append(found))
    assert isinstance(answers[0][0].error, QueueFullError)
    assert answers[0][1] is True


@pytest.mark.parametrize(
    ("bindings", "only", "said"),
    [((VIB,), "other", "those of the configuration: vib"), ((), None, "none")],
)
def test_no_such_binding(bindings, only, said):
    snapshot = SimpleNamespace(config=SimpleNamespace(bindings=bindings))
    with pytest.raises(InvalidRequestError, match=said):
        replay(snapshot, [], None, only=only, say=print)
