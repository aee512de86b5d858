"""Threads, wake-ups and connection numbers, over a connection made of a socket pair."""

import asyncio
import random
import socket
import threading
import time

import pytest

from edged.protocol.broker_session import (
    FULL_QUEUE,
    Connected,
    Disconnected,
    Message,
    Publication,
    Published,
)
from edged.protocol.mqtt_session import UNTOLD
from edged.transports.mqtt import session as module
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.session import Session
from tests.transports.conftest import until


class FakeConnection:
    """Comes up on the first step; ends when the other end of the pair is closed."""

    made: list["FakeConnection"]

    def __init__(self, options, protocol, number, emit):
        self.is_up = self.reached_broker = False
        self.reason_code = None
        self.reason = ""
        self.number, self.emit, self.protocol = number, emit, protocol
        self.done = []
        self.ours, self.theirs = socket.socketpair()
        type(self).made.append(self)

    def connect(self):
        self.reached_broker = True
        self.theirs.send(b"x")

    def fileno(self):
        return self.ours.fileno()

    def wants_write(self):
        return False

    def pending(self):
        return False

    def step(self, *, is_readable):
        if is_readable:
            data = self.ours.recv(100)
            if not data:
                self.ours.close()
                return False
            if not self.is_up:
                self.is_up = True
                self.emit(Connected(self.number, self.protocol, False, 10, None))
        return True

    def subscribe(self, token, filters):
        self.done.append(("subscribe", token, filters))

    def unsubscribe(self, token, filters):
        self.done.append(("unsubscribe", token, filters))

    def publish(self, token, publication):
        self.done.append(("publish", token, publication.topic))

    def ack(self, mid):
        self.done.append(("ack", mid))

    def disconnect(self):
        self.done.append(("disconnect",))
        self.theirs.close()


@pytest.fixture
def connection_class():
    return type("Connection", (FakeConnection,), {"made": []})


def run(connection_class, main, **options):
    async def whole():
        events = []
        session = Session(
            SessionOptions("id", "base", **options), connection_class, random.Random(1)
        )
        session.start(asyncio.get_running_loop(), events.append)
        try:
            await main(session, events)
        finally:
            await session.stop(5)
            for made in connection_class.made:
                made.ours.close()
                made.theirs.close()

    asyncio.run(whole())


def message(connection, mid, qos=1):
    return Message(connection, mid, "t", b"", qos, False, False, 0)


def test_commands_go_to_the_connection_that_is_up_in_order(connection_class):
    async def main(session, events):
        await until(lambda: events)
        (connection,) = connection_class.made
        first = session.subscribe([("a", 1)])
        second = session.publish(Publication("t", b""))
        session.ack(message(1, 9))
        session.ack(message(1, 0, qos=0))
        third = session.unsubscribe(["b"])
        await until(lambda: len(connection.done) == 4)
        assert connection.done == [
            ("subscribe", first, (("a", 1),)),
            ("publish", second, "t"),
            ("ack", 9),
            ("unsubscribe", third, ["b"]),
        ]
        assert first < second < third

    run(connection_class, main)


def test_of_what_nobody_waits_for_only_its_loss_is_noted(connection_class):
    async def main(session, events):
        await until(lambda: events)
        (connection,) = connection_class.made
        session.send(Publication("t", b"", qos=0))
        await until(lambda: connection.done == [("publish", UNTOLD, "t")])
        connection.emit(Published(1, UNTOLD))
        assert session.stats()["unsent"] == 0
        connection.emit(Published(1, UNTOLD, FULL_QUEUE, "why"))
        assert session.stats()["unsent"] == 1
        connection.emit(Published(1, 9))
        connection.theirs.send(b"x")  # the thread tells the loop
        await until(lambda: len(events) == 2)
        assert events[1].token == 9

    run(connection_class, main)


def test_stale_commands_are_dropped(connection_class):
    async def main(session, events):
        await until(lambda: events)
        connection_class.made[0].theirs.close()
        await until(lambda: len(events) == 3)
        assert [type(event) for event in events] == [Connected, Disconnected, Connected]
        session.ack(message(1, 5))
        session.ack(message(2, 6))
        await until(lambda: connection_class.made[1].done)
        assert connection_class.made[1].done == [("ack", 6)]
        assert session.stats()["stale_commands"] == 1

    run(connection_class, main)


def test_commands_before_the_first_connection_are_dropped(connection_class):
    async def main(session, events):
        session.publish(Publication("t", b""))
        await until(lambda: events)
        session.publish(Publication("u", b""))
        await until(lambda: connection_class.made[0].done)
        assert [topic for _, _, topic in connection_class.made[0].done] == ["u"]

    run(connection_class, main)


def test_many_commands_cost_one_wake_up(connection_class, monkeypatch):
    writes = []
    real = module.os.eventfd_write

    def counting(fd, value):
        writes.append(value)
        real(fd, value)

    async def main(session, events):
        await until(lambda: events)
        # The thread holds no lock of ours; without a switch in between, one write is enough.
        before = len(writes)
        for number in range(200):
            session.ack(message(1, number))
        connection = connection_class.made[0]
        await until(lambda: len(connection.done) == 200)
        assert len(writes) - before < 100

    monkeypatch.setattr(module.os, "eventfd_write", counting)
    run(connection_class, main)


def test_no_command_is_ever_left_lying(connection_class):
    """The wake-up flag and the queue are shared without a lock: hammer them."""

    async def main(session, events):
        await until(lambda: events)
        connection = connection_class.made[0]
        for number in range(3000):
            session.ack(message(1, number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(connection.done) == 3000, 5)
        assert connection.done == [("ack", number) for number in range(3000)]

    run(connection_class, main, keepalive_s=60, connect_timeout_s=60)


@pytest.mark.hostile("R34 callbacks of the MQTT client only enqueue and never raise")
def test_events_that_raise_do_not_stop_the_others(connection_class, caplog):
    async def main(session, events):
        await until(lambda: events)
        seen = []

        def explode(event):
            seen.append(event)
            raise KeyError("bug")

        session._on_event = explode
        connection_class.made[0].emit(message(1, 1))
        connection_class.made[0].emit(message(1, 2))
        await until(lambda: len(seen) == 2)

    run(connection_class, main)
    assert "could not be handled" in caplog.text


def test_a_library_that_fails_is_retried(connection_class, caplog):
    class Broken(connection_class):
        def connect(self):
            if len(self.made) == 1:
                raise RuntimeError("bug")
            super().connect()

    async def main(session, events):
        await until(lambda: len(events) == 2)
        assert "RuntimeError" in events[0].reason
        assert isinstance(events[1], Connected)

    run(Broken, main)
    assert "the MQTT client failed" in caplog.text


def test_goodbye_goes_behind_what_was_said(connection_class):
    async def main(session, events):
        await until(lambda: events)
        session.publish(Publication("last", b""))

    run(connection_class, main)
    assert [done[0] for done in connection_class.made[0].done] == ["publish", "disconnect"]


@pytest.mark.hostile("R34 callbacks of the MQTT client only enqueue and never raise")
def test_readiness_follows_the_monotonic_clock(connection_class, monkeypatch):
    async def main(session, events):
        await until(lambda: events)
        assert session.is_alive
        later = time.monotonic_ns() + 50 * 10**9
        with monkeypatch.context() as patch:
            patch.setattr(module.time, "monotonic_ns", lambda: later)
            assert not session.is_alive

    run(connection_class, main, keepalive_s=30)


def test_stopping_twice_and_commands_afterwards_are_harmless(connection_class):
    async def main(session, events):
        await until(lambda: events)
        await session.stop(5)
        await session.stop(5)
        session.publish(Publication("t", b""))
        assert session.stats()["state"] == "stopped"

    run(connection_class, main)


def test_a_flood_of_messages_lets_the_sockets_have_their_turn(connection_class):
    async def main(session, events):
        await until(lambda: connection_class.made and connection_class.made[0].is_up)
        await until(lambda: events)
        turns = []
        loop = asyncio.get_running_loop()

        def on_event(event):
            turns.append(event.mid)
            if event.mid < 5:
                session._emit(message(1, event.mid + 1))  # it comes while this one is handled
                session._announce()
                loop.call_soon(turns.append, "another")

        session._on_event = on_event
        session._emit(message(1, 1))
        session._announce()
        await until(lambda: 5 in turns)
        assert turns[:4] == [1, "another", 2, "another"] or turns[:3] == [1, 2, "another"]
        assert [turn for turn in turns if turn != "another"] == [1, 2, 3, 4, 5]
        assert turns.index("another") < turns.index(3)

    run(connection_class, main)


def test_a_connection_that_comes_up_after_the_stop_says_nothing(connection_class):
    """It would take the session over from the one that was begun since, under the same name."""

    async def main(session, events):
        entered, leave = threading.Event(), threading.Event()

        def connect(self):
            entered.set()
            leave.wait(10)
            self.reached_broker = True
            self.theirs.send(b"x")

        connection_class.connect = connect
        await until(lambda: len(connection_class.made) >= 1)
        connection_class.made[0].theirs.close()
        await until(entered.is_set)
        await session.stop(0.01)
        leave.set()
        await until(lambda: not session._thread.is_alive())
        assert connection_class.made[-1].done == []
        assert not connection_class.made[-1].is_up

    run(connection_class, main)


@pytest.mark.parametrize(("answer_s", "taken"), [(15.0, 5), (0.01, 64)])
def test_the_loop_says_how_many_messages_are_taken(connection_class, monkeypatch, answer_s, taken):
    """What it looks at is changed there; a loop that is too busy for a word is not waited for."""
    monkeypatch.setattr(module, "_ANSWER_S", answer_s)
    threads, told, is_told = [], [], threading.Event()

    def places(is_v5):
        threads.append(threading.current_thread())
        return 5

    class Telling(connection_class):
        def __init__(self, options, *more):
            super().__init__(options, *more)
            told.append(options.receive_maximum(is_v5=True))
            is_told.set()

    async def main(session, events):
        if answer_s < 1:
            assert is_told.wait(10), "the loop stands still here"
        await until(lambda: events and threads)
        assert told == [taken]
        assert threads == [threading.main_thread()]

    run(Telling, main, places=places)
