"""``config/desired`` and ``config/reported`` before a session without a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from edged.protocol.broker_session import Subscribed
from edged.transports.bindings.desired import DesiredTopic
from tests.fakes.session import FakeSession, settle

DESIRED, REPORTED = "edged/n/config/desired", "edged/n/config/reported"


class Stand:
    def __init__(self) -> None:
        self.session = FakeSession()
        self.offered: list[tuple[bytes, Callable[[], None]]] = []
        self.topic = DesiredTopic(
            self.session, "edged/n", lambda *words: self.offered.append(words)
        )
        self.topic.start()


def test_acknowledged_when_it_was_decided_and_on_its_own_connection():
    async def main():
        stand = Stand()
        assert stand.topic.problem == "not connected to the broker"
        stand.session.connect()
        assert stand.session.of("subscribe") == [[(DESIRED, 1)]]
        message = stand.session.receive(DESIRED, b"one", retain=True)
        assert stand.session.acked == []
        stand.offered[0][1]()
        assert stand.session.acked == [message.mid]
        stand.session.receive(DESIRED, b"two")
        stand.session.disconnect()
        assert not stand.topic.is_connected
        stand.session.connect()
        stand.offered[1][1]()
        assert stand.session.acked == [message.mid]
        assert stand.session.of("ack") == [message.mid]
        assert [payload for payload, _ in stand.offered] == [b"one", b"two"]
        # Somebody took the retained one back.
        message = stand.session.receive(DESIRED, b"")
        assert stand.session.acked[-1] == message.mid
        assert len(stand.offered) == stand.topic.stats()["received"] == 2
        await stand.topic.stop()
        assert stand.session.stopped

    asyncio.run(main())


def test_reported_when_it_changes_and_on_each_connection():
    async def main():
        stand = Stand()
        stand.topic.report({"version": 1})
        assert stand.session.to(REPORTED) == []
        stand.session.connect()
        for version in (1, 2, 2):
            stand.topic.report({"version": version})
        stand.session.disconnect()
        stand.session.connect()
        said = stand.session.to(REPORTED)
        assert [json.loads(one.payload)["version"] for one in said] == [1, 2, 2]
        assert all(one.retain and one.qos == 1 for one in said)
        await settle()

    asyncio.run(main())


def test_a_broker_that_does_not_let_us_listen():
    async def main():
        stand = Stand()
        stand.session.connect()
        stand.session.emit(Subscribed(1, 1, ((DESIRED, "Not authorized"),)))
        assert stand.topic.problem == "the broker refuses the subscription: Not authorized"
        stand.session.emit(Subscribed(1, 2))
        assert stand.topic.problem == ""

    asyncio.run(main())
