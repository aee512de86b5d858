"""Answers that leave together, and messages that are acknowledged together: never before."""

from tests.fakes.clock import on_loop
from tests.fakes.session import TogetherSession, settle
from tests.transports.bindings.test_plain import Bench, KeepsEverything


@on_loop
async def test_answers_leave_together_and_acknowledgements_at_the_pause():
    bench = Bench(auto=False, session=TogetherSession)
    bench.session.puback_all()  # our own status
    messages = [bench.send(float(n)) for n in range(3)]
    await settle()
    assert bench.session.of("together") == [3]
    assert bench.answers() == [0.0, 2.0, 4.0]
    assert bench.session.acked == [], "no answer is in the broker's hands yet"
    bench.session.puback(bench.session.open[1])
    await settle()
    assert bench.session.acked == [], "the first one is not"
    bench.session.puback_all()
    assert bench.session.acked == [], "not yet: more may follow in the same read"
    bench.session.on_pause()
    assert bench.session.acked == [message.mid for message in messages]
    assert bench.session.of("ack together") == [3]
    assert bench.counters["answered"] == 3
    stats = bench.bindings.stats()
    assert stats["in_flight"] == stats["bindings"]["b"]["in_flight"] == 0
    assert stats["acknowledged"] == 3


@on_loop
async def test_an_answer_that_is_refused_goes_the_usual_way():
    bench = Bench(auto=False, session=TogetherSession)
    bench.session.puback_all()
    first, second = bench.send(1.0), bench.send(2.0)
    await settle()
    bench.session.puback(bench.session.open[0], 0x97)
    bench.session.puback_all()
    await settle()
    assert bench.session.acked == [], "the first one is worked on again"
    bench.session.puback_all()
    await settle()
    assert bench.session.acked == [first.mid, second.mid]


@on_loop
async def test_what_is_safe_when_the_connection_ends_comes_again():
    bench = Bench(auto=False, session=TogetherSession)
    bench.session.puback_all()
    bench.send(1.0)
    await settle()
    bench.session.puback_all()
    bench.session.disconnect()
    bench.session.connect()
    await settle()
    assert bench.session.acked == [], "the acknowledgement belonged to the connection that is gone"
    assert bench.counters["abandoned"] == 1
    assert bench.counters["in_flight"] == 0
    again = bench.send(1.0, dup=True)
    await settle()
    bench.session.puback_all()
    await settle()
    assert bench.session.acked == [again.mid]


@on_loop
async def test_a_full_session_makes_room_before_it_drops_a_message():
    bench = Bench(auto=False, session=TogetherSession)
    bench.session.puback_all()
    most = bench.bindings._places.most
    for n in range(most):
        bench.send(float(n))
    await settle()
    bench.session.puback_all()
    # In the same read: their places are free, though nobody has paused yet.
    bench.send(7.0, qos=0)
    assert bench.bindings.stats()["dropped"] == 0
    assert len(bench.session.acked) == most


@on_loop
async def test_qos_0_is_done_when_it_is_sent():
    bench = Bench(auto=False, session=TogetherSession, answer_qos=0)
    messages = [bench.send(float(n)) for n in range(3)]
    await settle()
    assert bench.answers() == [0.0, 2.0, 4.0]
    assert bench.session.acked == [message.mid for message in messages]


@on_loop
async def test_an_answer_that_the_broker_would_not_take_is_no_business_of_the_others():
    bench = Bench(session=TogetherSession, limit=600)
    bench.send(1.0, topic="in/" + "x" * 100)
    bench.send(2.0)
    await settle()
    assert bench.session.of("together") == []
    assert bench.answers() == [4.0]
    assert len(bench.session.acked) == 2


@on_loop
async def test_answers_for_another_broker_go_to_its_outbox():
    forwarder = KeepsEverything()
    bench = Bench(session=TogetherSession, forwarder=forwarder)
    message = bench.send(1.0)
    await settle()
    assert bench.session.of("together") == []
    assert bench.session.acked == []
    forwarder.held[0][1]("")
    assert bench.session.acked == [message.mid]
