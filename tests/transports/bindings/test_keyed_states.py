"""What bindings remember: bounded, the idle go first, and what was kept is found again."""

from __future__ import annotations

from collections.abc import Callable

from edged.transports.bindings.keyed_states import KeyedStates, Shelf


class FakeKeeper:
    """Notes what it is given; reports at once."""

    def __init__(self) -> None:
        self.disk: dict[bytes, bytes] = {}

    def put(self, key: bytes, state: bytes, on_kept: Callable[[], None] | None = None) -> None:
        self.disk[key] = state
        if on_kept is not None:
            on_kept()


def made(
    keeper: FakeKeeper | None = None, restored: dict[bytes, bytes] | None = None
) -> KeyedStates:
    states = KeyedStates()
    if keeper is not None:
        states.adopt(keeper, restored or {})
    return states


def shelf(
    states: KeyedStates, *, max_keys: int = 3, max_bytes: int = 0, is_kept: bool = True
) -> Shelf[str]:
    return states.shelf("b", max_keys=max_keys, max_bytes=max_bytes, is_kept=is_kept)


def put(on: Shelf[str], key: str, state: str, kept: list[str] | None = None) -> None:
    done = None if kept is None else lambda: kept.append(key)
    on.put(key, state, len(state), state.encode(), done)


class Fresh:
    """What is not old is ours."""

    def fits(self, state: str) -> bool:
        return state != "old"

    def unpack(self, data: bytes) -> str | None:
        return data.decode() if data != b"old" else None


def get(on: Shelf[str], key: str) -> str | None:
    return on.get(key, Fresh())


def test_a_state_is_exchanged_and_kept() -> None:
    keeper, kept = FakeKeeper(), []
    on = shelf(made(keeper))
    assert get(on, "k") is None
    put(on, "k", "1", kept)
    put(on, "k", "22", kept)
    assert get(on, "k") == "22"
    assert kept == ["k", "k"]
    assert keeper.disk == {b"b\0k": b"22"}
    assert on.stats() == {"keys": 1, "bytes": 2, "evicted": 0, "broken": 0, "stale": 0}
    put(on, "k", "old")
    assert get(on, "k") is None
    assert on.stats() == {"keys": 0, "bytes": 0, "evicted": 0, "broken": 0, "stale": 1}


def test_in_memory_alone_it_is_safe_at_once() -> None:
    keeper, kept = FakeKeeper(), []
    put(shelf(made(keeper), is_kept=False), "k", "1", kept)
    put(shelf(made()), "k", "1", kept)
    assert kept == ["k", "k"]
    assert keeper.disk == {}


def test_the_idle_go_first() -> None:
    keeper = FakeKeeper()
    on = shelf(made(keeper))
    for key in "abcabd":
        put(on, key, "1")
    assert [get(on, key) for key in "abcd"] == ["1", "1", None, "1"]
    assert (on.evicted, keeper.disk[b"b\0c"]) == (1, b"")
    on = shelf(made(), max_keys=100, max_bytes=10)
    for key in "abc":
        put(on, key, "1234")
    assert [get(on, key) for key in "abc"] == [None, "1234", "1234"]
    put(on, "large", "x" * 50)
    assert get(on, "large") == "x" * 50, "at least the one at hand"
    assert on.stats()["keys"] == 1


def test_what_an_earlier_process_kept() -> None:
    keeper = FakeKeeper()
    states = made(keeper, {b"b\0k": b"1", b"b\0x": b"old", b"gone\0k": b"1", b"b\0a/b": b"2"})
    on = shelf(states)
    assert (get(on, "k"), get(on, "a/b"), get(on, "x")) == ("1", "2", None)
    assert get(on, "k") == "1", "who asked first gave up"
    assert on.stale == 1
    states.only({"b"})
    assert keeper.disk == {b"gone\0k": b""}
    put(on, "k", "3")
    states.only(set())
    assert keeper.disk[b"b\0k"] == b""
    assert states.stats() == {}


def test_more_were_kept_than_may_be_now() -> None:
    keeper = FakeKeeper()
    on = shelf(made(keeper, {b"b\0%d" % n: b"1" for n in range(5)}))
    put(on, "new", "1")
    assert on.stats()["keys"] == 3
    assert keeper.disk[b"b\0" + b"0"] == b""


def test_a_keeper_that_comes_later_serves_shelves_that_are_there() -> None:
    keeper, states = FakeKeeper(), made()
    on = shelf(states)
    states.adopt(keeper, {})
    put(on, "k", "1")
    assert keeper.disk == {b"b\0k": b"1"}
