"""Order, acknowledgement and endings, over a session and a dataplane that do as they are told."""

import asyncio
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.binding import BindingConfig
from edged.errors import (
    DeadlineExceededError,
    DrainingError,
    FieldError,
    QueueFullError,
    RunError,
    TensorMismatchError,
)
from edged.messages import InferResponse
from edged.specs import Duration, FeaturesInput, WordColumn
from edged.transports.bindings.binding_set import prepare_bindings
from edged.transports.bindings.bindings import Bindings
from edged.transports.bindings.subscriptions import Remembered, SubscriptionMemory
from edged.transports.bindings.work import OFF_LOOP_BYTES
from tests.fakes.door import SUM, FakeDoor
from tests.fakes.manifests import make_manifest
from tests.fakes.session import FakeSession, settle
from tests.transports.conftest import until

GOOD = b'{"a": 1, "b": 2}'


def binding(name="vib", **words):
    values = {"from_": "in/{site}", "to": "out/{site}", "model": "sum"} | words
    return BindingConfig(name=name, **values)


class Bench:
    """Bindings between fakes, connected."""

    def __init__(
        self, *configs, auto=True, hold=False, connect=True, limit=None, door=None, **words
    ):
        self.session = FakeSession(auto=auto)
        self.door = door or FakeDoor(hold=hold)
        self.executor = ThreadPoolExecutor(1)
        self.bindings = Bindings(
            self.session, self.door, base="edged/n", executor=self.executor, **words
        )
        self.bindings.swap(self.bindings.prepare(list(configs) or [binding()]))
        self.bindings.start()
        if connect:
            self.session.connect(limit=limit)
            if not auto:
                self.session.puback_all()

    def counters(self, name="vib"):
        return self.bindings.stats()["bindings"][name]

    def letters(self, name="vib"):
        return self.session.documents(f"edged/n/error/{name}")


def on_loop(test):
    def run():
        asyncio.run(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@on_loop
async def test_a_request_is_answered_and_then_acknowledged():
    bench = Bench(auto=False)
    message = bench.session.receive("in/hall", GOOD, dup=True, expiry_s=60)
    (answer,) = bench.session.to("out/hall")
    assert bench.session.documents("out/hall") == [
        {"model": "sum", "release": 1, "generation": 7, "sum": 3.0}
    ]
    assert answer.properties == (
        ("edged-model", "sum"),
        ("edged-release", "1"),
        ("edged-generation", "7"),
        ("edged-status", "OK"),
        ("edged-dup", "1"),
    )
    assert (answer.content_type, answer.qos, answer.retain) == ("application/json", 1, False)
    assert 58 <= answer.expiry_s <= 60
    assert bench.session.acked == [], "the result is not in the broker's hands yet"
    bench.session.puback()
    assert bench.session.acked == [message.mid]
    assert bench.counters()["answered"] == 1


@on_loop
async def test_acknowledging_early_is_noticed():
    """The negative control of the promise: switched on, the PUBACK leaves before the result."""
    bench = Bench(auto=False, ack_early=True)
    message = bench.session.receive("in/hall", GOOD)
    assert bench.session.acked == [message.mid]
    bench.session.puback_all()
    assert bench.session.acked == [message.mid]
    assert bench.bindings.stats()["early_acks"] == 1


@on_loop
async def test_acknowledgements_leave_in_order_of_arrival():
    bench = Bench(hold=True)
    mids = [bench.session.receive("in/x", GOOD).mid for _ in range(4)]
    bench.door.release(2)
    bench.door.release(1)
    await settle()
    assert bench.session.acked == []
    assert len(bench.session.to("out/x")) == 2, "results need not wait for each other"
    bench.door.release(0)
    await settle()
    assert bench.session.acked == mids[:3]
    bench.door.release(0)
    await settle()
    assert bench.session.acked == mids


@on_loop
async def test_overlapping_bindings_all_run_and_the_last_one_acknowledges():
    bench = Bench(binding("vib"), binding("all", from_="in/#", to="all"), auto=False)
    message = bench.session.receive("in/hall", GOOD)
    assert len(bench.session.open) == 2
    bench.session.puback()
    assert bench.session.acked == []
    bench.session.puback()
    assert bench.session.acked == [message.mid]


@on_loop
async def test_a_message_that_cannot_be_parsed_stops_nobody():
    """telegraf #13476: one unparsable message was never acked, consumer stopped for good."""
    bench = Bench()
    bad = [b"", b"\x00\xff", b'{"a": 1', b'{"a": 1, "b": "x"}', b"[" * 1000]
    for payload in bad:
        bench.session.receive("in/hall", payload)
    good = bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.session.acked[-1] == good.mid
    assert len(bench.session.acked) == len(bad) + 1
    letters = bench.letters()
    assert len(letters) == len(bad)
    assert letters[1] == {
        "binding": "vib",
        "code": "INVALID_ARGUMENT",
        "message": "the payload is not UTF-8 text (byte 1)",
        "topic": "in/hall",
        "size": 2,
        "sha256": hashlib.sha256(bad[1]).hexdigest(),
    }
    assert bench.counters() | {"received": 0} == {
        "received": 0,
        "answered": 1,
        "gathered": 0,
        "dead_lettered": 5,
        "expired": 0,
        "abandoned": 0,
        "duplicates": 0,
        "undeliverable": 0,
        "suppressed": 0,
        "in_flight": 0,
    }


@pytest.mark.hostile("E1 a payload that is empty, noise or cut short")
@on_loop
async def test_an_error_is_told_to_the_asker_and_the_operators_before_the_acknowledgement():
    bench = Bench(auto=False)
    message = bench.session.receive(
        "in/hall", b"", response_topic="reply/1", correlation=b"c" * 65535
    )
    (reply,) = bench.session.to("reply/1")
    assert bench.session.documents("reply/1") == [
        {
            "error": {
                "code": "INVALID_ARGUMENT",
                "name": "DecodeError",
                "message": "the payload is empty; expected JSON",
            }
        }
    ]
    assert reply.correlation == b"c" * 65535
    assert ("edged-status", "INVALID_ARGUMENT") in reply.properties
    bench.session.puback()
    assert bench.session.acked == []
    bench.session.puback()
    assert bench.session.acked == [message.mid]


@on_loop
async def test_the_response_topic_wins_over_to_and_is_never_retained():
    bench = Bench(binding(retain=True))
    bench.session.receive("in/hall", GOOD, response_topic="reply/1", correlation=b"")
    bench.session.receive("in/hall", GOOD)
    await settle()
    (reply,) = bench.session.to("reply/1")
    assert (reply.correlation, reply.retain) == (b"", False)
    (kept,) = bench.session.to("out/hall")
    assert kept.retain


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("in/other", "come back as a request"),
        ("reply/+", "wildcard"),
        ("reply/#", "wildcard"),
        ("", "is empty"),
        ("$SYS/x", "belong to the broker"),
        ("edged/n/status", "our own"),
        ("edged/n", "our own"),
        ("x" * 2000, "limit"),
    ],
)
def test_loops_and_bad_response_topics_are_refused(topic, words):
    @on_loop
    async def run():
        bench = Bench()
        message = bench.session.receive("in/hall", GOOD, response_topic=topic)
        await settle()
        (letter,) = bench.letters()
        assert words in letter["message"]
        assert not bench.session.to(topic)[1:]  # at most our own "online"
        assert not bench.session.to("out/hall")
        assert bench.session.acked == [message.mid]

    run()


@on_loop
async def test_a_message_with_nowhere_to_answer_to_is_a_dead_letter():
    bench = Bench(binding(to=None))
    bench.session.receive("in/hall", GOOD)
    await settle()
    assert "no response topic" in bench.letters()[0]["message"]


@on_loop
async def test_captured_levels_cannot_reach_our_own_tree():
    bench = Bench(binding(from_="in/{a}/{b}/{c}", to="{a}/{b}/{c}"))
    bench.session.receive("in/edged/n/status", GOOD)
    bench.session.receive("in/$SYS/n/status", GOOD)
    await settle()
    assert len(bench.session.to("edged/n/status")) == 1  # "online"
    assert len(bench.letters()) == 2


@on_loop
async def test_a_failing_model_is_a_dead_letter():
    bench = Bench()
    bench.door.errors = [RunError("the runtime says no")]
    message = bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.letters()[0]["code"] == "INTERNAL"
    assert bench.session.acked == [message.mid]


@pytest.mark.hostile("E10 an exception in a handler of ours")
@on_loop
async def test_an_exception_of_our_own_is_a_dead_letter_and_the_rest_goes_on():
    """exception inside our handler → loop lives, message settled by policy."""
    bench = Bench()

    def explode(request):
        bench.door.on_submit = None
        raise KeyError("bug")

    bench.door.on_submit = explode
    first = bench.session.receive("in/hall", GOOD)
    second = bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.letters()[0]["code"] == "INTERNAL"
    assert "bug" not in bench.letters()[0]["message"]
    assert bench.session.acked == [first.mid, second.mid]


@on_loop
async def test_a_full_queue_is_tried_again_while_the_deadline_allows():
    bench = Bench(binding(timeout=Duration.parse("5s")))
    bench.door.errors = [QueueFullError("full", retry_after_ns=1_000_000)] * 2
    message = bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.session.acked == []
    for _ in range(100):
        await asyncio.sleep(0.005)
        if bench.session.acked:
            break
    assert bench.session.acked == [message.mid]
    assert bench.counters()["answered"] == 1
    assert len(bench.door.seen) == 3


@on_loop
async def test_a_queue_that_stays_full_is_reported_at_the_deadline():
    bench = Bench(binding(timeout=Duration.parse("1s")))
    bench.door.errors = [QueueFullError("full", retry_after_ns=10**10)]
    bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.letters()[0]["code"] == "RESOURCE_EXHAUSTED"


@on_loop
async def test_no_release_is_waited_for():
    bench = Bench(binding(timeout=Duration.parse("5s")))
    bench.door.manifests = {}
    message = bench.session.receive("in/hall", GOOD)
    await settle()
    assert not bench.door.seen
    bench.door.manifests = {"sum": SUM}
    for _ in range(100):
        await asyncio.sleep(0.005)
        if bench.session.acked:
            break
    assert bench.session.acked == [message.mid]


@on_loop
async def test_expired_messages_never_reach_the_model_and_just_end():
    """Message Expiry is the deadline: expired work never reaches the model."""
    bench = Bench()
    message = bench.session.receive("in/hall", GOOD, expiry_s=0)
    await settle()
    assert not bench.door.seen
    assert bench.counters()["expired"] == 1
    assert not bench.letters()
    assert bench.session.acked == [message.mid]


@on_loop
async def test_our_own_timeout_is_reported():
    bench = Bench()
    bench.door.errors = [DeadlineExceededError("late")]
    bench.session.receive("in/hall", GOOD, expiry_s=60)
    await settle()
    assert bench.letters()[0]["code"] == "DEADLINE_EXCEEDED"


@on_loop
async def test_the_deadline_is_the_expiry_or_the_timeout():
    bench = Bench(binding(timeout=Duration.parse("3s")))
    plain = bench.session.receive("in/hall", GOOD)
    brief = bench.session.receive("in/hall", GOOD, expiry_s=1)
    long = bench.session.receive("in/hall", GOOD, expiry_s=4_000_000_000)
    deadlines = [request.deadline_ns for request in bench.door.seen]
    assert deadlines == [
        plain.arrived_ns + 3 * 10**9,
        brief.arrived_ns + 10**9,
        long.arrived_ns + 60 * 10**9,
    ]


@on_loop
async def test_retained_messages_are_old_state_and_never_run():
    """frigate #582: stale snapshots delivered after reconnect."""
    bench = Bench()
    message = bench.session.receive("in/hall", GOOD, retain=True)
    await settle()
    assert not bench.door.seen
    assert bench.session.acked == [message.mid]
    assert bench.bindings.stats()["retained"] == 1


def test_messages_of_no_binding_are_acknowledged_counted_and_said_once(caplog):
    async def work():
        bench = Bench()
        messages = [bench.session.receive("elsewhere", GOOD) for _ in range(3)]
        assert bench.session.acked == [message.mid for message in messages]
        assert bench.bindings.stats()["unmatched"] == 3

    asyncio.run(work())
    said = [r for r in caplog.records if "belongs to no binding any more" in r.message]
    assert len(said) == 1, "there may be thousands"


@on_loop
async def test_work_of_a_lost_connection_is_forgotten():
    """hivemq-mqtt-client #481: an acknowledgement belongs to the connection it arrived on."""
    bench = Bench(hold=True)
    old = bench.session.receive("in/hall", GOOD)
    bench.session.disconnect()
    assert bench.counters()["in_flight"] == 0
    bench.session.connect(session_present=True)
    again = bench.session.receive("in/hall", GOOD, dup=True)
    bench.door.release_all()
    await settle()
    assert ("ack", old.mid) not in bench.session.log
    assert bench.session.acked == [again.mid]
    assert len(bench.session.to("out/hall")) == 1
    assert bench.counters()["abandoned"] == 1
    assert bench.counters()["in_flight"] == 0


@on_loop
async def test_a_disconnect_between_result_and_puback_leaves_the_request_unacknowledged():
    bench = Bench(auto=False)
    bench.session.receive("in/hall", GOOD)
    bench.session.disconnect()
    bench.session.connect(session_present=True)
    bench.session.puback_all()
    assert bench.session.acked == []
    assert bench.bindings.stats()["in_flight"] == 0


@on_loop
async def test_no_more_than_max_inflight_are_worked_on():
    bench = Bench(hold=True, max_inflight=3)
    mids = [bench.session.receive("in/x", GOOD).mid for _ in range(10)]
    assert len(bench.door.held) == 3
    dropped = bench.session.receive("in/x", GOOD, qos=0)
    assert dropped.mid == 0
    assert bench.bindings.stats()["dropped"] == 1
    while bench.door.held:
        bench.door.release_all()
        await settle()
    assert bench.session.acked == mids


@on_loop
async def test_thousands_of_quick_ends_do_not_recurse():
    bench = Bench(hold=True, max_inflight=1)
    bench.session.receive("in/x", GOOD)
    for _ in range(5000):
        bench.session.receive("nobody", b"")
    bench.door.release()
    await settle()
    assert len(bench.session.acked) == 5001


@on_loop
async def test_qos_0_requests_are_answered_without_acknowledgement():
    bench = Bench()
    bench.session.receive("in/hall", GOOD, qos=0)
    await settle()
    assert len(bench.session.to("out/hall")) == 1
    assert bench.session.acked == []
    assert bench.bindings.stats()["in_flight"] == 0


@on_loop
async def test_results_at_qos_0_are_done_when_sent():
    bench = Bench(binding(qos=0), auto=False)
    message = bench.session.receive("in/hall", GOOD)
    assert bench.session.to("out/hall")[0].qos == 0
    assert bench.session.acked == [message.mid]


@on_loop
async def test_a_result_the_broker_refuses_is_a_dead_letter():
    bench = Bench(auto=False)
    message = bench.session.receive("in/hall", GOOD)
    bench.session.puback(code=0x87)
    assert bench.letters()[0]["code"] == "PERMISSION_DENIED"
    assert bench.session.acked == []
    bench.session.puback(code=0x87)
    assert bench.session.acked == [message.mid], "undeliverable: logged, counted, and not blocking"
    assert bench.counters()["undeliverable"] == 1


@on_loop
async def test_a_result_too_large_for_the_broker_does_not_kill_the_connection():
    bench = Bench(binding(output=binding().output), limit=600)
    bench.session.receive("in/hall", b"[" + b",".join([GOOD] * 40) + b"]")
    await settle()
    assert not bench.session.to("out/hall")
    assert "the broker takes 600" in bench.letters()[0]["message"]


@on_loop
async def test_errors_too_large_for_the_broker_are_not_said_and_stop_nobody():
    bench = Bench(limit=1000)
    mids = [
        bench.session.receive("in/hall", b"{", response_topic="r", correlation=b"c" * 1000).mid,
        bench.session.receive("in/hall", b"{", response_topic="r").mid,
    ]
    await settle()
    letters, replies = bench.letters(), bench.session.to("r")
    assert (len(letters), len(replies)) == (2, 1), "the reply with so much correlation data is not"
    bench.session.connect(limit=200)
    said = len(bench.session.of("publish"))
    mids.append(bench.session.receive("in/hall", b"{", response_topic="r").mid)
    await settle()
    assert bench.session.of("publish")[said:] == []
    assert bench.session.acked == mids
    assert bench.counters()["dead_lettered"] == 3
    assert bench.counters()["undeliverable"] == 1


@pytest.mark.hostile("R38 PNG and JPEG only, capped from the header")
@on_loop
async def test_large_payloads_are_decoded_off_the_loop():
    bench = Bench()
    names = []
    bench.door.on_submit = lambda _: names.append(threading.current_thread().name)
    message = bench.session.receive("in/hall", GOOD + b" " * 40_000)
    assert not bench.door.seen, "it was read on the loop"
    for _ in range(200):
        await asyncio.sleep(0.005)
        if bench.session.acked:
            break
    assert bench.session.acked == [message.mid]
    assert names == [threading.main_thread().name]
    bench.session.receive("in/hall", b"{" + b" " * 40_000)
    for _ in range(200):
        await asyncio.sleep(0.005)
        if bench.letters():
            break
    assert bench.letters()[0]["code"] == "INVALID_ARGUMENT"


@on_loop
async def test_a_list_is_answered_by_rows():
    bench = Bench()
    bench.session.receive("in/hall", b'[{"a":1,"b":2},{"a":3,"b":4}]')
    assert bench.session.documents("out/hall")[0]["rows"] == [{"sum": 3.0}, {"sum": 7.0}]


@on_loop
async def test_a_swapped_release_gets_its_own_codec():
    bench = Bench()
    bench.session.receive("in/hall", GOOD)
    bench.door.manifests = {
        "sum": make_manifest(
            [("x", "float32", ("batch", 2))],
            [("sum", "float32", ("batch",))],
            input_processing={"x": FeaturesInput(names=("c", "d"))},
            name="sum",
            release=2,
        )
    }
    bench.session.receive("in/hall", b'{"c": 5, "d": 6}')
    assert [found["sum"] for found in bench.session.documents("out/hall")] == [3.0, 11.0]
    assert bench.session.documents("out/hall")[1]["release"] == 2


@on_loop
async def test_a_release_swapped_between_decoding_and_asking_is_decoded_for_again():
    bench = Bench(hold=True)
    bench.session.receive("in/hall", b'{"a": 1, "b": 2, "c": 3}')
    _, on_response = bench.door.held.pop()
    bench.door.manifests = {
        "sum": make_manifest(
            [("x", "float32", ("batch", 3))],
            [("sum", "float32", ("batch",))],
            input_processing={"x": FeaturesInput(names=("a", "b", "c"))},
            name="sum",
            release=2,
        )
    }
    on_response(InferResponse("sum", 2, 8, error=TensorMismatchError("wants 3")), True)
    bench.door.release_all()
    assert bench.session.documents("out/hall")[0]["sum"] == 6.0


def worded(release, *words):
    return make_manifest(
        [("x", "float32", ("batch", 2))],
        [("sum", "float32", ("batch",))],
        input_processing={"x": FeaturesInput(("a", "color"), {"color": WordColumn(words)})},
        name="sum",
        release=release,
    )


@on_loop
async def test_words_become_the_numbers_of_the_release_that_answers():
    bench = Bench()
    bench.door.manifests = {"sum": worded(1, "blue", "red")}
    bench.session.receive("in/hall", b'{"a": 10, "color": "red"}')
    bench.door.manifests = {"sum": worded(2, "amber", "blue", "red")}
    bench.session.receive("in/hall", b'{"a": 10, "color": "red"}')
    bench.session.receive("in/hall", b'{"a": 10, "color": "mauve"}')
    assert [found["sum"] for found in bench.session.documents("out/hall")] == [11.0, 12.0]
    (letter,) = bench.letters()
    assert "the model does not know the word 'mauve'" in json.dumps(letter)


@on_loop
async def test_a_release_swapped_while_a_long_payload_is_decoded_gets_its_own_words():
    bench = Bench()
    bench.door.manifests = {"sum": worded(1, "blue", "red")}
    may_go = threading.Event()
    bench.executor.submit(may_go.wait)
    row = {"a": 10, "color": "red", "more": "x" * OFF_LOOP_BYTES}
    bench.session.receive("in/hall", json.dumps(row).encode())
    bench.door.manifests = {"sum": worded(2, "amber", "blue", "red")}
    may_go.set()
    await until(lambda: bench.session.documents("out/hall"))
    assert bench.session.documents("out/hall")[0]["sum"] == 12.0
    bench.executor.shutdown()


@on_loop
async def test_a_draining_dataplane_leaves_the_message_to_the_next_start():
    bench = Bench()
    bench.door.errors = [DrainingError("stopping")]
    bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.session.acked == []
    assert not bench.letters()


@on_loop
async def test_partial_answers_wait_for_the_final_one():
    bench = Bench(hold=True)
    bench.session.receive("in/hall", GOOD)
    _, on_response = bench.door.held.pop()
    response = InferResponse("sum", 1, 7, {"sum": np.array([3], np.float32)})
    on_response(response, False)
    assert not bench.session.to("out/hall")
    on_response(response, True)
    assert len(bench.session.to("out/hall")) == 1


@on_loop
async def test_drain_finishes_what_is_in_hand_and_leaves_the_rest():
    """mosquitto #2662: drain before stop."""
    bench = Bench(hold=True, max_inflight=1)
    first = bench.session.receive("in/hall", GOOD)
    bench.session.receive("in/hall", GOOD)
    draining = asyncio.create_task(bench.bindings.drain(5))
    await settle()
    late = bench.session.receive("in/hall", GOOD)
    assert [found.payload for found in bench.session.to("edged/n/status")] == [
        b"online",
        b"draining",
    ]
    bench.door.release()
    await draining
    assert bench.session.acked == [first.mid]
    assert len(bench.door.seen) == 1, late
    status = bench.session.to("edged/n/status")
    assert status[-1].payload == b"offline"
    assert all(found.retain and found.qos == 1 for found in status)
    assert bench.session.stopped
    assert not bench.session.of("unsubscribe")


def test_what_is_too_large_to_be_said_ends_no_connection(caplog):
    async def main():
        bench = Bench(limit=600)
        bench.bindings.announce({"version": "1"}, [{"name": "m" * 1000}])
        assert bench.session.to("edged/n/info")
        assert not bench.session.to("edged/n/models")

    asyncio.run(main())
    assert "edged/n/models is larger than the broker takes" in caplog.text


SHARED = {"from_": "$share/fleet/in/{site}"}


@on_loop
async def test_a_member_that_leaves_its_group_answers_what_it_was_given_first():
    """mosquitto #2662: a shared subscription keeps giving messages to a member that is away."""
    bench = Bench(binding(**SHARED), hold=True, max_inflight=1)
    first = bench.session.receive("in/hall", GOOD)
    draining = asyncio.create_task(bench.bindings.drain(10))
    await settle()
    assert bench.session.of("unsubscribe") == [["$share/fleet/in/+"]]
    # The broker had queued it for us before it heard; nobody else gets it.
    late = bench.session.receive("in/hall", GOOD)
    bench.door.release()
    await until(lambda: len(bench.door.seen) == 2)
    assert not draining.done()
    bench.door.release()
    await draining
    assert bench.session.acked == [first.mid, late.mid]
    assert [found.payload for found in bench.session.to("edged/n/status")][1:] == [
        b"draining",
        b"offline",
    ]


def test_a_member_that_was_given_nothing_leaves_at_once(monkeypatch):
    monkeypatch.setattr("edged.transports.bindings.bindings._QUIET_S", 30)

    async def main():
        bench = Bench(binding(**SHARED))
        await asyncio.wait_for(bench.bindings.drain(120), 20)
        assert bench.session.of("unsubscribe") == [["$share/fleet/in/+"]]
        assert bench.session.stopped

    asyncio.run(main())


def test_a_member_that_cannot_finish_in_time_goes_anyway(caplog):
    async def main():
        bench = Bench(binding(**SHARED), hold=True)
        bench.session.receive("in/hall", GOOD)
        await bench.bindings.drain(0.3)
        assert bench.session.acked == []
        assert bench.session.stopped

    asyncio.run(main())
    assert "may be left at the broker" in caplog.text


@on_loop
async def test_a_reload_that_removes_a_shared_binding_still_answers_what_was_queued():
    bench = Bench(binding(**SHARED), binding("other", from_="other/{site}"))
    bench.bindings.swap(bench.bindings.prepare([binding("other", from_="other/{site}")]))
    assert bench.session.of("unsubscribe") == [["$share/fleet/in/+"]]
    late = bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.session.acked == [late.mid]
    assert len(bench.session.to("out/hall")) == 1
    assert bench.bindings.counters.unmatched == 0
    assert list(bench.bindings.stats()["bindings"]) == ["other"]
    bench.bindings.swap(bench.bindings.prepare([binding(**SHARED)]))
    bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 2, "once, not once for each time it was wanted"


@on_loop
async def test_who_steps_back_leaves_the_group_while_it_is_full():
    bench = Bench(binding(**SHARED), hold=True, max_inflight=4, steps_back=True)
    for _ in range(4):
        bench.session.receive("in/hall", GOOD)
    assert bench.session.of("unsubscribe") == [["$share/fleet/in/+"]]
    assert bench.bindings.stats()["stepped_back"]
    subscribed = len(bench.session.of("subscribe"))
    bench.door.release()
    assert len(bench.session.of("subscribe")) == subscribed, "one of four is not half"
    bench.door.release()
    assert bench.session.of("subscribe")[-1] == [("$share/fleet/in/+", 1)]
    assert bench.bindings.stats()["times_back"] == 1
    staying = Bench(binding(**SHARED), hold=True, max_inflight=1)
    staying.session.receive("in/hall", GOOD)
    assert not staying.session.of("unsubscribe")


@on_loop
async def test_drain_gives_up_at_its_deadline_and_without_a_broker():
    bench = Bench(hold=True)
    bench.session.receive("in/hall", GOOD)
    await bench.bindings.drain(0.01)
    assert bench.session.acked == []
    offline = Bench(connect=False)
    await offline.bindings.drain(1)
    assert offline.session.stopped


@on_loop
async def test_who_we_are_is_published_again_after_each_reconnect():
    """zigbee2mqtt: retained set re-published after a reconnect in case the broker lost it."""
    bench = Bench(connect=False)
    bench.bindings.announce({"version": "1"}, [{"name": "sum"}])
    bench.bindings.announce({"version": "1"}, [{"name": "sum"}])
    assert not bench.session.of("publish")
    for count in (1, 2):
        bench.session.connect()
        assert bench.session.documents("edged/n/info") == [{"version": "1"}] * count
        assert bench.session.documents("edged/n/models") == [[{"name": "sum"}]] * count
        assert [found.payload for found in bench.session.to("edged/n/status")] == [
            b"online"
        ] * count
    bench.bindings.announce({"version": "2"}, [{"name": "sum"}])
    assert bench.session.documents("edged/n/info")[-1] == {"version": "2"}
    assert len(bench.session.to("edged/n/models")) == 2


@on_loop
async def test_subscriptions_follow_the_bindings_and_tidy_after_an_earlier_process():
    """telegraf #9703: changed topics not subscribed with a persistent session."""
    saved = [["old/+", "in/+"]]
    held = Remembered({"old/+": ("b",), "in/+": ("b",)}, {})
    memory = SubscriptionMemory(lambda: held, lambda found: saved.append(sorted(found.held)))
    bench = Bench(memory=memory)
    await settle()
    assert bench.session.of("subscribe") == [[("in/+", 1)]]
    assert bench.session.of("unsubscribe") == [["old/+"]]
    assert saved[-1] == ["in/+"]
    bench.bindings.swap(bench.bindings.prepare([binding(from_="new/{site}")]))
    assert saved[-1] == ["in/+", "new/+"], "before the broker is told"
    await settle()
    assert bench.session.of("subscribe")[-1] == [("new/+", 1)]
    assert bench.session.of("unsubscribe")[-1] == ["in/+"]
    assert saved[-1] == ["new/+"]


@on_loop
async def test_every_connection_subscribes_again():
    """session lost at broker → resubscribe."""
    bench = Bench()
    bench.session.disconnect()
    bench.session.connect()
    assert bench.session.of("subscribe") == [[("in/+", 1)]] * 2


@on_loop
async def test_problems_are_said():
    """ekuiper #3270: no error shown. State per binding visible."""
    seen = []
    bench = Bench(connect=False, on_change=lambda: seen.append(bench.bindings.problem))
    assert "not connected" in bench.bindings.problem
    bench.session.connect()
    bench.session.disconnect("the cable is out")
    assert seen == [None, "the cable is out"]


@on_loop
async def test_swapped_bindings_keep_their_counts():
    bench = Bench()
    bench.session.receive("in/hall", GOOD)
    await settle()
    bench.bindings.swap(bench.bindings.prepare([binding(), binding("two", from_="b/{site}")]))
    assert bench.counters()["answered"] == 1
    assert bench.counters("two")["answered"] == 0


@on_loop
async def test_a_set_that_cannot_work_is_refused_and_the_old_one_stays():
    bench = Bench()
    with pytest.raises(FieldError):
        bench.bindings.prepare([binding(model="nope")])
    bench.session.receive("in/hall", GOOD)
    assert bench.session.to("out/hall")


@pytest.mark.hostile("R36 what waits is capped in bytes")
@on_loop
async def test_a_payload_over_the_limit_is_a_dead_letter():
    """limits.max_request holds on MQTT too, before anything is decoded; the next one is served."""
    bench = Bench()
    limit = prepare_bindings([binding()], bench.door.manifest, bench.bindings.topics, len(GOOD))
    bench.bindings.swap(limit)
    large = bench.session.receive("in/hall", GOOD + b" ")
    (letter,) = bench.letters()
    assert "limits.max_request" in letter["message"]
    assert letter["size"] == len(GOOD) + 1
    fits = bench.session.receive("in/hall", GOOD)
    assert len(bench.session.documents("out/hall")) == 1
    await settle()
    assert bench.session.acked == [large.mid, fits.mid]


TEXTS = st.text(max_size=40) | st.sampled_from(
    ["", "in/x", "re/+", "edged/n/status", "re/ok", "$a"]
)


@given(
    topic=st.text(max_size=20),
    payload=st.sampled_from([GOOD, b"", b"{", b"[" * 99]) | st.binary(max_size=40),
    response=st.none() | TEXTS,
    correlation=st.none() | st.binary(max_size=70_000),
    expiry=st.none() | st.integers(0, 2**32 - 1),
    qos=st.integers(0, 1),
    dup=st.booleans(),
)
@settings(max_examples=100)
def test_any_message_has_one_end(topic, payload, response, correlation, expiry, qos, dup):
    """Whatever the wire can carry: one acknowledgement, one result or letter, and none follows it."""

    @on_loop
    async def run():
        bench = Bench()
        words = {"response_topic": response, "correlation": correlation, "expiry_s": expiry}
        message = bench.session.receive(f"in/{topic}", payload, qos, dup=dup, **words)
        await settle()
        assert bench.session.acked == ([message.mid] if qos else [])
        counts = bench.counters()
        if counts["received"]:  # else the topic has more levels than the binding
            ends = counts["answered"] + counts["dead_lettered"] + counts["expired"]
            assert (ends, counts["in_flight"]) == (1, 0)
        assert len(bench.letters()) == counts["dead_lettered"]
        count = len(bench.session.log)
        await settle()
        assert len(bench.session.log) == count

    run()


class Keeper:
    """A forwarder that notes what it is given."""

    def __init__(self, limit=None, known=()):
        self.max_packet_bytes = limit
        self.kept, self.passed, self.known = [], [], set(known)

    def keep(self, publication, config, message, on_kept):
        self.kept.append((publication, on_kept))

    def answered(self, message, binding):
        return message.dup and message.correlation in self.known

    def stats(self):
        return {"state": "connected"}


@on_loop
async def test_results_for_another_broker_acknowledge_when_they_are_kept():
    keeper = Keeper()
    bench = Bench(auto=False, forwarder=keeper)
    message = bench.session.receive("in/hall", GOOD)
    assert bench.session.open == []
    ((publication, on_kept),) = keeper.kept
    assert publication.topic == "out/hall"
    assert bench.session.acked == []
    on_kept("")
    assert bench.session.acked == [message.mid]
    assert bench.counters()["answered"] == 1
    assert bench.bindings.stats()["results"] == {"state": "connected"}


@on_loop
async def test_replies_and_dead_letters_stay_with_the_broker_that_asked():
    keeper = Keeper()
    bench = Bench(forwarder=keeper)
    bench.session.receive("in/hall", GOOD, response_topic="reply")
    bench.session.receive("in/hall", b"bad")
    await settle()
    assert (keeper.kept, len(bench.session.to("reply")), len(bench.letters())) == ([], 1, 1)


@on_loop
async def test_what_can_never_be_kept_is_a_dead_letter():
    keeper = Keeper()
    bench = Bench(forwarder=keeper)
    message = bench.session.receive("in/hall", GOOD)
    keeper.kept[0][1]("too large for it")
    await settle()
    assert bench.letters()[0]["message"] == "too large for it"
    assert bench.session.acked == [message.mid]
    bench = Bench(forwarder=Keeper(limit=10))
    bench.session.receive("in/hall", GOOD)
    await settle()
    assert "the broker takes 10" in bench.letters()[0]["message"]


@on_loop
async def test_kept_after_the_connection_was_lost_is_known_when_it_comes_again():
    keeper = Keeper()
    bench = Bench(forwarder=keeper)
    bench.session.receive("in/hall", GOOD, correlation=b"c")
    bench.session.disconnect()
    keeper.kept[0][1]("")
    assert bench.session.acked == []
    keeper.known.add(b"c")
    bench.session.connect()
    message = bench.session.receive("in/hall", GOOD, correlation=b"c", dup=True)
    assert bench.session.acked == [message.mid]
    assert len(keeper.kept) == 1
    counters = bench.counters()
    assert (counters["duplicates"], counters["abandoned"], counters["answered"]) == (1, 1, 0)
    assert counters["in_flight"] == 0
