"""What a session's options make of what a broker says of itself."""

import pytest

from edged.protocol.broker_session import Connected
from edged.transports.mqtt.connection import SessionOptions


@pytest.mark.parametrize(
    ("said", "stated", "found"),
    [(None, None, None), (500, None, 500), (None, 700, 700), (500, 700, 500), (900, 700, 700)],
)
def test_the_shorter_packet_of_the_broker_and_the_operator(said, stated, found):
    options = SessionOptions("n", "edged/n", most_sent_bytes=stated)
    event = options.bounded(Connected(1, "5", False, 10, said))
    assert event == Connected(1, "5", False, 10, found)
