"""A connection without a socket: what is said, what is heard, and what a broker must not do."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.protocol.broker_session import (
    Connected,
    Message,
    Publication,
    Published,
    Subscribed,
    Unsubscribed,
)
from edged.protocol.mqtt import subscription_id
from edged.protocol.mqtt_rules import Rule
from edged.protocol.mqtt_session import UNTOLD, ClientSession
from edged.protocol.mqtt_wire import PacketReader, encode_length
from edged.protocol.mqtt_writer import Hello, write_connect
from tests.fakes.mqtt_bytes import CONNACK_V5, CONNACK_V311, VIOLATIONS, packet

S = 1_000_000_000


class Talk:
    """A session and what it says; ``hear`` feeds bytes and gives what it wrote."""

    def __init__(self, *, is_v5=True, connack=None, received=None, on_taken=None, **hello):
        self.events = []
        words = {"receive_maximum": 4, "topic_aliases": 2, "maximum_packet_bytes": 200_000}
        self.hello = Hello("n", is_v5, **words | hello)
        more = {} if on_taken is None else {"on_taken": on_taken}
        self.session = ClientSession(self.hello, 1, self.events.append, received, **more)
        assert self.session.take(0) == write_connect(self.hello)
        if connack is None:
            connack = CONNACK_V5 if is_v5 else CONNACK_V311
        if connack:
            self.hear(connack)
            assert isinstance(self.events.pop(), Connected)

    def hear(self, data, now_ns=0):
        self.session.receive(data, now_ns)
        return self.session.take(now_ns)

    def publish(self, token, topic="t", payload=b"", **more):
        self.session.publish(token, Publication(topic, payload, **more))
        return self.session.take(0)


def message(packet_id, first=0x32, topic=b"t", properties=b""):
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    body = len(topic).to_bytes(2, "big") + topic + number
    return packet(first, body + bytes((len(properties),)) + properties + b"x")


def said(found):
    return [(first, data[at:end]) for first, data, at, end in PacketReader().feed(found)]


def test_what_the_broker_says_of_itself():
    connack = packet(0x20, "\1\0\x11\x21\0\2\x24\1\x25\1\x27\0\0\1\0\x29\0\x13\0\x0a")
    talk = Talk(connack=b"")
    talk.hear(connack)
    assert talk.events == [Connected(1, "5", True, 2, 256)]


@pytest.mark.parametrize(
    ("is_v5", "data", "code", "words"),
    [
        (True, packet(0x20, "\0\x87\0"), 0x87, "Not authorized"),
        (True, packet(0x20, "\0\x89\7\x1f\0\4full"), 0x89, "Server busy (full)"),
        (False, packet(0x20, "\0\4"), 0x86, "Bad user name or password"),
        (True, packet(0x20, "\0\1"), 0x84, "Unsupported protocol version"),
    ],
)
def test_a_broker_that_refuses_us(is_v5, data, code, words):
    talk = Talk(is_v5=is_v5, connack=b"")
    assert talk.hear(data) == b""
    assert talk.session.is_over
    assert not talk.session.is_broken
    assert talk.session.reason_code == code
    assert words in talk.session.reason
    assert not talk.events


def test_a_broker_that_says_goodbye():
    talk = Talk()
    assert talk.hear(b"\xe0\x01\x8e" + message(1)) == b""
    assert talk.session.reason_code == 0x8E
    assert talk.session.is_over
    assert not talk.events, "nothing counts that comes behind it"


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda found: found.rule.name)
@pytest.mark.parametrize("is_v5", [True, False])
def test_a_broken_clause_ends_the_connection_with_its_reason(violation, is_v5):
    data = violation.v5 if is_v5 else violation.v311
    if not data:
        return
    talk = Talk(is_v5=is_v5, connack=None if violation.is_later else b"")
    written = talk.hear(data)
    if violation.rule.spares:
        assert not talk.session.is_over
        assert talk.session.rejected == 1
        assert violation.rule.v5 in talk.session.rejection
        assert not talk.events
        return
    assert talk.session.is_over
    assert talk.session.is_broken
    assert violation.rule.v5 in talk.session.reason
    expected = bytes((0xE0, 1, violation.rule.reason)) if is_v5 and violation.is_later else b""
    assert written == expected
    assert talk.hear(message(1)) == b"", "nothing is taken any more"


COMING_NOW = [
    (Rule.CONNACK_FIRST, b"", b"\xd0\x00"),
    (Rule.CONNACK_ONCE, None, CONNACK_V5),
    (Rule.DISCONNECT_EARLY, b"", b"\xe0\x00"),
    (Rule.AUTH_UNASKED, b"", b"\xf0\x00"),
    (Rule.AUTH_UNASKED, None, b"\xf0\x00"),
    (Rule.TOO_LARGE, None, b"\x30\xc0\x9a\x0c"),
    (Rule.PUBLISH_ALIAS_RANGE, None, message(0, 0x30, properties=b"\x23\x00\x03")),
    (Rule.PUBLISH_ALIAS_UNKNOWN, None, message(0, 0x30, b"", b"\x23\x00\x01")),
    (Rule.PUBLISH_IN_USE, None, message(1) + message(1)),
    (Rule.PUBLISH_IN_USE, None, message(1, 0x34) + message(1, 0x3C)),
    (Rule.PUBLISH_TOO_MANY, None, b"".join(map(message, range(1, 6)))),
    (Rule.ACK_UNKNOWN, None, b"\x40\x02\x00\x09"),
    (Rule.ACK_UNKNOWN, None, b"\x50\x02\x00\x09"),
    (Rule.ACK_UNKNOWN, None, b"\x70\x02\x00\x09"),
    (Rule.ACK_UNKNOWN, None, message(1, 0x34) + b"\x62\x02\x00\x01"),
    (Rule.SUBACK_UNKNOWN, None, b"\x90\x04\x00\x09\x00\x00"),
    (Rule.SUBACK_UNKNOWN, None, b"\xb0\x04\x00\x09\x00\x00"),
    (Rule.SUBACK_COUNT, None, b"\x90\x05\x00\x01\x00\x00\x00"),
    (Rule.UNSUBACK_COUNT, None, b"\xb0\x05\x00\x02\x00\x00\x00"),
]


@pytest.mark.parametrize(("rule", "connack", "data"), COMING_NOW, ids=str)
def test_what_comes_at_the_wrong_time(rule, connack, data):
    talk = Talk(connack=connack)
    if connack is None:
        talk.session.subscribe(1, (("a", 1),))
        talk.session.unsubscribe(2, ["a"])
        talk.session.take(0)
    written = talk.hear(data)
    assert talk.session.is_broken
    assert rule.v5 in talk.session.reason
    assert written == (b"" if connack == b"" else bytes((0xE0, 1, rule.reason)))


def test_every_rule_is_broken_somewhere():
    assert {rule for rule, _, _ in COMING_NOW} | {v.rule for v in VIOLATIONS} == set(Rule)


def test_one_poisonous_message_never_stops_the_others():
    talk = Talk()
    data = message(1) + message(2, topic=b"\xff") + message(3)
    assert talk.hear(data) == b"", "its acknowledgement waits for its turn"
    assert [event.mid for event in talk.events] == [1, 3]
    talk.session.ack(1), talk.session.ack(3)
    assert said(talk.session.take(0)) == [
        (0x40, b"\0\1"), (0x40, b"\0\2\x83"), (0x40, b"\0\3"),
    ]  # fmt: skip


def test_a_message():
    talk = Talk()
    properties = b"\x02\x00\x00\x00\x3c\x03\x00\x01k\x08\x00\x01r\x09\x00\x01c\x0b\x05"
    talk.hear(message(7, 0x3B, properties=properties), 5)
    assert talk.events == [
        Message(1, 7, "t", b"x", 1, True, True, 5, "r", b"c", 60, (5,), "k")
    ]  # fmt: skip
    talk.hear(message(0, 0x30, b"long", b"\x23\x00\x01") + message(0, 0x30, b"", b"\x23\x00\x01"))
    assert [event.topic for event in talk.events[1:]] == ["long", "long"]


def test_acknowledgements_leave_in_order_of_arrival():
    talk = Talk()
    talk.hear(message(5) + message(6) + message(7))
    talk.session.ack(7), talk.session.ack(6)
    assert talk.session.take(0) == b""
    talk.session.ack(5), talk.session.ack(5), talk.session.ack(99)
    assert said(talk.session.take(0)) == [(0x40, b"\0\5"), (0x40, b"\0\6"), (0x40, b"\0\7")]


def test_exactly_once():
    received = set()
    talk = Talk(received=received)
    assert talk.hear(message(5, 0x34)) == b""
    talk.session.ack(5)
    assert said(talk.session.take(0)) == [(0x50, b"\0\5")]
    again = Talk(received=received, connack=packet(0x20, "\1\0\0"))
    assert said(again.hear(message(5, 0x3C))) == [(0x50, b"\0\5")]
    assert not again.events, "it was given on before"
    assert said(again.hear(b"\x62\x02\x00\x05")) == [(0x70, b"\0\5")]
    assert said(again.hear(b"\x62\x02\x00\x05")) == [(0x70, b"\0\5\x92")]
    assert not received


def test_a_broker_that_lost_the_session_starts_afresh():
    received = {5}
    talk = Talk(received=received)
    talk.hear(message(5, 0x34))
    assert len(talk.events) == 1


def test_3_1_1_may_send_again_while_connected():
    talk = Talk(is_v5=False)
    data = b"\x32\x06\x00\x01t\x00\x05x"
    talk.hear(data)
    assert talk.hear(b"\x3a" + data[1:]) == b""
    assert len(talk.events) == 1
    talk.session.ack(5)
    assert said(talk.session.take(0)) == [(0x40, b"\0\5")]


def test_publications_keep_to_the_window_and_to_their_order():
    talk = Talk(connack=packet(0x20, "\0\0\3\x21\0\2"))
    for token in range(1, 5):
        talk.session.publish(token, Publication(f"{token}", b"p"))
    talk.session.publish(5, Publication("5", b"p", qos=0))
    written = said(talk.session.take(0))
    assert [body[2:3] for _, body in written] == [b"1", b"2"]
    assert [body[3:5] for _, body in written] == [b"\0\1", b"\0\2"]
    assert not talk.events
    written = said(talk.hear(b"\x40\x02\x00\x02" + b"\x40\x03\x00\x01\x87"))
    assert [body[2:3] for _, body in written] == [b"3", b"4", b"5"]
    assert talk.events == [
        Published(1, 2),
        Published(1, 1, 0x87, "Not authorized"),
        Published(1, 5),
    ]


def test_of_what_somebody_knows_by_its_token_there_is_no_event():
    talk, known = Talk(on_taken=lambda token: token == 7), []
    for token in (6, 7):
        known.append(said(talk.publish(token, qos=1))[0][1][3:5])
    talk.hear(b"".join(packet(0x40, packet_id) for packet_id in known))
    assert talk.events == [Published(1, 6)]
    known = said(talk.publish(7, qos=1))[0][1][3:5]
    talk.hear(packet(0x40, known + b"\x87"))
    assert [(event.token, event.reason_code) for event in talk.events[1:]] == [(7, 0x87)]


def test_a_publication_of_qos_0_is_done_when_it_is_taken_and_not_before():
    talk = Talk()
    talk.session.publish(1, Publication("t", b"p", qos=0))
    assert not talk.events, "whoever asked has not even got the token yet"
    assert talk.session.outgoing
    assert talk.session.take(0) == b"\x30\x05\x00\x01t\x00p"
    assert talk.events == [Published(1, 1)]
    assert not talk.session.outgoing


@pytest.mark.parametrize(
    ("connack", "publication", "code"),
    [
        ("\0\0\2\x25\0", Publication("t", b"", retain=True), 0x9A),
        ("\0\0\2\x24\0", Publication("t", b""), 0x9B),
        ("\0\0\2\x24\0", Publication("t", b"", qos=2), 0x9B),
        ("\0\0\5\x27\0\0\0\x20", Publication("t", bytes(30)), 0x95),
        ("\0\0\0", Publication("a/+", b""), 0x83),
        ("\0\0\0", Publication("t\0", b""), 0x83),
        ("\0\0\0", Publication("t" * 65536, b""), 0x83),
        ("\0\0\0", Publication("t", b"", content_type="\ud800"), 0x83),
        ("\0\0\0", Publication("t", b"", correlation=bytes(65536)), 0x83),
    ],
)
def test_what_must_not_be_sent_is_answered_in_words(connack, publication, code):
    talk = Talk(connack=packet(0x20, connack))
    talk.session.publish(1, publication)
    assert not talk.events
    assert talk.session.take(0) == b""
    (answer,) = talk.events
    assert (answer.token, answer.reason_code) == (1, code)
    assert answer.reason
    talk.session.publish(2, Publication("t", b"", qos=0))
    assert talk.session.take(0) != b"", "nothing is stuck behind it"


def test_a_packet_as_long_as_the_broker_takes_is_sent_and_no_longer_one():
    talk = Talk(connack=packet(0x20, "\0\0\5\x27\0\0\0\x20"))
    for token, size in ((1, 26), (2, 27)):
        talk.session.publish(token, Publication("t", bytes(size), qos=0))
    assert len(talk.session.take(0)) == 0x20
    assert [event.reason_code for event in sorted(talk.events, key=lambda one: one.token)] == [
        0,
        0x95,
    ]


@pytest.mark.parametrize("is_v5", [True, False])
def test_qos_2_is_done_when_it_is_completed(is_v5):
    """MQTT-4.3.3-2 to -5; the place in the window is taken until then."""
    talk = Talk(is_v5=is_v5)
    for token in (1, 2):
        talk.session.publish(token, Publication("t", b"p", qos=2))
    published = [first for first, _ in said(talk.session.take(0))]
    assert published == [0x34] * (2 if is_v5 else 1), "3.1.1 names no limit: one by one"
    assert talk.hear(b"\x50\x02\x00\x01") == b"\x62\x02\x00\x01"
    assert not talk.events
    assert (talk.hear(b"\x70\x02\x00\x01")[:1] == b"\x34") != is_v5
    assert talk.events == [Published(1, 1)]
    talk.events.clear()
    if is_v5:
        refused = talk.hear(b"\x50\x03\x00\x02\x97")
        assert refused == b"", "a refusal ends it: no PUBREL"
        assert (talk.events[0].token, talk.events[0].reason_code) == (2, 0x97)
    assert not talk.session.is_over


@pytest.mark.parametrize(
    "answers",
    [
        [b"\x70\x02\x00\x01"],
        [b"\x40\x02\x00\x01"],
        [b"\x50\x02\x00\x02"],
        [b"\x50\x02\x00\x01", b"\x50\x02\x00\x01"],
        [b"\x50\x02\x00\x01", b"\x40\x02\x00\x01"],
        [b"\x50\x02\x00\x01", b"\x70\x02\x00\x01", b"\x70\x02\x00\x01"],
    ],
)
def test_an_answer_to_qos_2_that_is_not_due_ends_the_connection(answers):
    talk = Talk()
    talk.session.publish(1, Publication("t", b"p", qos=2))
    for one in answers:
        talk.hear(one)
    assert talk.session.is_broken
    assert "that nothing waits for" in talk.session.reason


def test_a_broker_that_takes_no_qos_2_gets_qos_1():
    talk = Talk(connack=packet(0x20, "\0\0\2\x24\1"))
    assert talk.publish(1, qos=2)[:1] == b"\x32"
    talk.hear(b"\x40\x02\x00\x01")
    assert talk.events == [Published(1, 1)]


LONG = "plant/hall/device"


def test_a_topic_is_written_once_where_the_broker_takes_a_number_for_it():
    talk = Talk(connack=packet(0x20, "\0\0\3\x22\0\1"), maximum_packet_bytes=None)
    first, again, other, short = (
        said(talk.publish(token, topic, qos=0))[0][1]
        for token, topic in ((1, LONG), (2, LONG), (3, LONG + "2"), (4, "t"))
    )
    text = LONG.encode()
    assert first == bytes((0, len(text))) + text + b"\x03\x23\x00\x01"
    assert again == b"\0\0" + b"\x03\x23\x00\x01"
    assert other[2:-1] == text + b"2", "there is one number, and it is taken"
    assert short == b"\0\1t\0"


def test_a_number_that_never_left_is_not_used():
    talk = Talk(connack=packet(0x20, "\0\0\x08\x22\0\1\x27\0\0\0\x40"))
    assert talk.publish(1, LONG, bytes(60)) == b""
    assert LONG.encode() in talk.publish(2, LONG, b"p")
    assert LONG.encode() not in talk.publish(3, LONG, b"p")


def test_topics_have_no_numbers_before_mqtt_5_or_where_none_are_taken():
    for talk in (Talk(is_v5=False), Talk(connack=packet(0x20, "\0\0\0"))):
        for token in (1, 2):
            assert LONG.encode() in talk.publish(token, LONG, b"p")


@pytest.mark.parametrize("numbers", [True, False])
def test_subscriptions(numbers):
    talk = Talk(connack=packet(0x20, "\0\0\0" if numbers else "\0\0\2\x29\0"))
    talk.session.subscribe(9, (("a", 1), ("b", 0)))
    written = said(talk.session.take(0))
    if numbers:
        assert len(written) == 2
        number = encode_length(subscription_id("a"))
        assert written[0][1] == b"\0\1" + bytes((1 + len(number), 0x0B)) + number + b"\0\1a\x25"
        assert not talk.hear(b"\x90\x04\x00\x01\x00\x01")
        assert not talk.events
        talk.hear(b"\x90\x04\x00\x02\x00\x87")
    else:
        assert len(written) == 1
        talk.hear(b"\x90\x05\x00\x01\x00\x01\x87")
    assert talk.events == [Subscribed(1, 9, (("b", "Not authorized"),))]
    talk.events.clear()
    talk.session.unsubscribe(10, ["a", "b"])
    ((first, body),) = said(talk.session.take(0))
    assert first == 0xA2
    talk.hear(packet(0xB0, body[:2] + b"\0\0\x11"))
    assert talk.events == [Unsubscribed(1, 10)]


def test_signs_of_life():
    talk = Talk(keep_alive_s=10)
    session = talk.session
    session.tick(9 * S)
    assert session.take(9 * S) == b""
    session.tick(10 * S)
    session.tick(10 * S)
    assert session.take(10 * S) == b"\xc0\x00"
    session.tick(12 * S)
    assert session.take(12 * S) == b"", "it was asked already"
    talk.hear(b"\xd0\x00", 12 * S)
    session.publish(1, Publication("t", b"", qos=0))
    session.take(18 * S)
    session.tick(21 * S)
    assert session.take(21 * S) == b""
    session.tick(22 * S)
    assert session.take(22 * S) == b"\xc0\x00", "we spoke, the broker did not"


def test_the_brokers_own_keep_alive():
    talk = Talk(keep_alive_s=10, connack=packet(0x20, "\0\0\3\x13\0\2"))
    talk.session.tick(2 * S)
    assert talk.session.take(2 * S) == b"\xc0\x00"


def test_goodbye_is_the_last_word():
    talk = Talk()
    talk.hear(message(1))
    talk.session.ack(1)
    talk.session.disconnect()
    talk.session.disconnect()
    talk.session.publish(1, Publication("t", b""))
    talk.session.subscribe(1, (("a", 1),))
    talk.session.unsubscribe(1, ["a"])
    talk.session.ack(1)
    assert talk.session.take(0) == b"\x40\x02\x00\x01\xe0\x00"


STREAM = CONNACK_V5 + b"".join(message(n, 0x32 if n % 2 else 0x34) for n in (1, 2, 3)) + b"\xd0\x00"


@given(st.lists(st.integers(0, len(STREAM)), max_size=5))
def test_the_same_events_however_it_was_cut(places):
    whole, pieces = Talk(connack=b""), Talk(connack=b"")
    whole.hear(STREAM)
    ends = [0, *sorted(places), len(STREAM)]
    for begin, end in itertools.pairwise(ends):
        pieces.hear(STREAM[begin:end])
    assert pieces.events == whole.events
    assert len(whole.events) == 4


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([v for found in VIOLATIONS for v in (found.v5, found.v311) if v]),
    st.builds(message, st.integers(0, 6), st.sampled_from([0x30, 0x32, 0x34, 0x3A, 0x3C])),
    st.builds(
        packet, st.sampled_from([0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xE0]), st.binary(max_size=9)
    ),
)


@given(st.lists(PIECES, max_size=8), st.booleans())
def test_any_broker_is_understood_or_refused(pieces, is_v5):
    talk = Talk(is_v5=is_v5)
    for piece in pieces:
        if not talk.session.is_over:
            talk.session.publish(1, Publication("t", b""))
            talk.session.subscribe(2, (("a", 1),))
        talk.hear(piece)
        for event in talk.events:
            if isinstance(event, Message):
                talk.session.ack(event.mid)
        written = said(talk.session.take(0))
        assert all(first != 0xE0 for first, _ in written[:-1]), "nothing follows DISCONNECT"
    assert talk.session.is_over or not talk.session.is_broken


def test_what_nobody_waits_for_is_sent_without_a_word():
    talk = Talk()
    talk.session.publish(UNTOLD, Publication("t", b"p" * 2000, qos=0))
    talk.session.publish(7, Publication("t", b"q", qos=0))
    assert [body[-1:] for _, body in said(talk.session.take(0))] == [b"p", b"q"]
    talk.session.publish(UNTOLD, Publication("t/#", b"", qos=0))
    talk.session.take(0)
    assert [event.token for event in talk.events] == [7]
