"""A rollout at work: who answers whom, by which key, also through prepared calls."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edged.config.rollout import RolloutConfig
from edged.errors import Code, QueueFullError, RunError
from edged.messages import PrepareRequest
from edged.rollout.drift import Reference
from edged.rollout.judge import Phase
from edged.rollout.ledger import Entry
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event
from edged.serving.release import ServedRelease
from edged.serving.rollout import Rollout
from edged.serving.router import Route
from edged.serving.standing import Standing
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, until
from tests.fakes.model import FakeSession
from tests.serving.test_dataplane import Answers, ask, served

X = np.ones((2, 4), np.float32)
FREE = TensorSpec("x", "float32", ("batch", 4))


def section(**fields: object) -> RolloutConfig:
    return msgspec.convert({"stable": 1, **fields}, RolloutConfig)


def canary(percent: int = 30, key: str | None = None, **more: object) -> RolloutConfig:
    return section(canary={"release": 2, "trafficPercent": percent, "key": key}, **more)


def house(config: RolloutConfig, *releases: ServedRelease) -> tuple[Dataplane, Rollout]:
    by_number = {one.number: one for one in releases}
    tried = config.canary.release if config.canary is not None else 0
    rollout = Rollout("gate", config, by_number, Entry("a", config.stable, tried))
    plane = Dataplane()
    route = Route("gate", by_number, rollout=rollout)
    plane.swap(ServingTable(6, {"gate": route}, {"gate": rollout}))
    return plane, rollout


def both() -> tuple[ServedRelease, ServedRelease]:
    triple = FakeSession(lambda inputs: {"y": inputs["x"] * 3})
    stable, new = served(FakeSession(), 1), served(triple, 2)
    new.turn = stable.turn
    return stable, new


def sides_of(rollout: Rollout) -> dict[str, int]:
    """Answers by release."""
    return {number: side.answers for number, side in rollout.entry.tally.sides.items()}


async def asked(plane: Dataplane, count: int, **fields: object) -> list[int]:
    """Who answered so many requests; ``asker`` may be a function of their number."""
    asker = fields.pop("asker", None)
    found = []
    for number in range(count):
        said = asker(number) if callable(asker) else asker
        found.append(ask(plane, asker=said, **fields))
        if number % 50 == 49:
            await until(lambda: all(found))
    await until(lambda: all(found))
    return [answers[0].release for answers in found]


class TestSides:
    @on_loop
    async def test_each_request_is_drawn_where_nothing_says_who_asks(self):
        plane, rollout = house(canary(30), *both())
        numbers = await asked(plane, 900)
        assert 0.2 < numbers.count(2) / 900 < 0.4
        tally = rollout.entry.tally
        assert tally.side(2).answers == numbers.count(2)
        assert tally.side(1).answers == numbers.count(1)

    @on_loop
    async def test_the_same_key_has_the_same_side(self):
        plane, _ = house(canary(50, "device"), *both())
        first = await asked(plane, 200, asker=lambda n: {"device": n})
        again = await asked(plane, 200, asker=lambda n: {"device": n, "id": f"x{n}"})
        other = house(canary(50, "device"), *both())[0]
        assert first == again == await asked(other, 200, asker=lambda n: {"device": n})
        assert {*first} == {1, 2}
        # By what it says, not by how it is written down.
        assert first == await asked(plane, 200, asker=lambda n: {"device": str(n)})
        assert first == await asked(plane, 200, asker=str)

    @on_loop
    async def test_without_a_key_a_requests_own_id_decides(self):
        plane, _ = house(canary(50), *both())
        first = await asked(plane, 100, asker=lambda n: {"id": f"r{n}"})
        assert first == await asked(plane, 100, asker=lambda n: {"id": f"r{n}", "a": n})

    @pytest.mark.parametrize("origin", ["uds:1000", "http:1000", "grpc:1000"])
    @on_loop
    async def test_a_user_stays(self, origin: str):
        plane, rollout = house(canary(50, "user"), *both())
        assert rollout.key_of(None, origin) == "1000"
        assert len({*await asked(plane, 50, origin=origin, asker=lambda n: {"user": n})}) == 1

    @pytest.mark.parametrize(
        "asker", [None, {}, {"device": ""}, {"device": None}, {"other": "x"}], ids=str
    )
    @on_loop
    async def test_one_that_says_nothing_is_drawn(self, asker: object):
        plane, _ = house(canary(50, "device"), *both())
        assert {*await asked(plane, 100, asker=asker)} == {1, 2}

    @on_loop
    async def test_a_shadow_beside_it_moves_nobody(self):
        sides = both()
        alone = house(canary(50, "device"), *sides)[1]
        config = canary(50, "device", shadow={"release": 3})
        beside = house(config, *sides, served(FakeSession(), 3))[1]
        for number in range(100):
            device = {"device": f"d{number}"}
            assert alone.place_of(device, "u") == beside.place_of(device, "u")

    @on_loop
    async def test_a_long_key_is_cut(self):
        _, rollout = house(canary(50, "device"), *both())
        assert len(rollout.key_of({"device": "x" * 10**6}, "uds:7") or "") == 256

    @on_loop
    async def test_keys_without_end_are_not_remembered(self):
        _, rollout = house(canary(50, "device"), *both())
        first = [rollout.place_of(f"d{n}", "uds:7") for n in range(5000)]
        assert len(rollout._places) <= 1024
        assert first == [rollout.place_of(f"d{n}", "uds:7") for n in range(5000)]

    @on_loop
    async def test_who_names_a_release_gets_it(self):
        plane, rollout = house(canary(100), *both())
        assert {*await asked(plane, 20, release=1)} == {1}
        assert not rollout.entry.tally.sides

    @on_loop
    async def test_ab(self):
        plane, _ = house(section(ab={"weights": {"1": 1, "2": 1}, "key": "k"}), *both())
        numbers = await asked(plane, 300, asker=lambda n: {"k": n})
        assert 0.4 < numbers.count(2) / 300 < 0.6

    @on_loop
    async def test_the_stable_one_answers_for_one_that_cannot(self):
        stable, _ = both()
        new = served(None, 2)
        plane, rollout = house(canary(100), stable, new)
        assert {*await asked(plane, 10)} == {1}
        assert rollout.entry.tally.missed == 10
        assert {*await asked(house(canary(100), stable)[0], 10)} == {1}

    @on_loop
    async def test_a_canary_answers_its_own_share_while_the_stable_one_cannot(self):
        new = both()[1]
        plane, rollout = house(canary(50, "k"), served(None, 1), new)
        found = [ask(plane, asker={"k": str(n)}) for n in range(40)]
        await until(lambda: all(found))
        errors = [answers[0].error for answers in found]
        good = errors.count(None)
        assert 10 < good < 30
        assert sides_of(rollout) == {"2": good}
        (text,) = {error.message for error in errors if error is not None}
        assert text.startswith('model "gate" is not ready: release 1 is new, and release 2')
        assert {error.code for error in errors if error is not None} == {Code.UNAVAILABLE}
        rollout.entry.move(Phase.ABORTED, "x", 1.0)
        assert ask(plane)[0].error is not None

    @on_loop
    async def test_in_ab_the_other_one_answers_for_the_stable_one_too(self):
        new = both()[1]
        config = section(ab={"weights": {"1": 1, "2": 1}, "key": "k"})
        plane, rollout = house(config, served(None, 1), new)
        assert {*await asked(plane, 40, asker=lambda n: {"k": str(n)})} == {2}
        assert 10 < rollout.entry.tally.missed < 30
        assert {*await asked(house(config, new)[0], 10, asker=lambda n: {"k": str(n)})} == {2}
        spec = TensorSpec("x", "float32", ("batch", 4))
        prepared = plane.prepare(PrepareRequest("gate", (spec,)))
        answers = Answers()
        for n in range(10):
            prepared.submit({"x": X}, 2, None, "uds:7", answers, key=str(n))
        await until(lambda: len(answers) == 10)
        assert {one.release for one in answers} == {2}
        assert ask(plane, release=1)[0].error is not None

    @on_loop
    async def test_a_failing_canary_is_counted_and_no_other(self):
        def fail(_inputs: object) -> dict[str, np.ndarray]:
            raise RunError("broken")

        stable = served(FakeSession(), 1)
        plane, rollout = house(canary(50), stable, served(FakeSession(fail), 2))
        found = [ask(plane) for _ in range(40)]
        found += [ask(plane, inputs={"x": X[:, :3]}) for _ in range(10)]
        await until(lambda: all(found))
        assert all(len(answers) == 1 for answers in found)
        side = rollout.entry.tally.side(2)
        assert side.errors == side.answers > 5
        assert rollout.entry.tally.side(1).errors == 0


class TestEnds:
    @pytest.mark.parametrize(
        ("phase", "number"),
        [(Phase.PROMOTED, 2), (Phase.ROLLED_BACK, 1), (Phase.ABORTED, 1)],
    )
    @on_loop
    async def test_afterwards_one_release_answers_all(self, phase: Phase, number: int):
        plane, rollout = house(canary(50), *both())
        rollout.entry.move(phase, "x", 1.0)
        assert {*await asked(plane, 30)} == {number}
        assert not rollout.entry.tally.sides


class TestPreparedCalls:
    @staticmethod
    def prepare(plane: Dataplane, **fields: object):
        return plane.prepare(PrepareRequest("gate", (FREE,), **fields))

    @staticmethod
    async def call(prepared, count: int, **more: object) -> list[int]:
        found = [Answers() for _ in range(count)]
        for answers in found:
            prepared.submit({"x": X}, 2, None, "uds:7", answers, **more)
        await until(lambda: all(found))
        return [answers[0].release for answers in found]

    @on_loop
    async def test_each_call_has_its_side(self):
        plane, _ = house(canary(50), *both())
        prepared = self.prepare(plane)
        assert {*await self.call(prepared, 100)} == {1, 2}

    @on_loop
    async def test_who_asks_stays(self):
        plane, _ = house(canary(50, "user"), *both())
        assert len({*await self.call(self.prepare(plane), 50)}) == 1
        plane, _ = house(canary(50, "device"), *both())
        for device in "abc":
            one = await self.call(self.prepare(plane, asker={"device": device}), 20)
            assert len({*one}) == 1

    @on_loop
    async def test_no_refusal_of_one_side_is_for_all(self, monkeypatch: pytest.MonkeyPatch):
        """Whose request it is has to be looked up before anybody refuses it, and counts that."""
        stable, new = both()
        error = QueueFullError("full")
        monkeypatch.setattr(stable, "shuts_out", lambda *_: error)
        split = self.prepare(house(canary(50), stable, new)[0])
        sole = self.prepare(house(canary(0), stable, new)[0])
        assert split.is_current
        assert (split.shuts_out(1, None, 0, "u"), sole.shuts_out(1, None, 0, "u")) == (None, error)

    @on_loop
    async def test_the_short_way_takes_the_side_of_the_key(self):
        """The queue and the short way give each key the same answerer, and both are counted."""
        plane, rollout = house(canary(50, "device"), *both())
        prepared = self.prepare(plane)
        assert {*prepared.numbers} == {1, 2}  # nothing that was looked up once leads to one release
        keys = [f"d{number}" for number in range(100)]
        queued = [await self.call(prepared, 1, key=key) for key in keys]
        before = dict(sides_of(rollout))
        y = np.empty_like(X)
        lone = prepared.bind({"x": X}, {"y": y}, 2)
        assert lone.is_current
        for key, [number] in zip(keys, queued, strict=True):
            assert lone.run("uds:7", key).release == number
            assert (y == X * (3 if number == 2 else 2)).all()
        assert {number for [number] in queued} == {1, 2}
        assert sides_of(rollout) == {number: 2 * count for number, count in before.items()}

    @on_loop
    async def test_the_short_way_draws_for_who_says_nothing(self):
        plane, rollout = house(canary(30), *both())
        lone = self.prepare(plane).bind({"x": X}, {"y": np.empty_like(X)}, 2)
        numbers = [lone.run("uds:7").release for _ in range(900)]
        assert 0.2 < numbers.count(2) / 900 < 0.4
        assert rollout.entry.tally.side(2).answers == numbers.count(2)

    @on_loop
    async def test_a_draw_that_goes_the_usual_way_is_not_drawn_again(self):
        """Else a side that the short way cannot take would get less than its share."""
        _, rollout = house(canary(30), *both())
        where = rollout.place_of(None, "uds:7")
        rollout.put_back(where, None, "uds:7")
        assert rollout.place_of("a key", "uds:7") != where
        assert rollout.place_of(None, "uds:7") == where
        assert rollout.place_of(None, "uds:7") != where
        by_key = rollout.place_of("a key", "uds:7")
        rollout.put_back(by_key, "a key", "uds:7")
        assert rollout.place_of(None, "uds:7") != by_key, "drawn, not the key's"

    @pytest.mark.parametrize(
        "config", [canary(100), section(ab={"weights": {"1": 0, "2": 1}})], ids=["canary", "ab"]
    )
    @on_loop
    async def test_the_short_way_where_another_one_gets_all(self, config: RolloutConfig):
        plane, rollout = house(config, *both())
        prepared = self.prepare(plane)
        assert {*await self.call(prepared, 5)} == {2}
        lone = prepared.bind({"x": X}, {"y": np.empty_like(X)}, 2)
        assert lone.run("uds:7").release == 2
        assert sides_of(rollout) == {"2": 6}

    @on_loop
    async def test_no_short_way_while_a_side_has_none(self):
        """Neither for the other one: what is left to the queue would be of one side alone."""
        stable, new = both()
        plane, _ = house(canary(50), stable, new)
        lone = self.prepare(plane).bind({"x": X}, {"y": np.empty_like(X)}, 2)
        assert lone.run("uds:7") is not None
        new.running += 1
        assert {lone.run("uds:7") for _ in range(50)} == {None}
        slow = served(FakeSession(), 2, typical_ns=10_000_000)
        plane, rollout = house(canary(50), stable, slow)
        lone = self.prepare(plane).bind({"x": X}, {"y": np.empty_like(X)}, 2)
        assert {lone.run("uds:7") for _ in range(50)} == {None}
        assert not rollout.entry.tally.sides

    @on_loop
    async def test_the_short_way_is_back_when_it_is_over(self):
        plane, rollout = house(canary(50), *both())
        prepared = self.prepare(plane)
        lone = prepared.bind({"x": X}, {"y": np.empty_like(X)}, 2)
        rollout.entry.move(Phase.PROMOTED, "x", 1.0)
        Standing.moves += 1
        assert not lone.is_current
        assert {*await self.call(prepared, 20)} == {2}
        assert prepared.is_current
        lone = prepared.bind({"x": X}, {"y": np.empty_like(X)}, 2)
        assert lone.run("uds:7").release == 2

    @on_loop
    async def test_one_that_names_a_release_is_left_alone(self):
        plane, _ = house(canary(100), *both())
        prepared = self.prepare(plane, release=1)
        assert prepared.is_current
        assert {*await self.call(prepared, 5)} == {1}

    @on_loop
    async def test_a_rollout_that_begins_catches_calls_prepared_before(self):
        stable, new = both()
        plane = Dataplane()
        plane.swap(ServingTable(5, {"gate": Route("gate", {1: stable, 2: new}, 1)}))
        prepared = self.prepare(plane)
        assert {*await self.call(prepared, 5)} == {1}
        beside, _ = house(canary(100), stable, new)
        plane.swap(beside.table)
        assert {*await self.call(prepared, 5)} == {2}
        new.move(Event.RETIRE)
        assert {*await self.call(prepared, 5)} == {1}


@on_loop
async def test_tensors_of_the_canary_are_looked_at_now_and_then():
    plane, rollout = house(canary(100), *both())
    rollout.references = {"in.x": Reference(0.0, 1.0), "out.y": Reference(0.0, 1.0)}
    await asked(plane, 10)
    moments = rollout.entry.tally.moments
    assert moments["in.x"].total / moments["in.x"].count == 1
    assert moments["out.y"].total / moments["out.y"].count == 3
    assert moments["in.x"].count < 10 * X.size


@on_loop
async def test_tensors_that_cannot_be_looked_at_cost_nobody_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("a fault of the daemon's own")

    plane, rollout = house(canary(100), *both())
    rollout.references = {"in.x": Reference(0.0, 1.0)}
    monkeypatch.setattr("edged.serving.rollout.observe", fail)
    monkeypatch.setattr("edged.serving.rollout._LOOK_NS", 0)
    assert {*await asked(plane, 3)} == {2}
    assert caplog.text.count("could not be looked at") == 1, "said once"
