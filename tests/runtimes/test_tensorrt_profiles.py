"""Profiles: the narrowest that fits, and batches cut to what there is."""

from __future__ import annotations

import pytest

from edged.runtimes.engine import Io
from edged.runtimes.tensorrt_profiles import Part, choose_profile, parts_of, profiles_of

X = Io("x", "float32", True, (-1, 4), ((1, 4), (4, 4), (8, 4)), (((1, 4),) * 3, ((8, 4),) * 3))
FIXED = Io("z", "float32", True, (2, 2))
Y = Io("y", "float32", False, (-1, 4))


def test_an_engine_has_those_of_its_inputs():
    assert [one.ends for one in profiles_of([X, FIXED, Y])] == [
        {"x": ((1, 4), (8, 4)), "z": ((2, 2), (2, 2))},
        {"x": ((1, 4), (1, 4)), "z": ((2, 2), (2, 2))},
        {"x": ((8, 4), (8, 4)), "z": ((2, 2), (2, 2))},
    ]
    (only,) = profiles_of([FIXED])
    assert only.holds({"z": (2, 2)})
    assert not only.holds({"z": (2, 3)})


@pytest.mark.parametrize(
    ("shape", "number"),
    [((1, 4), 1), ((2, 4), 0), ((8, 4), 2), ((9, 4), None), ((0, 4), None), ((4,), None)],
)
def test_the_narrowest_that_holds(shape: tuple[int, ...], number: int | None):
    found = choose_profile(profiles_of([X, Y]), {"x": shape})
    assert (None if found is None else found.number) == number


@pytest.mark.parametrize(
    ("rows", "ends", "parts"),
    [
        (1, [(1, 8)], [(1, 1)]),
        (8, [(1, 8)], [(8, 8)]),
        (19, [(1, 8)], [(8, 8), (8, 8), (3, 3)]),
        (3, [(4, 4)], [(3, 4)]),
        (9, [(4, 4)], [(4, 4), (4, 4), (1, 4)]),
        (3, [(1, 1), (4, 4), (8, 8)], [(3, 4)]),
        (1, [(4, 8), (1, 1)], [(1, 1)]),
    ],
)
def test_parts(rows: int, ends: list[tuple[int, int]], parts: list[tuple[int, int]]):
    assert parts_of(rows, ends) == [Part(*each) for each in parts]
