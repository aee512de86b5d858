"""Plain messages together: the same answers, acknowledgements and endings as one by one."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.binding import BindingConfig
from edged.errors import DeadlineExceededError, RunError
from edged.messages import InferResponse
from edged.processing.cbor_data import encode_cbor
from edged.protocol.broker_session import REFUSED
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.router import Route
from edged.specs import FeaturesInput, OutputSpec
from edged.transports.bindings.bindings import Bindings
from edged.transports.bindings.plain_way import TOGETHER
from tests.fakes.clock import on_loop
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession as FakeModel
from tests.fakes.model import double
from tests.fakes.session import FakeSession, PausingSession, TogetherSession, settle
from tests.serving.test_dataplane import served

POISON = 666.0


def manifest(number: int = 1):
    return make_manifest(
        [("x", "float32", ("batch", 2))],
        [("y", "float32", ("batch", 2))],
        input_processing={"x": FeaturesInput(names=("a", "b"))},
        name="gate",
        release=number,
    )


def picky(inputs):
    if (inputs["x"] == POISON).any():
        raise RunError("poisonous")
    return double(inputs)


class OneByOne:
    """A door that looks nothing up for many."""

    def __init__(self, plane: Dataplane) -> None:
        self.submit, self.manifest = plane.submit, plane.manifest


class Bench:
    def __init__(
        self, *, auto=True, limit=None, function=picky, pauses=False, door=lambda one: one, **words
    ):
        self.model = FakeModel(function)
        self.plane = Dataplane()
        self.serve(1)
        kind = PausingSession if pauses else FakeSession
        self.session = words.pop("session", kind)(auto=auto)
        self.door = door(self.plane)
        self.bindings = Bindings(
            self.session,
            self.door,
            base="edged/n",
            executor=ThreadPoolExecutor(1),
            forwarder=words.pop("forwarder", None),
        )
        values = {"from_": "in/{site}", "to": "out/{site}", "model": "gate"} | words
        self.bindings.swap(self.bindings.prepare([BindingConfig(name="b", **values)]))
        self.bindings.start()
        self.session.connect(limit=limit)

    def serve(self, number: int) -> None:
        release = served(self.model, number, manifest=manifest(number))
        release.batch_rows = 32
        release._limits = release._limits.__class__(32, 0, release.forecast)
        self.release = release
        route = Route("gate", {number: release})
        self.plane.swap(ServingTable(6 + number, {"gate": route}))

    def send(self, a: float, topic: str = "in/hall", **more):
        return self.session.receive(
            topic,
            json.dumps({"a": a, "b": 1}).encode(),
            **more,
        )

    @property
    def counters(self):
        return self.bindings.stats()["bindings"]["b"]

    def answers(self, topic="out/hall"):
        return [one["y"][0] for one in self.session.documents(topic)]


@on_loop
async def test_what_comes_together_runs_together_and_is_answered_in_order():
    bench = Bench()
    messages = [bench.send(float(n)) for n in range(2 * TOGETHER + 3)]
    await settle()
    assert bench.answers() == [2.0 * n for n in range(2 * TOGETHER + 3)]
    assert bench.session.acked == [message.mid for message in messages]
    assert max(bench.model.runs) >= TOGETHER
    assert bench.release.counters.requests == len(messages), "the figures count messages, not runs"
    assert bench.counters["answered"] == len(messages)
    assert bench.counters["in_flight"] == bench.bindings.stats()["in_flight"] == 0


@on_loop
async def test_an_asker_that_is_alone_does_not_wait_for_the_turn():
    bench = Bench(auto=False, pauses=True)
    for n in range(20):
        bench.send(float(n))
        bench.session.on_pause()
        if n < 9:
            await settle()
    assert bench.answers() == [2.0 * n for n in range(20)]
    assert bench.session.acked == [], "no result is in the broker's hands yet"
    bench.session.puback_all()
    bench.session.on_pause()
    assert len(bench.session.acked) == 20


@on_loop
async def test_no_acknowledgement_before_the_result_is_safe():
    bench = Bench(auto=False)
    bench.session.puback_all()
    messages = [bench.send(float(n)) for n in range(3)]
    await settle()
    assert len(bench.session.open) == 3
    first, second, third = bench.session.open
    bench.session.puback(second)
    bench.session.puback(third)
    assert bench.session.acked == [], "they leave in the order of arrival"
    bench.session.puback(first)
    assert bench.session.acked == [message.mid for message in messages]


@on_loop
async def test_what_the_broker_took_needs_no_event_and_what_it_refused_has_one():
    bench = Bench(session=TogetherSession, auto=False)
    bench.session.puback_all()
    assert bench.session.untold == [], "what we say of ourselves is nobody's answer"
    messages = [bench.send(float(n)) for n in range(3)]
    await settle()
    first, second, third = bench.session.open
    bench.session.puback(third)
    bench.session.puback(first, REFUSED)
    await settle()
    assert bench.session.acked == [], "the first is asked again, and nobody leaves before it"
    bench.session.puback(second)
    bench.session.puback_all()
    await settle()
    assert bench.session.acked == [message.mid for message in messages]
    assert bench.session.untold == [third, second]


@on_loop
async def test_what_the_broker_took_on_a_connection_that_is_gone_is_nobodys():
    bench = Bench(session=TogetherSession, auto=False)
    bench.session.puback_all()
    message = bench.send(1.0)
    await settle()
    (token,) = bench.session.open
    bench.session.disconnect()
    assert not bench.session.on_taken(token)
    assert message.mid not in bench.session.acked


@on_loop
async def test_a_poisonous_message_stops_no_other():
    bench = Bench()
    messages = [bench.send(POISON if n == 4 else float(n)) for n in range(9)]
    await settle(60)
    assert bench.answers() == [2.0 * n for n in range(9) if n != 4]
    (letter,) = bench.session.documents("edged/n/error/b")
    assert "poisonous" in letter["message"]
    assert bench.session.acked == [message.mid for message in messages]
    assert (bench.counters["answered"], bench.counters["dead_lettered"]) == (8, 1)
    assert bench.counters["received"] == 9


@pytest.mark.parametrize("session", [PausingSession, TogetherSession])
@on_loop
async def test_a_run_that_fails_is_not_overtaken_by_those_behind_it(session):
    bench = Bench(session=session)
    numbers = [float(n) for n in range(2 * TOGETHER + 9)]
    messages = [bench.send(POISON if n == 4 else n) for n in numbers]
    await settle(60)
    messages.append(bench.send(99.0))
    await settle(60)
    assert bench.answers() == [2 * n for n in [*numbers, 99.0] if n != 4]
    assert bench.session.acked == [message.mid for message in messages]
    assert (bench.counters["answered"], bench.counters["dead_lettered"]) == (len(numbers), 1)
    assert bench.counters["received"] == len(messages)
    assert bench.counters["in_flight"] == bench.bindings.stats()["in_flight"] == 0
    assert bench.bindings._plain._way.asked == []


@on_loop
async def test_a_lost_connection_leaves_them_to_the_broker():
    bench = Bench(auto=False)
    for n in range(3):
        bench.send(float(n))
    bench.session.disconnect()
    await settle()
    assert bench.answers() == []
    assert bench.session.acked == []
    assert (bench.counters["abandoned"], bench.counters["in_flight"]) == (3, 0)
    bench.session.connect()
    message = bench.send(7.0)
    await settle()
    bench.session.puback_all()
    assert bench.answers() == [14.0]
    assert bench.session.acked == [message.mid]


@on_loop
async def test_a_connection_lost_before_the_pubacks():
    bench = Bench(auto=False)
    for n in range(3):
        bench.send(float(n))
    await settle()
    bench.session.disconnect()
    assert bench.counters["abandoned"] == 3
    assert bench.session.acked == []


@on_loop
async def test_an_answer_that_is_refused_ends_as_a_dead_letter():
    bench = Bench(auto=False)
    bench.session.puback_all()
    message = bench.send(1.0)
    await settle()
    bench.session.puback(code=0x87)
    await settle()
    bench.session.puback(code=0x87)
    bench.session.puback_all()
    assert len(bench.session.documents("edged/n/error/b")) == 1
    assert bench.session.acked == [message.mid]


@on_loop
async def test_answers_that_the_broker_would_not_take_end_as_dead_letters():
    bench = Bench(limit=600)
    message = bench.session.receive("in/" + "h" * 120, b'{"a": 1, "b": 2}')
    await settle()
    assert (bench.counters["dead_lettered"], bench.counters["answered"]) == (1, 0)
    assert bench.session.acked == [message.mid]


@on_loop
async def test_another_release_answers_as_soon_as_it_serves():
    bench = Bench()
    bench.send(1.0)
    await settle()
    bench.serve(2)
    bench.send(2.0)
    await settle()
    assert [one["release"] for one in bench.session.documents("out/hall")] == [1, 2]


@on_loop
async def test_a_release_swapped_behind_what_waits():
    bench = Bench()
    bench.send(1.0)
    bench.serve(2)
    await settle()
    assert [one["release"] for one in bench.session.documents("out/hall")] == [2]


@on_loop
async def test_a_topic_of_our_own_is_refused_as_ever():
    bench = Bench(to="edged/{site}/status")
    bench.send(1.0, "in/n")
    await settle()
    assert bench.session.documents("edged/n/error/b")[0]["code"] == "PERMISSION_DENIED"


@on_loop
async def test_fire_and_forget():
    bench = Bench(qos=0)
    for n in range(5):
        bench.send(float(n), qos=0)
    await settle()
    assert bench.answers() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert bench.counters["answered"] == 5


PAYLOADS = st.one_of(
    st.sampled_from(
        [
            b"", b"{}", b'{"a": 1}', b'{"a": 1, "b": "x"}', b'{"a": null, "b": 1}',
            b'[{"a": 1, "b": 2}, {"a": 3, "b": 4}]', b'{"a": 1e39, "b": 1}', b'{"a": 1e999, "b": 1}',
            b'{"a": true, "b": 1}', b'{"a": 666, "b": 1}', b"\xff", b'{"a": 1, "a": 2, "b": 3}',
            b'{"a": ' + b"1" * 60 + b', "b": 1}', b'{"a": 1, "b": 2, "c": "' + b"x" * 5000 + b'"}',
        ]
    ),
    st.tuples(st.integers(-9, 9), st.floats(-1e3, 1e3)).map(
        lambda pair: json.dumps({"a": pair[0], "b": pair[1]}).encode()
    ),
)  # fmt: skip
MESSAGES = st.lists(
    st.tuples(
        PAYLOADS,
        st.sampled_from(["in/hall", "in/hall", "in/roof", "in/n/x"]),
        st.sampled_from(
            [
                {}, {}, {}, {}, {"dup": True}, {"expiry_s": 60}, {"correlation": b"c"},
                {"response_topic": "r/1"}, {"content_type": "text/plain"}, {"retain": True},
                {"qos": 0},
            ]
        ),
    ),
    max_size=40,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(MESSAGES)
def test_it_makes_no_difference_to_anybody(messages):
    def play(together: bool, session=FakeSession):
        async def work():
            bench = Bench(door=(lambda one: one) if together else OneByOne, session=session)
            for payload, topic, more in messages:
                bench.session.receive(topic, payload, **more)
            await settle(120)
            found = {}
            for one in bench.session.of("publish"):
                seen = (one.payload, one.qos, one.properties, one.content_type, one.correlation)
                found.setdefault(one.topic, []).append(seen)
            stats = bench.bindings.stats()
            return found, bench.session.acked, stats["bindings"], stats["acknowledged"]

        return asyncio.run(work())

    one_by_one, together = play(False), play(True)
    for topic, seen in one_by_one[0].items():
        if topic.startswith("out/"):
            assert together[0][topic] == seen, "results for one topic leave in order"
        assert sorted(map(repr, together[0][topic])) == sorted(map(repr, seen))
    assert together[0].keys() == one_by_one[0].keys()
    assert together[1:] == one_by_one[1:]
    assert play(True, TogetherSession) == play(True, PausingSession)


@pytest.mark.parametrize(
    ("words", "payload"),
    [
        ({"codec": "cbor"}, encode_cbor({"a": 3, "b": 1})),
        ({"output": OutputSpec(tensor="y")}, b'{"a": 3, "b": 1}'),
        ({"fields": ("p.q", "b")}, b'{"p": {"q": 3}, "b": 1}'),
    ],
)
def test_other_forms(words, payload):
    @on_loop
    async def work():
        bench = Bench(**words)
        for _ in range(4):
            bench.session.receive("in/hall", payload)
        await settle()
        assert bench.answers() == [6.0] * 4

    work()


class KeepsEverything:
    """An outbox's forwarder that says when it has something, or that it never will."""

    max_packet_bytes = None

    def __init__(self) -> None:
        self.held = []

    def answered(self, message, binding):
        return False

    def keep(self, publication, config, message, on_kept):
        self.held.append((publication, on_kept))

    def stats(self):
        return {}


@on_loop
async def test_results_for_another_broker_are_acknowledged_when_they_are_kept():
    forwarder = KeepsEverything()
    bench = Bench(auto=False, forwarder=forwarder)
    messages = [bench.send(float(n)) for n in range(3)]
    await settle()
    assert [json.loads(one.payload)["y"][0] for one, _ in forwarder.held] == [0.0, 2.0, 4.0]
    assert bench.session.acked == []
    for _, on_kept in reversed(forwarder.held):
        on_kept("")
    assert bench.session.acked == [message.mid for message in messages]
    assert bench.counters["answered"] == 3


@pytest.mark.parametrize(("far", "near"), [(600, None), (None, 600)])
@on_loop
async def test_the_limit_is_that_of_the_broker_that_gets_the_results(far, near):
    forwarder = KeepsEverything()
    forwarder.max_packet_bytes = far
    bench = Bench(forwarder=forwarder, limit=near)
    message = bench.session.receive("in/" + "h" * 120, b'{"a": 1, "b": 2}')
    await settle()
    for _, on_kept in forwarder.held:
        on_kept("")
    await settle()
    assert len(forwarder.held) == (far is None)
    assert bench.counters["dead_lettered"] == (near is None)
    assert bench.session.acked == [message.mid]


@on_loop
async def test_a_result_that_the_outbox_never_takes_ends_as_a_dead_letter():
    forwarder = KeepsEverything()
    bench = Bench(forwarder=forwarder)
    message = bench.send(1.0)
    await settle()
    forwarder.held[0][1]("too large")
    await settle()
    forwarder.held[1][1]("too large")
    await settle()
    assert len(bench.session.documents("edged/n/error/b")) == 1
    assert bench.session.acked == [message.mid]


@on_loop
async def test_what_waited_for_a_place_is_answered_without_another_read():
    forwarder = KeepsEverything()
    bench = Bench(auto=False, pauses=True, forwarder=forwarder)
    for n in range(64 + 5):
        bench.send(float(n))
    bench.session.on_pause()
    await settle()
    assert len(forwarder.held) == 64, "so many at a time"
    for _, on_kept in forwarder.held[:64]:
        on_kept("")  # as the disk's thread has it called: the broker sent nothing
    await settle()
    assert len(forwarder.held) == 69


@on_loop
async def test_what_takes_the_place_of_an_answered_one_does_not_overtake_the_others():
    bench = Bench(auto=False, pauses=True, answer_qos=0)
    for n in range(20):  # it is known to be alone
        bench.send(float(n))
        bench.session.on_pause()
        await settle()
    before = len(bench.answers())
    bench.bindings._places.most = 3
    for n in range(4):
        bench.send(float(100 + n))
    bench.send(104.0, correlation=b"c")
    bench.send(105.0)
    bench.session.on_pause()
    await settle(60)
    assert bench.answers()[before:] == [2.0 * (100 + n) for n in range(6)]


@on_loop
async def test_what_takes_the_place_of_one_does_not_overtake_those_of_the_same_run():
    bench = Bench(auto=False, pauses=True, answer_qos=0)
    for n in range(20):
        for known in range(n):  # it becomes known to be alone at one of them
            bench.send(float(known))
            bench.session.on_pause()
            await settle()
        before = len(bench.answers())
        bench.bindings._places.most = 3
        for value in range(100, 105):
            bench.send(float(value), correlation=b"c" if value in {102, 104} else None)
        bench.session.on_pause()
        await settle(60)
        assert bench.answers()[before:] == [2.0 * value for value in range(100, 105)]


@on_loop
async def test_few_together_do_not_overtake_the_many_before_them():
    bench = Bench(pauses=True)
    numbers = iter(range(99))
    for count in (5, 16, 12, 2):  # 33 of them are more than one run has rows
        for _ in range(count):
            bench.send(float(next(numbers)))
        bench.session.on_pause()
    bench.send(35.0, correlation=b"c")
    await settle(60)
    assert bench.answers() == [2.0 * n for n in range(36)]


@on_loop
async def test_what_waited_longer_than_its_time_ends_as_one_by_one():
    bench = Bench(pauses=True)
    for n in range(20):  # it is known to be alone
        bench.send(float(n))
        bench.session.on_pause()
        await settle()
    message = bench.send(2.0, arrived_ns=time.monotonic_ns() - 3600 * 10**9)
    bench.session.on_pause()
    await settle()
    assert len(bench.answers()) == 20
    (letter,) = bench.session.documents("edged/n/error/b")
    assert letter["code"] == "DEADLINE_EXCEEDED"
    assert bench.session.acked[-1] == message.mid


@on_loop
async def test_one_that_is_late_leaves_the_others_their_run():
    bench = Bench(pauses=True)
    for _ in range(20):  # it is known to be alone
        bench.send(0.0)
        bench.session.on_pause()
        await settle()
    hour_ns = 3600 * 10**9
    messages = [bench.send(1.0, arrived_ns=time.monotonic_ns() - hour_ns) for _ in range(2)]
    messages += [bench.send(float(n)) for n in range(2, 9)]
    bench.session.on_pause()
    assert bench.model.runs[20:] == [7], "at once, and without those two"
    await settle(60)
    assert bench.model.runs[20:] == [7]
    assert bench.answers()[20:] == [2.0 * n for n in range(2, 9)]
    letters = bench.session.documents("edged/n/error/b")
    assert [letter["code"] for letter in letters] == ["DEADLINE_EXCEEDED"] * 2
    assert bench.session.acked[20:] == [message.mid for message in messages]
    assert (bench.counters["received"], bench.counters["dead_lettered"]) == (29, 2)


class Late:
    """A door whose queue gives up the first of every request of several rows, once."""

    def __init__(self, plane: Dataplane) -> None:
        self.submit, self.manifest, self._plane = plane.submit, plane.manifest, plane
        self.asked: list[int] = []

    def prepare(self, request):
        return LateCall(self._plane.prepare(request), self.asked)


class LateCall:
    def __init__(self, call, asked: list[int]) -> None:
        self._call, self._asked = call, asked

    def __getattr__(self, name):
        return getattr(self._call, name)

    def submit(self, inputs, rows, deadline_ns, origin, on_response):
        self._asked.append(rows)
        if len(self._asked) > 1:
            return self._call.submit(inputs, rows, deadline_ns, origin, on_response)
        error = DeadlineExceededError("no run of it could end in time")
        late = InferResponse("gate", 1, 7, error=error)
        return asyncio.get_running_loop().call_soon(on_response, late, True)


@on_loop
async def test_one_that_was_given_up_in_the_queue_leaves_the_others_their_run():
    bench = Bench(pauses=True, door=Late)
    messages = [bench.send(float(n)) for n in range(6)]
    bench.session.on_pause()
    await settle(60)
    assert bench.door.asked == [6, 5]
    assert sorted(bench.answers()) == [2.0 * n for n in range(6)], "the first had a run alone"
    assert bench.session.acked == [message.mid for message in messages]
    assert bench.counters["received"] == bench.counters["answered"] == 6


@on_loop
async def test_given_up_in_the_queue_after_the_connection_was_lost():
    bench = Bench(pauses=True, door=Late)
    for n in range(6):
        bench.send(float(n))
    bench.session.on_pause()
    bench.session.disconnect()
    await settle(60)
    assert (bench.door.asked, bench.answers()) == ([6], [])
    assert (bench.counters["abandoned"], bench.counters["in_flight"]) == (6, 0)


@on_loop
async def test_where_there_is_no_way_none_is_looked_for_with_each_message():
    bench = Bench()
    bench.release.batch_rows = 0
    looked = []
    bench.bindings._plain._prepare = lambda request: (
        looked.append(1) or bench.plane.prepare(request)
    )
    for n in range(50):
        bench.send(float(n))
    await settle(120)
    assert len(bench.answers()) == 50
    assert len(looked) < 50


@on_loop
async def test_what_was_taken_before_a_swap_is_answered_once_and_so_is_what_comes_behind_it():
    bench = Bench(pauses=True)
    bench.send(1.0)
    bench.session.on_pause()
    await settle()
    bench.send(2.0)
    bench.serve(2)
    bench.session.on_pause()
    for n in range(3, 9):
        bench.send(float(n))
        bench.session.on_pause()
        await settle(n % 2)
    await settle(60)
    assert bench.answers() == [2.0 * n for n in range(1, 9)]
    assert [one["release"] for one in bench.session.documents("out/hall")] == [1] + [2] * 7
    assert bench.release.counters.requests == 7, "none was run for the release before it"
