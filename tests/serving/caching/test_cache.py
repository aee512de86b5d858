"""What is kept and what goes: never a wrong answer, never more bytes than allowed, counted truly."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edged.serving.caching.cache import Kept, ResponseCache, freeze

A, B = b"release a", b"release b"
ONE = freeze({"y": np.zeros(4, np.float32)}).size


def answer(number: float, count: int = 4) -> Kept:
    return freeze({"y": np.full(count, number, np.float32)})


def filled(room: int, *keys: bytes, ttl_ns: int | None = None) -> ResponseCache:
    made = ResponseCache(room * ONE, ttl_ns)
    for key in keys:
        made.put(A, key, answer(key[0]), 0)
    return made


def there(cache: ResponseCache, *keys: bytes) -> bytes:
    """Which of them are there, without asking for them."""
    return b"".join(key for key in keys if key in cache._once or key in cache._again)


class TestFrozen:
    def test_nobody_can_write_to_it(self):
        array = np.arange(4, dtype=np.float32)
        kept = freeze({"y": array})
        array[0] = 9
        view = kept.views()["y"]
        assert view[0] == 0
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.setflags(write=True)
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.base.setflags(write=True)

    def test_shapes_and_names_are_each_callers_own(self):
        kept = freeze({"y": np.zeros((2, 3), np.int8)})
        mine = kept.views()
        assert mine["y"] is not kept.views()["y"], "an array's shape can be set in place"
        del mine["y"]
        assert kept.views().keys() == {"y"}

    @pytest.mark.parametrize(
        "array",
        [
            np.float32(3),
            np.zeros((0, 3), np.int64),
            np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2].T,
            np.array([[True], [False]]),
            np.array([np.nan, -0.0], np.float16),
        ],
        ids=["scalar", "empty", "strided", "bool", "half"],
    )
    def test_every_kind_of_array(self, array):
        got = freeze({"y": np.asarray(array)}).views()["y"]
        np.testing.assert_array_equal(got, array)
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert got.tobytes() == np.asarray(array).tobytes()


class TestWhoStays:
    def test_the_longest_unused_goes(self):
        cache = filled(3, b"1", b"2", b"3", b"4")
        assert there(cache, b"1", b"2", b"3", b"4") == b"234"
        assert (len(cache), cache.evicted) == (3, 1)

    def test_what_was_asked_for_again_outlives_any_number_of_others(self):
        cache = filled(5, b"1", b"2")
        assert cache.get(b"1", 0) is not None
        for key in range(100, 200):
            cache.put(A, bytes([key]), answer(key), 0)
        assert there(cache, b"1", b"2") == b"1"

    def test_the_protected_share_is_bounded(self):
        """Else what was asked for twice long ago would keep all that is new away for ever."""
        cache = filled(5, b"1", b"2", b"3", b"4", b"5")
        for key in (b"1", b"2", b"3", b"4", b"5"):
            assert cache.get(key, 0) is not None
        cache.put(A, b"6", answer(6), 0)
        assert there(cache, b"1", b"2", b"3", b"4", b"5", b"6") == b"23456"
        cache.put(A, b"7", answer(7), 0)
        assert there(cache, b"2", b"3", b"4", b"5", b"6", b"7") == b"23457"

    def test_one_that_is_larger_than_all_is_let_go_and_costs_nobody_the_place(self):
        cache = filled(3, b"1", b"2")
        cache.put(A, b"9", answer(9, 4096), 0)
        assert there(cache, b"1", b"2", b"9") == b"12"
        assert cache.evicted == 0

    def test_put_again_it_is_there_once(self):
        cache = filled(3, b"1")
        cache.get(b"1", 0)
        cache.put(A, b"1", answer(7), 5)
        assert cache.used == ONE
        assert cache.get(b"1", 5).views()["y"][0] == 7

    def test_time_to_live(self):
        for asked_before in (False, True):
            cache = filled(3, b"1", ttl_ns=100)
            if asked_before:
                cache.get(b"1", 50)
            assert cache.get(b"1", 99) is not None
            assert cache.get(b"1", 100) is None
            assert (len(cache), cache.used) == (0, 0)

    def test_less_room_from_now_on(self):
        cache = filled(5, b"1", b"2", b"3", b"4", b"5")
        cache.get(b"1", 0)
        cache.resize(2 * ONE, None)
        assert there(cache, b"1", b"2", b"3", b"4", b"5") == b"15"
        cache.resize(0, None)
        assert (len(cache), cache.used) == (0, 0)


class TestOwners:
    def test_what_one_gave_is_forgotten(self):
        cache = filled(5, b"1", b"2")
        cache.put(B, b"3", answer(3), 0)
        cache.get(b"1", 0)
        cache.drop(A)
        assert (there(cache, b"1", b"2", b"3"), cache.used) == (b"3", ONE)

    def test_a_sole_owner(self):
        cache = filled(5, b"1")
        cache.take_over(B)
        assert not len(cache)
        cache.put(A, b"1", answer(1), 0)
        cache.put(B, b"2", answer(2), 0)
        assert there(cache, b"1", b"2") == b"2", "what the old one still answers is not kept"


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("floats", [1, 1000])
def test_bytes_are_counted_truly(outputs: int, floats: int):
    """At least what Python takes for them, and not much more."""
    cache = ResponseCache(1 << 40)
    count = 2000
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            kept = freeze({f"y{i}": np.ones((1, floats), np.float32) for i in range(outputs)})
            cache.put(A, number.to_bytes(32, "little"), kept, number << 40)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) * 0.98 <= cache.used <= (after - before) * 1.35


class Machine(RuleBasedStateMachine):
    """Against a dictionary that forgets nothing: what is given is what was put, or nothing."""

    @initialize(room=st.integers(0, 6), ttl=st.sampled_from([None, 5]))
    def start(self, room: int, ttl: int | None) -> None:
        self.cache = ResponseCache(room * ONE, ttl)
        self.truth: dict[bytes, tuple[bytes, float, int]] = {}
        self.now = self.puts = 0

    @rule(key=st.integers(0, 9), owner=st.sampled_from([A, B]), count=st.sampled_from([4, 40]))
    def put(self, key: int, owner: bytes, count: int) -> None:
        self.puts += 1
        name = bytes([key]) + owner  # a digest has the owner in it
        self.cache.put(owner, name, answer(self.puts, count), self.now)
        self.truth[name] = (owner, self.puts, self.now)

    @rule(key=st.integers(0, 9), owner=st.sampled_from([A, B]))
    def get(self, key: int, owner: bytes) -> None:
        name = bytes([key]) + owner
        kept = self.cache.get(name, self.now)
        if kept is not None:
            _, number, at = self.truth[name]
            assert kept.views()["y"][0] == number
            assert self.cache.ttl_ns is None or self.now - at < self.cache.ttl_ns

    @rule(owner=st.sampled_from([A, B]))
    def drop(self, owner: bytes) -> None:
        self.cache.drop(owner)
        self.truth = {name: one for name, one in self.truth.items() if one[0] != owner}

    @rule(room=st.integers(0, 6), ttl=st.sampled_from([None, 5]))
    def resize(self, room: int, ttl: int | None) -> None:
        self.cache.resize(room * ONE, ttl)

    @rule(ns=st.integers(1, 4))
    def wait(self, ns: int) -> None:
        self.now += ns

    @invariant()
    def is_within_its_bounds(self) -> None:
        if not hasattr(self, "cache"):
            return
        cache = self.cache
        entries = [*cache._once.values(), *cache._again.values()]
        assert cache.used == sum(entry.kept.size for entry in entries) <= cache.size
        assert not cache._once.keys() & cache._again.keys()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
