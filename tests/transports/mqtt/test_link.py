"""How bytes leave, and when a silent broker is given up, over a transport that only notes."""

import asyncio
import time

import pytest

from edged.protocol.broker_session import Publication, Published
from edged.protocol.mqtt_session import ClientSession
from edged.protocol.mqtt_wire import encode_length
from edged.protocol.mqtt_writer import Hello
from edged.transports.mqtt import link as mqtt_link
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.link import READ_BYTES, SMALL_READ_BYTES, BrokerLink
from tests.fakes.mqtt_bytes import CONNACK_V5, packet
from tests.transports.conftest import until


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.state = "open"
        self.unread = 0

    def get_write_buffer_size(self):
        return self.unread

    def write(self, data):
        self.writes.append(bytes(data))

    def set_write_buffer_limits(self, high=None, low=None):
        self.high = high

    def close(self):
        self.state = "closing"

    def abort(self):
        self.state = "aborted"


class Joined:
    """A link and its wire, connected."""

    def __init__(self, **options):
        self.events = []
        self.session = ClientSession(Hello("n"), 1, self.events.append)
        words = {"client_id": "n", "base": "edged/n", "keepalive_s": 30.0}
        self.link = BrokerLink(self.session, SessionOptions(**words | options), lambda _: None)
        self.wire = Wire()
        self.link.connection_made(self.wire)
        self.hear(CONNACK_V5)
        self.wire.writes.clear()

    def hear(self, data):
        self.link.get_buffer(-1)[: len(data)] = data
        self.link.buffer_updated(len(data))

    def publish(self, token, payload=b"p"):
        self.session.publish(token, Publication("t", payload, qos=0))
        self.link.schedule()


def run(main, kind=Joined, **options):
    async def whole():
        joined = kind(**options)
        try:
            await main(joined)
        finally:
            joined.link.connection_lost(None)

    asyncio.run(asyncio.wait_for(whole(), 20))


def test_one_write_for_all_that_a_turn_says():
    async def main(joined):
        for token in range(100):
            joined.publish(token)
        assert not joined.wire.writes
        await asyncio.sleep(0)
        assert len(joined.wire.writes) == 1
        assert [event.token for event in joined.events[1:]] == list(range(100))

    run(main)


def test_answers_to_what_was_read_leave_with_that_read():
    async def main(joined):
        joined.hear(b"\x62\x02\x00\x01" * 3)  # PUBREL of messages nobody knows
        assert len(joined.wire.writes) == 1
        assert len(joined.wire.writes[0]) == 15

    run(main)


def test_what_is_said_while_bytes_are_handled_leaves_with_them(monkeypatch):
    async def main(joined):
        def pause():
            joined.publish(1)
            joined.link.schedule_acks()

        monkeypatch.setattr(joined.link, "_on_pause", pause)
        joined.hear(b"\xd0\0")
        assert joined.events[1:] == [Published(1, 1)]
        assert not joined.link._is_due, "no further turn of the loop is asked for"
        assert joined.link._acks_timer is None
        assert len(joined.wire.writes) == 1

    run(main)


def test_a_fault_in_the_middle_of_a_read_stops_nothing_that_is_said_later(monkeypatch):
    async def main(joined):
        with monkeypatch.context() as patched:
            patched.setattr(joined.link, "_on_pause", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                joined.hear(b"\xd0\0")
        joined.publish(1)
        await asyncio.sleep(0)
        assert len(joined.wire.writes) == 1

    run(main)


def test_nothing_is_given_to_a_transport_that_is_full():
    async def main(joined):
        joined.link.pause_writing()
        joined.publish(1)
        await asyncio.sleep(0)
        assert not joined.wire.writes
        assert joined.session.outgoing.size_bytes
        assert joined.events[1:] == []
        joined.link.resume_writing()
        assert len(joined.wire.writes) == 1
        assert joined.events[1:] == [Published(1, 1)]

    run(main)


def test_a_broken_rule_is_said_and_closes():
    async def main(joined):
        joined.hear(b"\x36\x00")
        assert joined.wire.writes == [b"\xe0\x01\x81"]
        assert joined.wire.state == "closing"

    run(main)


def test_the_broker_closes_first_after_our_goodbye(monkeypatch):
    monkeypatch.setattr(mqtt_link, "LAST_WORDS_S", 0.01)

    async def main(joined):
        joined.session.disconnect()
        joined.link.schedule()
        await asyncio.sleep(0)
        assert joined.wire.writes == [b"\xe0\x00"]
        assert joined.wire.state == "open"
        await until(lambda: joined.wire.state == "aborted")  # it does not, so it is broken off

    run(main)


@pytest.mark.parametrize("stood_still", [True, False])
def test_a_loop_that_stood_still_is_no_silent_broker(monkeypatch, stood_still):
    async def main(joined):
        link = joined.link
        later = link._ticked_ns + 100 * 10**9
        monkeypatch.setattr(mqtt_link.time, "monotonic_ns", lambda: later)
        if not stood_still:
            link._ticked_ns = later
        link._tick()
        assert joined.wire.state == ("open" if stood_still else "aborted")
        link._tick()
        assert joined.wire.state == "aborted", "nothing came when it could have been read"
        assert "keepalives" in link.words

    run(main)


@pytest.mark.parametrize("ends_by", ["silence", "puback", "pause", "slow"])
@pytest.mark.parametrize("kind", ["publish", "subscribe", "unsubscribe"])
def test_a_broker_that_answers_pings_and_acknowledges_nothing_is_left(monkeypatch, kind, ends_by):
    async def main(joined):
        link = joined.link
        begun_ns = link._ticked_ns

        def at(seconds):
            """The loop goes on all the time, and the broker is heard."""
            monkeypatch.setattr(mqtt_link.time, "monotonic_ns", lambda: begun_ns + seconds * 10**9)
            joined.hear(b"\xd0\x00")
            link._ticked_ns = begun_ns + seconds * 10**9
            link._tick()
            return joined.wire.state

        if kind == "publish":
            joined.session.publish(1, Publication("t", b"", qos=1))
            joined.session.publish(2, Publication("t", b"", qos=1))
        elif kind == "subscribe":
            joined.session.subscribe(1, (("a", 1), ("b", 1)))
        else:
            joined.session.unsubscribe(1, ["a"])
            joined.session.unsubscribe(2, ["b"])
        assert at(1) == at(120) == "open"
        if ends_by == "puback":
            said = {"publish": b"\x40\x02", "subscribe": b"\x90\x04", "unsubscribe": b"\xb0\x04"}
            joined.hear(said[kind] + b"\0\1" + (b"" if kind == "publish" else b"\0\0"))
        elif ends_by == "pause":
            link.pause_writing()
        elif ends_by == "slow":
            joined.wire.unread = 1 << 20
        assert at(122) == ("aborted" if ends_by == "silence" else "open")
        if ends_by == "silence":
            assert "acknowledged" in link.words
            assert link.is_silent
        elif ends_by == "pause":
            assert at(500) == "open", "what was said is not all written"
            link.resume_writing()
            assert (at(619), at(621)) == ("open", "aborted")
        elif ends_by == "slow":
            assert at(500) == "open", "the network has it yet"
            joined.session.publish(3, Publication("t", b"more", qos=0))
            link._flush()
            joined.wire.unread = len(joined.wire.writes[-1])
            assert (at(619), at(621)) == ("open", "aborted"), "it has all but what came later"
        else:
            assert (at(241), at(243)) == ("open", "aborted"), "the second of them waits as long"

    run(main)


def test_a_broker_that_never_answers_connect(monkeypatch):
    async def main():
        session = ClientSession(Hello("n"), 1, lambda _: None)
        link = BrokerLink(session, SessionOptions("n", "b", connect_timeout_s=2.0), lambda _: None)
        wire = Wire()
        link.connection_made(wire)
        later = link._begun_ns + 3 * 10**9
        link._ticked_ns = later
        monkeypatch.setattr(mqtt_link.time, "monotonic_ns", lambda: later)
        link._tick()
        assert wire.state == "aborted"
        assert "CONNECT" in link.words
        link.connection_lost(None)
        await link.closed()

    asyncio.run(main())


class Asked(Joined):
    """Messages 1 to 20 of QoS 1 have come; ``ack`` as the session's owner does."""

    def __init__(self, **options):
        super().__init__(**options)
        for number in range(1, 21):
            self.hear(packet(0x32, f"\0\1t\0{chr(number)}\0"))
        assert not self.wire.writes

    def ack(self, *numbers):
        for number in numbers:
            self.session.ack(number)
            self.link.schedule_acks()


def test_an_acknowledgement_leaves_with_what_is_said_next(monkeypatch):
    monkeypatch.setattr(mqtt_link, "ACK_DELAY_S", 100)

    async def main(joined):
        joined.ack(1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not joined.wire.writes
        joined.publish(1)
        await asyncio.sleep(0)
        (written,) = joined.wire.writes
        assert written.startswith(b"\x40\x02\x00\x01\x30")

    run(main, kind=Asked)


def test_several_acknowledgements_do_not_wait(monkeypatch):
    monkeypatch.setattr(mqtt_link, "ACK_DELAY_S", 100)

    async def main(joined):
        joined.ack(*range(1, 1 + mqtt_link.ACKS_AT_ONCE))
        await asyncio.sleep(0)
        assert [len(written) for written in joined.wire.writes] == [4 * mqtt_link.ACKS_AT_ONCE]

    run(main, kind=Asked)


def test_where_nothing_follows_the_next_acknowledgements_do_not_wait_either(monkeypatch):
    async def main(joined):
        joined.ack(1)
        await until(lambda: joined.wire.writes)
        monkeypatch.setattr(mqtt_link, "ACK_DELAY_S", 100)
        joined.ack(2)
        await asyncio.sleep(0)
        assert joined.wire.writes == [b"\x40\x02\x00\x01", b"\x40\x02\x00\x02"]

    run(main, kind=Asked)


def test_a_small_window_is_not_kept_waiting(monkeypatch):
    monkeypatch.setattr(mqtt_link, "ACK_DELAY_S", 100)

    async def main(joined):
        joined.ack(1)
        await asyncio.sleep(0)
        assert joined.wire.writes == [b"\x40\x02\x00\x01"]

    run(main, kind=Asked, max_inflight=4)


def test_room_for_a_large_packet_and_for_few_small_ones():
    async def main(joined):
        assert len(joined.link.get_buffer(-1)) == SMALL_READ_BYTES
        large = b"\x30" + encode_length(100_000) + b"\0\1t\0" + b"x" * 99_996
        joined.hear(large[:SMALL_READ_BYTES])
        assert len(joined.link.get_buffer(-1)) == READ_BYTES
        joined.hear(large[SMALL_READ_BYTES:])
        assert [len(event.payload) for event in joined.events[1:]] == [99_996]
        assert len(joined.link.get_buffer(-1)) == SMALL_READ_BYTES

    run(main)


@pytest.mark.parametrize(
    ("apart_ns", "open_ones", "nbytes", "rests"),
    [
        (100_000, 8, 100, 2),
        (600_000, 8, 100, 0),
        (100_000, 7, 100, 0),
        (100_000, 8, 2 << 10, 0),
    ],
    ids=["dense", "now-and-then", "little-on-its-way", "much-at-once"],
)
def test_a_dense_flow_is_let_gather(monkeypatch, apart_ns, open_ones, nbytes, rests):
    """Only where the broker has much of ours, and brings little, again and again."""

    async def main(joined):
        clock, rested = [time.monotonic_ns() + 10**9], []
        monkeypatch.setattr(mqtt_link.time, "monotonic_ns", lambda: clock[0])
        monkeypatch.setattr(mqtt_link.time, "sleep", rested.append)
        for token in range(open_ones):
            joined.session.publish(token, Publication("t", b"p", qos=1))
        joined.session.take(clock[0])
        message = b"\x30" + encode_length(nbytes - 3 - (nbytes > 130)) + b"\0\1t\0"
        for _ in range(3):
            clock[0] += apart_ns
            joined.hear(message.ljust(nbytes, b"x"))
        assert len(rested) == rests
        assert all(seconds < 0.0001 for seconds in rested)

    run(main)
