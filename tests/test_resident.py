"""Tensors on a device: they pass for arrays, and come to the host only when they are looked at."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from edged.resident import Keeping, Resident, is_away, joined, on_host, place_of


class Memory:
    """A tensor on a device; counts who reads it."""

    pointer = 1000

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.reads = 0

    def read(self) -> np.ndarray:
        self.reads += 1
        return self.array


ROWS = np.arange(24, dtype="f4").reshape(4, 3, 2)


@pytest.fixture
def memory() -> Memory:
    return Memory(ROWS)


@pytest.fixture
def whole(memory: Memory) -> Resident:
    return Resident(memory, "cuda:0", ROWS.dtype, ROWS.shape)


def test_it_tells_what_an_array_tells(whole: Resident, memory: Memory):
    assert (whole.shape, whole.ndim, whole.nbytes) == (ROWS.shape, ROWS.ndim, ROWS.nbytes)
    assert whole.dtype == np.float32
    assert len(whole) == 4
    assert whole.pointer == 1000
    assert not memory.reads


@pytest.mark.parametrize("rows", [slice(1, 3), slice(None), slice(3, 9), slice(2, 2), slice(-1, 4)])
def test_rows_of_it(whole: Resident, memory: Memory, rows: slice):
    part = whole[rows]
    assert part.shape == ROWS[rows].shape
    start = rows.indices(4)[0]
    assert part.pointer == 1000 + start * 24
    assert not memory.reads
    np.testing.assert_array_equal(np.asarray(part), ROWS[rows])
    assert memory.reads == 1


def test_one_row_and_one_after_the_other(whole: Resident):
    np.testing.assert_array_equal(np.asarray(whole[-1]), ROWS[-1])
    for got, wanted in zip(whole.reshape(4, 1, 3, 2), ROWS.reshape(4, 1, 3, 2), strict=True):
        np.testing.assert_array_equal(np.asarray(got), wanted)


@pytest.mark.parametrize("rows", [4, -5, slice(None, None, 2), slice(None, None, -1)])
def test_what_is_not_in_order_is_refused(whole: Resident, rows: int | slice):
    with pytest.raises(IndexError, match="of 4"):
        whole[rows]


def test_another_number_of_elements_is_refused(whole: Resident):
    with pytest.raises(ValueError, match="does not become"):
        whole.reshape(5, 5)


def test_a_copy_is_the_only_way_to_the_host(whole: Resident):
    with pytest.raises(ValueError, match="lies on a device"):
        whole.__array__(copy=False)
    assert np.asarray(whole, "f8").dtype == np.float64
    assert not np.shares_memory(np.asarray(whole[1:2]), ROWS)


class TestJoined:
    def test_neighbours_are_joined_where_they_lie(self, whole: Resident, memory: Memory):
        got = np.concatenate([whole[0:1], whole[1:3], whole[3:4]])
        assert type(got) is Resident
        assert (got.shape, got.pointer) == (ROWS.shape, 1000)
        later = joined([whole[2:3], whole[3:4]])
        assert later is not None
        assert (later.shape, later.pointer) == ((2, 3, 2), 1000 + 48)
        assert not memory.reads
        np.testing.assert_array_equal(np.asarray(later), ROWS[2:])

    def test_of_others_the_host_gets_the_numbers(self, whole: Resident):
        other = Resident(Memory(ROWS + 100), "cuda:0", ROWS.dtype, ROWS.shape)
        for parts in (
            [whole[1:2], whole[0:1]],
            [whole[0:1], whole[2:3]],
            [whole[0:2], other[2:4]],
            [whole[0:1], ROWS[1:2]],
            [ROWS[0:1], whole[1:2]],
        ):
            got = np.concatenate(parts)
            assert type(got) is np.ndarray
            wanted = np.concatenate([np.asarray(part) for part in parts])
            np.testing.assert_array_equal(got, wanted)

    def test_whatever_else_numpy_does_happens_on_the_host(self, whole: Resident):
        room = np.zeros_like(ROWS)
        np.copyto(room, whole)
        np.testing.assert_array_equal(room, ROWS)
        assert np.concatenate([whole, whole], axis=1).shape == (4, 6, 2)


def test_the_memory_stays_while_any_rows_of_it_do():
    memory = Memory(ROWS)
    gone = weakref.ref(memory)
    part = Resident(memory, "cuda:0", ROWS.dtype, ROWS.shape)[2:3]
    del memory
    gc.collect()
    assert gone() is not None
    np.testing.assert_array_equal(np.asarray(part), ROWS[2:3])
    del part
    assert gone() is None


class TestKeeping:
    def test_a_batch_keeps_what_everybody_in_it_keeps(self):
        a, b = Keeping({"x": ROWS}, frozenset("y")), Keeping({"x": ROWS}, frozenset("y"))
        made = {"x": ROWS}
        got = a.stacked(made, [a, b])
        assert type(got) is Keeping
        assert got.names == {"y"}
        assert a.stacked(made, [a, {"x": ROWS}]) is made
        assert a.stacked(made, [a, Keeping({"x": ROWS}, frozenset("z"))]) is made

    def test_to_the_host(self, whole: Resident):
        tensors = {"a": ROWS, "b": whole}
        assert is_away(tensors)
        got = on_host(tensors)
        assert not is_away(got)
        assert got["a"] is ROWS
        np.testing.assert_array_equal(got["b"], ROWS)


def test_the_place_of_a_session():
    assert place_of(type("Session", (), {"place": "cuda:0"})()) == "cuda:0"
    assert place_of(object()) == place_of(None) == ""
