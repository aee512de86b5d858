"""What leaves together is what would have left one after the other, byte by byte."""

import pytest

from edged.protocol.broker_session import Publication, Published
from edged.protocol.mqtt import JSON
from edged.protocol.mqtt_together import JOINED_BYTES
from tests.fakes.mqtt_bytes import packet
from tests.protocol.test_mqtt_session import Talk, message

LIKE = Publication("", b"", 1, False, JSON, None, None, (("edged-model", "gate"),))
TOPICS = ["out/the-first", "out/2", "out/the-first"]
PAYLOADS = [b"{}", b"x" * 300, b""]
ALIASES = packet(0x20, "\0\0\x03\x22\0\2")


def one_by_one(talk, topics, payloads, like, begin=1):
    """The same with ``publish``, which says what is right."""
    for token, (topic, payload) in enumerate(zip(topics, payloads, strict=True), begin):
        talk.session.publish(token, like._replace(topic=topic, payload=payload))
    return talk.session.take(0)


@pytest.mark.parametrize(
    "like",
    [
        LIKE,
        LIKE._replace(qos=0),
        LIKE._replace(retain=True),
        LIKE._replace(content_type=None, properties=()),
        LIKE._replace(expiry_s=7, correlation=b"c"),
    ],
)
def test_the_bytes_are_those_of_one_after_the_other(like):
    single, several = (Talk(connack=packet(0x20, "\0\0\0")) for _ in range(2))
    assert several.session.together.publish(range(1, 4), TOPICS, PAYLOADS, like)
    assert several.session.take(0) == one_by_one(single, TOPICS, PAYLOADS, like)
    if like.qos:
        for number in (1, 2, 3):
            several.hear(b"\x40\x02\x00" + bytes((number,)))
        assert several.events == [Published(1, token) for token in (1, 2, 3)]


def test_topics_that_the_broker_knows_by_number():
    talks = single, several = Talk(connack=ALIASES), Talk(connack=ALIASES)
    assert not several.session.together.publish(range(1, 4), TOPICS, PAYLOADS, LIKE), "new ones"
    for talk in talks:
        one_by_one(talk, ["out/the-first"], [b""], LIKE)
    assert several.session.together.publish(range(2, 4), TOPICS[:2], PAYLOADS[:2], LIKE)
    found = several.session.take(0)
    assert found == one_by_one(single, TOPICS[:2], PAYLOADS[:2], LIKE, 2)
    assert b"the-first" not in found


@pytest.mark.parametrize(
    ("like", "topic", "payload"),
    [
        (LIKE._replace(qos=2), "t", b""),
        (LIKE, "", b""),
        (LIKE, "t/#", b""),
        (LIKE, "t\0", b""),
        (LIKE, "\ud800", b""),
        (LIKE, "t" * 70_000, b""),
        (LIKE._replace(properties=(("k", "v" * 70_000),)), "t", b""),
        (LIKE, "t", bytes(JOINED_BYTES + 1)),
    ],
)
def test_what_is_unusual_is_left_to_others(like, topic, payload):
    talk = Talk(connack=packet(0x20, "\0\0\0"))
    topics, payloads = ["t", topic], [b"", payload]
    assert not talk.session.together.publish(range(1, 3), topics, payloads, like)
    assert talk.session.take(0) == b""
    assert talk.publish(1, "t", qos=1)[5:7] == b"\0\1", "no identifier was taken"


@pytest.mark.parametrize(
    "connack",
    ["\0\0\2\x24\0", "\0\0\2\x25\0", "\0\0\5\x27\0\0\0\x30", "\0\0\3\x21\0\1"],
    ids=["QoS 0 alone", "nothing retained", "48 bytes", "one at a time"],
)
def test_a_broker_that_takes_less(connack):
    talk = Talk(connack=packet(0x20, connack))
    like = LIKE._replace(retain=True)
    assert not talk.session.together.publish(range(1, 3), ["t", "t"], [b"", b""], like)
    assert talk.session.take(0) == b""


def test_nobody_is_overtaken():
    talk = Talk(connack=packet(0x20, "\0\0\3\x21\0\1"))
    one_by_one(talk, ["t", "t"], [b"", b""], LIKE)  # the second one waits
    assert not talk.session.together.publish(range(3, 4), ["t"], [b""], LIKE._replace(qos=0))


@pytest.mark.parametrize("is_v5", [True, False])
def test_identifiers_that_are_taken(is_v5):
    talk = Talk(is_v5=is_v5)
    talk.session.subscribe(1, (("in", 1),))
    assert not talk.session.together.publish(range(2, 3), ["t"], [b""], LIKE)


def test_identifiers_begin_again():
    talk = Talk(connack=packet(0x20, "\0\0\0"))
    talk.session._outflow._last = 65534
    assert not talk.session.together.publish(range(1, 4), TOPICS, PAYLOADS, LIKE)
    assert talk.session.together.publish(range(1, 2), ["t"], [b""], LIKE)
    one_by_one(talk, ["t"], [b""], LIKE, 2)
    talk.session._outflow._last = 0
    assert not talk.session.together.publish(range(3, 5), ["t", "t"], [b"", b""], LIKE), "1 is open"


def test_acknowledgements_leave_together_in_order():
    talk = Talk()
    talk.hear(message(7) + message(9) + message(8))
    assert not talk.session.together.acknowledge([9, 8]), "7 came before"
    assert not talk.session.together.acknowledge([7, 8])
    assert not talk.session.together.acknowledge([7, 9, 8, 1])
    assert talk.session.take(0) == b""
    assert talk.session.together.acknowledge([7, 9])
    assert talk.session.outgoing.acks == 2
    assert talk.session.take(0) == b"\x40\2\0\7\x40\2\0\x09"
    assert talk.session.together.acknowledge([8])
    talk.hear(message(7))
    assert not talk.session.is_over, "the identifier is free again"


def test_an_acknowledgement_that_was_given_back_early_keeps_its_place():
    talk = Talk()
    talk.hear(message(1) + message(2) + message(3))
    talk.session.ack(2)
    assert not talk.session.together.acknowledge([1])
    talk.session.ack(1)
    assert talk.session.take(0) == b"\x40\2\0\1\x40\2\0\2"


def test_a_message_of_qos_2_is_acknowledged_by_itself():
    talk = Talk()
    talk.hear(message(1, first=0x34))
    assert not talk.session.together.acknowledge([1])
    assert not talk.session.is_over


def test_a_broker_that_acknowledges_twice():
    talk = Talk()
    assert talk.session.together.publish(range(1, 2), ["t"], [b""], LIKE)
    talk.hear(b"\x40\x02\x00\x01" * 2)
    assert talk.session.is_broken
