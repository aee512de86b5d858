"""How long a broker is waited for that acknowledges nothing; pure but for a socket's queue."""

import socket

from edged.transports.mqtt.patience import UNANSWERED_S, Patience, queued_bytes

S = 10**9


def test_the_same_for_two_minutes_is_the_end():
    made = Patience()
    assert not made.waits_for(()), "nothing is open"
    assert not made.waits_for((1,))
    made.begin((1,), 5 * S, 100)
    assert made.waits_for((1,))
    assert not made.waits_for((2,)), "the first was acknowledged"
    assert not made.waits_for(())
    assert not made.has_ended(int((5 + UNANSWERED_S) * S), 100)
    assert made.has_ended(int((5 + UNANSWERED_S) * S) + 1, 100)
    assert made.words == "the broker has not acknowledged what it was sent for 120 s"


def test_what_a_slow_network_has_is_not_the_brokers():
    made = Patience()
    made.begin((1,), 0, 100)
    assert not made.has_ended(500 * S, 99)
    assert not made.has_ended(620 * S, 100)
    assert made.has_ended(621 * S, 100)


def test_what_the_system_has_yet():
    near, far = socket.socketpair()
    with near, far:
        assert queued_bytes(near.fileno()) == 0
        near.send(b"x")
        assert queued_bytes(near.fileno()) > 0
        far.recv(9)
        assert queued_bytes(near.fileno()) == 0
