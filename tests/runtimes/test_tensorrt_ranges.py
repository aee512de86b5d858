"""The shapes that an engine is built for."""

from __future__ import annotations

from typing import Any

import pytest

from edged.errors import LoadError
from edged.runtimes.engine import BuildOptions
from edged.runtimes.tensorrt_ranges import ranges_of
from edged.tensors import TensorSpec

X = TensorSpec("x", "float32", ("batch", 4))
TEXT = TensorSpec("t", "int64", ("batch", "time"))
ALONE = TensorSpec("a", "float32", ("time",))


def ranges(*specs: TensorSpec, **options: Any) -> list[dict[str, Any]]:
    shapes = {
        spec.name: tuple(n if isinstance(n, int) else -1 for n in spec.shape) for spec in specs
    }
    return ranges_of('model "m"', {s.name: s for s in specs}, shapes, BuildOptions(**options))


def test_nothing_free_needs_no_profile():
    assert ranges(TensorSpec("x", "float32", (1, 4))) == []


def test_rows_from_one_to_the_most():
    assert ranges(X, usual_batch=3) == [{"x": ((1, 4), (3, 4), (8, 4))}]


def test_exact_numbers_have_a_profile_of_their_own():
    found = ranges(X, TEXT, axes={"time": (1, 8, 64)}, exact=(1, 4, 1))
    assert [one["x"][0][0] for one in found] == [1, 1, 4]
    assert [one["x"][2][0] for one in found] == [8, 1, 4]
    assert found[2]["t"] == ((4, 1), (4, 8), (4, 64))


def test_exact_rows_of_what_has_no_rows():
    assert len(ranges(ALONE, axes={"time": (1, 2, 3)}, exact=(1,))) == 1


def test_an_accelerator_takes_one_shape():
    assert ranges(X, dla=0, max_batch=2, exact=(1,)) == [{"x": ((2, 4),) * 3}]
    with pytest.raises(LoadError, match=r'axis "time" .* does not take: give it one length'):
        ranges(TEXT, dla=0, axes={"time": (1, 8, 64)})
    assert ranges(TEXT, dla=1, max_batch=1, axes={"time": (9, 9, 9)}) == [{"t": ((1, 9),) * 3}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r'"time" of input "t" is free; .* axes: \{time: \[1, 8, 64\]\}'),
        ({"exact": (9,)}, "exactly 9 rows does not lie in 1 to max_batch, which is 8"),
        ({"exact": (0,)}, "exactly 0 rows"),
    ],
)
def test_what_is_missing_or_wrong(options: Any, words: str):
    with pytest.raises(LoadError, match=words):
        ranges(TEXT, **options)


def test_another_rank_than_promised():
    with pytest.raises(LoadError, match=r'input "x" is \(-1,\); promised is float32\[batch,4\]'):
        ranges_of('model "m"', {"x": X}, {"x": (-1,)}, BuildOptions())
