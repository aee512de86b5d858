"""What is said about filters, to a session that notes it."""

import asyncio

from edged.transports.bindings.subscriber import Subscriber
from edged.transports.bindings.subscriptions import SubscriptionMemory
from tests.fakes.session import FakeSession

PLAIN, SHARED = {"in/+": 1}, {"$share/g/in/+": 1}


def make(*, auto=False, **words):
    session = FakeSession(auto=auto)
    subscriber = Subscriber(session, SubscriptionMemory.none(), **words)
    session.emit = subscriber.answered
    return session, subscriber


def test_nothing_is_said_without_a_connection_and_everything_with_each():
    session, subscriber = make()
    subscriber.want(PLAIN | SHARED)
    assert session.log == []
    for count in (1, 2):
        subscriber.connected()
        assert session.of("subscribe") == [[("in/+", 1), ("$share/g/in/+", 1)]] * count
        subscriber.lost()
    subscriber.want(PLAIN)
    assert session.of("unsubscribe") == []
    subscriber.connected()
    assert session.of("unsubscribe") == [["$share/g/in/+"]]


def test_only_shared_filters_are_stepped_back_from():
    session, subscriber = make(steps_back=True)
    subscriber.want(PLAIN)
    subscriber.connected()
    subscriber.weigh(4, 4)
    assert session.of("unsubscribe") == []
    assert not subscriber.is_back
    subscriber.want(PLAIN | SHARED)
    subscriber.weigh(4, 4)
    assert session.of("unsubscribe") == [["$share/g/in/+"]]
    subscriber.want(PLAIN | SHARED)
    assert session.of("subscribe")[-1] == [("in/+", 1)], "a reload does not bring it back"
    subscriber.weigh(2, 4)
    assert session.of("subscribe")[-1] == [("$share/g/in/+", 1)]
    subscriber.weigh(4, 4)
    subscriber.lost()
    subscriber.connected()
    assert session.of("subscribe")[-1] == [("in/+", 1), ("$share/g/in/+", 1)]


def test_leaving_is_for_good_and_only_where_there_is_a_group():
    async def run():
        session, subscriber = make(auto=True, steps_back=True)
        subscriber.want(PLAIN)
        subscriber.connected()
        assert not await subscriber.leave(1)
        subscriber.want(SHARED)
        assert await subscriber.leave(1)
        assert session.of("unsubscribe")[-1] == ["$share/g/in/+"]
        count = len(session.log)
        subscriber.weigh(4, 4)
        subscriber.weigh(0, 4)
        assert len(session.log) == count
        _, unheard = make()
        unheard.want(SHARED)
        unheard.connected()
        assert not await unheard.leave(0.01)

    asyncio.run(run())
