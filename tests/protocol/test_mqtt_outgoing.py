"""What waits to be written, and what of it is in a hurry."""

from edged.protocol.broker_session import Published
from edged.protocol.mqtt_outgoing import Outgoing


def test_in_order_and_once():
    outgoing = Outgoing(b"first")
    outgoing.acknowledge(b"ack")
    outgoing.say(b"said")
    outgoing.tell(Published(1, 2))
    assert (outgoing.size_bytes, outgoing.acks, outgoing.is_urgent) == (12, 1, True)
    assert outgoing.take() == b"firstacksaid"
    assert outgoing, "its event is still to be told"
    assert outgoing.due() == [Published(1, 2)]
    assert not outgoing
    assert outgoing.take() == b""
    assert outgoing.due() == []
    assert (outgoing.size_bytes, outgoing.acks, outgoing.is_urgent) == (0, 0, False)


def test_nobody_waits_for_acknowledgements_alone():
    outgoing = Outgoing(b"first")
    outgoing.take()
    outgoing.acknowledge(b"ack")
    outgoing.acknowledge(b"ack")
    assert outgoing
    assert (outgoing.acks, outgoing.is_urgent) == (2, False)
    outgoing.tell(Published(1, 2))
    assert outgoing.is_urgent
