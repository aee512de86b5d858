"""Sequences under any schedule of runs, answers and cuts: each message moves its state once."""

from __future__ import annotations

import asyncio
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edged.protocol.broker_session import Message
from tests.fakes.session import settle
from tests.transports.bindings.test_sequenced import bench, number

MOVES = ("send x", "send y", "send x", "run", "run", "puback", "cut")


class World:
    """A broker that keeps what is not acknowledged, and a daemon whose connection is cut."""

    def __init__(self) -> None:
        self.daemon = bench(hold=True, auto=False)
        self.sent: list[tuple[str, int]] = []
        self.kept: list[Message] = []
        self.seen: dict[str, list[float]] = {"x": [], "y": []}
        self.over: set[int] = set()

    def look(self) -> None:
        session = self.daemon.session
        self.kept = [message for message in self.kept if message.mid not in session.acked]
        for token, one in session.published.items():
            if not one.topic.startswith("out/") or token in self.over or token in session.open:
                continue
            self.over.add(token)
            seen, total = self.seen[one.topic[-1]], json.loads(one.payload)["sum"]
            if total in seen:
                assert ("edged-dup", "1") in one.properties, "twice is marked"
            else:
                seen.append(total)

    async def do(self, move: str) -> None:
        session, door = self.daemon.session, self.daemon.door
        if move.startswith("send"):
            key, count = move[-1], len(self.sent) + 1
            self.sent.append((key, count))
            message = Message(
                session.connection, count, f"in/{key}", number(count), 1, False, False, 10**18
            )
            self.kept.append(message)
            session.emit(message)
        elif move == "run" and door.held:
            door.release()
        elif move == "puback" and session.open:
            session.puback()
        elif move == "cut":
            self.over.update(session.open)
            session.disconnect()
            session.connect(session_present=True)
            self.look()
            for message in self.kept:
                session.emit(message._replace(connection=session.connection, dup=True))
        await settle(3)
        self.look()


@settings(max_examples=60, deadline=None)
@example(["send y", "send y", "send x", "run", "run", "run", "run", "puback", "puback", "cut"])
@given(st.lists(st.sampled_from(MOVES), max_size=50))
def test_each_message_counts_once(moves: list[str]) -> None:
    async def work() -> None:
        world = World()
        for move in moves:
            await world.do(move)
        for _ in range(200):
            if not world.kept and not world.daemon.door.held:
                break
            await world.do("run")
            world.daemon.session.puback_all()
            world.look()
        for key in "xy":
            sums, total = [], 0
            for of, value in world.sent:
                if of == key:
                    total += value
                    sums.append(float(total))
            assert world.seen[key] == sums
            assert world.daemon.door.sums.get(key, 0) == total
        assert world.kept == []
        assert len(world.daemon.bindings.lanes) == 0

    asyncio.run(work())
