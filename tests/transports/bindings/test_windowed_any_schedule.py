"""Windows under any schedule of answers, syncs, cuts and kills: each row counts once, none is lost."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edged.protocol.broker_session import Message
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import Bench
from tests.transports.bindings.test_windowed import SlowKeeper, bench, row

ROWS = 3
MOVES = ("send", "send", "send", "puback", "sync", "cut", "kill")


class World:
    """A broker that keeps what is not acknowledged, and daemons that come and go."""

    def __init__(self, hop: int, *, acks_early: bool = False) -> None:
        self.hop, self.acks_early = hop, acks_early
        self.sent = 0
        self.kept: list[Message] = []
        self.seen: list[float] = []
        self.twice = 0
        self.keeper = SlowKeeper()
        self.daemon: Bench
        self.over: set[int] = set()
        """Publications of this daemon that were looked at, or that a cut took away."""
        self.begin({})

    def begin(self, disk: dict[bytes, bytes]) -> None:
        """A daemon starts, with what is on disk."""
        self.keeper = SlowKeeper()
        self.keeper.disk = dict(disk)
        self.daemon = bench(self.keeper, dict(disk), auto=False, hop=self.hop)
        self.over = set()
        self.deliver_again()

    def deliver_again(self) -> None:
        number = self.daemon.session.connection
        for message in self.kept:
            self.daemon.session.emit(message._replace(connection=number, dup=True))

    def look(self) -> None:
        """Take note of acknowledgements and answers."""
        session = self.daemon.session
        acked = {message.mid for message in self.kept} if self.acks_early else set(session.acked)
        self.kept = [message for message in self.kept if message.mid not in acked]
        for token, one in session.published.items():
            if one.topic != "out/x" or token in self.over or token in session.open:
                continue
            self.over.add(token)
            total = json.loads(one.payload)["sum"]
            if total in self.seen:
                assert ("edged-dup", "1") in one.properties, "twice is marked"
                self.twice += 1
            else:
                self.seen.append(total)

    async def do(self, move: str) -> None:
        session = self.daemon.session
        if move == "send":
            self.sent += 1
            message = Message(
                session.connection, self.sent, "in/x", row(self.sent), 1, False, False, 10**18
            )
            self.kept.append(message)
            session.emit(message)
        elif move == "puback" and session.open:
            session.puback()
        elif move == "sync":
            self.keeper.sync()
        elif move == "cut":
            self.over.update(session.open)
            session.disconnect()
            session.connect(session_present=True)
            self.look()
            self.deliver_again()
        elif move == "kill":
            self.look()
            self.begin(self.keeper.disk)
        await settle(3)
        self.look()

    async def finish(self) -> list[float]:
        for _ in range(200):
            if not self.kept and not self.daemon.session.open:
                break
            self.daemon.session.puback_all()
            self.keeper.sync()
            await settle(3)
            self.look()
        starts = range(1, self.sent - ROWS + 2, self.hop)
        return [float(sum(range(n, n + ROWS))) for n in starts]


def play(moves: list[str], hop: int, *, acks_early: bool = False) -> None:
    async def work() -> None:
        world = World(hop, acks_early=acks_early)
        for move in moves:
            await world.do(move)
        wanted = await world.finish()
        assert world.seen == wanted
        assert world.kept == []

    asyncio.run(work())


@settings(max_examples=60, deadline=None)
@example(["send"] * 4 + ["sync", "kill", "cut"], 1)
@given(st.lists(st.sampled_from(MOVES), max_size=40), st.integers(1, ROWS))
def test_each_row_counts_once(moves: list[str], hop: int) -> None:
    play(moves, hop)


def test_one_that_is_acknowledged_early_is_lost() -> None:
    """The negative control."""
    with pytest.raises(AssertionError):
        play(["send", "send", "kill", "send", "send"], ROWS, acks_early=True)
