"""Windows by MQTT: what is acknowledged when, and that each row counts once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from edged.config.keyed import WindowConfig
from edged.config.publish import PublishConfig
from edged.errors import QueueFullError, RunError
from edged.messages import InferRequest, InferResponse, OnResponse
from edged.outbox.outbox import Outbox
from edged.transports.bindings.forwarding import Forwarder
from edged.transports.bindings.keyed_states import KeyedStates
from tests.fakes.cut_disk import CutDisk
from tests.fakes.door import FakeDoor
from tests.fakes.manifests import make_manifest
from tests.fakes.session import FakeSession, settle
from tests.transports.bindings.test_bindings import Bench, binding, on_loop
from tests.transports.conftest import until

MANIFEST = make_manifest(
    [("x", "float32", ("batch", 3, 1))], [("sum", "float32", ("batch",))], name="mean"
)


class WindowDoor(FakeDoor):
    """A model of windows of three rows: it answers with their sum."""

    def __init__(self, *, hold: bool = False) -> None:
        super().__init__({"mean": MANIFEST}, hold=hold)

    def _answer(self, request: InferRequest, on_response: OnResponse) -> None:
        error = self.errors.pop(0) if self.errors else None
        assert request.inputs["x"].shape == (1, 3, 1)
        outputs = {} if error else {"sum": request.inputs["x"].sum(axis=(1, 2))}
        on_response(InferResponse(request.model, 1, 7, outputs, error), True)


class SlowKeeper:
    """Reports when told."""

    def __init__(self) -> None:
        self.disk: dict[bytes, bytes] = {}
        self.waiting: list[tuple[bytes, bytes, Callable[[], None] | None]] = []

    def put(self, key: bytes, state: bytes, on_kept: Callable[[], None] | None = None) -> None:
        self.waiting.append((key, state, on_kept))

    def sync(self) -> None:
        taken, self.waiting = self.waiting, []
        for key, state, on_kept in taken:
            self.disk[key] = state
            if on_kept is not None:
                on_kept()


def bench(
    keeper: SlowKeeper | None = None, restored: dict[bytes, bytes] | None = None,
    *, hold: bool = False, auto: bool = True, forwarder: Forwarder | None = None,
    publish: PublishConfig | None = None, **window: Any,
) -> Bench:  # fmt: skip
    states = KeyedStates()
    if keeper is not None:
        states.adopt(keeper, restored or {})
    door = WindowDoor(hold=hold)
    rule = WindowConfig(**{"rows": 3, "keep": "disk" if keeper else "memory"} | window)
    config = binding(model="mean", fields=("v",), window=rule, publish=publish)
    return Bench(config, auto=auto, door=door, states=states, forwarder=forwarder)


def row(*values: float) -> bytes:
    return json.dumps([{"v": value} for value in values]).encode()


def sums(made: Bench, key: str = "x") -> list[float]:
    return [one["sum"] for one in made.session.documents(f"out/{key}")]


@on_loop
async def test_each_topic_has_its_window_and_each_message_its_end() -> None:
    made = bench()
    for number in range(1, 8):
        made.session.receive("in/x", row(number))
        made.session.receive("in/y", row(number * 10))
    await settle()
    assert (sums(made), sums(made, "y")) == ([6, 15], [60, 150])
    assert len(made.session.acked) == 14
    counters = made.counters()
    assert (counters["answered"], counters["gathered"]) == (4, 10)
    assert made.bindings.stats()["states"]["vib"]["keys"] == 2


@on_loop
async def test_hop_and_several_rows_in_a_message() -> None:
    made = bench(hop=1)
    made.session.receive("in/x", row(1, 2, 3, 4))
    made.session.receive("in/x", row(5))
    await settle()
    assert sums(made) == [6, 9, 12]
    assert made.counters()["answered"] == 2


@on_loop
async def test_acknowledged_when_the_rows_are_on_disk() -> None:
    keeper = SlowKeeper()
    made = bench(keeper)
    first = made.session.receive("in/x", row(1))
    second = made.session.receive("in/x", row(2))
    await settle()
    assert made.session.acked == []
    keeper.sync()
    assert made.session.acked == [first.mid, second.mid]
    again = bench(SlowKeeper(), keeper.disk)
    again.session.receive("in/x", row(3))
    await settle()
    assert sums(again) == [6]


@on_loop
async def test_a_window_counts_when_its_answer_is_in_the_brokers_hands() -> None:
    """Whatever breaks before, the message comes again, and finds the rows as they were."""
    keeper = SlowKeeper()
    made = bench(keeper, auto=False)
    made.session.receive("in/x", row(1, 2))
    keeper.sync()
    last = made.session.receive("in/x", row(3))
    assert sums(made) == [6]
    assert keeper.waiting == []
    killed = bench(SlowKeeper(), keeper.disk)
    killed.session.emit(last._replace(dup=True))
    await settle()
    assert sums(killed) == [6]
    made.session.puback()
    assert made.session.acked == [1]
    keeper.sync()
    assert made.session.acked == [1, last.mid]


@on_loop
async def test_what_is_delivered_again_counts_once() -> None:
    keeper = SlowKeeper()
    made = bench(keeper)
    first = made.session.receive("in/x", row(1))
    made.session.disconnect()
    keeper.sync()
    made.session.connect(session_present=True)
    made.session.emit(first._replace(connection=2, dup=True))
    await settle()
    keeper.sync()
    assert made.session.acked == [first.mid]
    assert made.counters()["duplicates"] == 1
    made.session.receive("in/x", row(2))
    made.session.receive("in/x", row(3))
    await settle()
    assert sums(made) == [6]
    # A daemon that was killed between the disk and the acknowledgement knows it too.
    again = bench(SlowKeeper(), keeper.disk)
    again.session.emit(first._replace(dup=True))
    await settle()
    assert again.counters()["duplicates"] == 1


@on_loop
async def test_a_connection_that_breaks_while_the_model_is_at_work() -> None:
    made = bench(hold=True)
    made.session.receive("in/x", row(1, 2))
    last = made.session.receive("in/x", row(3))
    behind = made.session.receive("in/x", row(4))
    assert len(made.door.held) == 1
    made.session.disconnect()
    made.session.connect(session_present=True)
    for message in (last, behind):
        made.session.emit(message._replace(connection=2, dup=True))
    made.door.release_all()
    await settle()
    assert sums(made) == [6]
    assert len(made.bindings.lanes) == 0
    made.session.receive("in/x", row(5))
    made.session.receive("in/x", row(6))
    made.door.release_all()
    await settle()
    assert sums(made) == [6, 15]


@on_loop
async def test_a_model_that_fails_or_is_busy() -> None:
    made = bench(hop=1)
    made.session.receive("in/x", row(1, 2))
    made.door.errors = [RunError("it broke")]
    made.session.receive("in/x", row(3))
    made.session.receive("in/x", row(4))
    await until(lambda: sums(made) == [9])
    assert made.counters()["dead_lettered"] == 1
    made.door.errors = [QueueFullError("busy")]
    made.session.receive("in/x", row(5, 6))
    await until(lambda: len(made.session.acked) == 4)
    assert sums(made) == [9, 12, 15]


@on_loop
async def test_poison_and_floods_stop_nobody() -> None:
    made = bench(hop=1)
    made.session.receive("in/x", b"nonsense")
    made.session.receive("in/x", row(*range(500)))
    made.session.receive("in/x", row(1, 2, 3))
    await settle()
    assert sums(made) == [6]
    letters = made.letters()
    assert len(letters) == 2
    assert "make 498 windows whole; at most 64" in letters[1]["message"]


@on_loop
async def test_messages_of_qos_0_count_and_wait_for_nothing() -> None:
    keeper = SlowKeeper()
    made = bench(keeper)
    for number in (1, 2, 3):
        made.session.receive("in/x", row(number), qos=0)
    await settle()
    assert sums(made) == [6]
    assert made.bindings.stats()["in_flight"] == 0
    assert len(keeper.waiting) == 3


@on_loop
async def test_a_binding_that_is_written_otherwise_begins_anew() -> None:
    """Also where rows would not even fit together."""
    made = bench()
    made.session.receive("in/x", row(1, 2))
    other = binding(model="mean", fields=("w",), window=WindowConfig(rows=3, keep="memory"))
    made.bindings.swap(made.bindings.prepare([other]))
    for number in (10, 20, 30):
        made.session.receive("in/x", b'{"w": %d}' % number)
    await settle()
    assert sums(made) == [60]
    assert made.bindings.stats()["states"]["vib"]["stale"] == 1


@on_loop
async def test_by_the_outbox_a_window_waits_for_room_once() -> None:
    """However often the connection comes and goes meanwhile; and its rows count all the same."""
    outbox = Outbox(CutDisk(), asyncio.get_running_loop().call_soon, max_bytes=1 << 20)
    outbox.open()
    forwarder = Forwarder(
        FakeSession(), outbox, base="edged/n", window=8, rate=0, on_change=lambda: None
    )
    made = bench(forwarder=forwarder)
    message = made.session.receive("in/x", row(1, 2, 3), correlation=b"c")
    for number in (2, 3, 4):
        made.session.disconnect()
        made.session.connect(session_present=True)
        made.session.emit(message._replace(connection=number, dup=True))
    assert made.session.acked == []
    outbox.step()
    await settle()
    assert outbox.stats()["kept"] == 1
    assert made.session.acked == [message.mid]
    assert made.counters()["answered"] == 1
    made.session.receive("in/x", row(4, 5, 6))
    outbox.step()
    await settle()
    assert outbox.stats()["kept"] == 2


@on_loop
async def test_windows_that_say_nothing_new_are_left_out_and_counted() -> None:
    made = bench(publish=PublishConfig(when="on_change"))
    for _ in range(3):
        made.session.receive("in/x", row(1, 2, 3))
    made.session.receive("in/x", row(1, 2, 3, 1, 2, 9))
    await settle()
    assert sums(made) == [6, 12]
    counters = made.counters()
    assert (counters["answered"], counters["suppressed"], counters["gathered"]) == (2, 2, 0)
    assert len(made.session.acked) == 4
