"""Windows, another order of axes, another shape: what is foretold is what is made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.shapes import EachConfig, ReshapeConfig, TransposeConfig, WindowsConfig
from edged.errors import FieldError
from edged.pipelines.shapes import each_work, reshape_work, transpose_work, windows_work
from edged.pipelines.step import Work
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import ask


def spec_of(*shape: int | str) -> TensorSpec:
    return TensorSpec("from", "float32", shape)


def foretold(work: Work, *shape: int | str) -> tuple[int | str, ...]:
    (spec,) = work.outputs({"from": spec_of(*shape)})
    assert spec.dtype == "float32"
    return spec.shape


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 12), st.integers(0, 2), st.booleans())
@settings(max_examples=150, deadline=None)
def test_windows(length: int, size: int, step: int, axis: int, pad: bool):
    shape = [2, 3]
    shape.insert(axis, length)
    work = windows_work(WindowsConfig(from_="x", size=size, step=step, axis=axis, pad=pad))
    array = numbers(*shape)
    if length < size and not pad:
        with pytest.raises(FieldError, match=f"has {length} entries"):
            foretold(work, *shape)
        with pytest.raises(ValueError, match=f"less than a window of {size}"):
            work.run({"from": array})
        return
    got = work.run({"from": array})["value"]
    assert got.shape == foretold(work, *shape)
    shape[axis] = "n"
    assert foretold(work, *shape)[axis] == "*windows"
    line, windows = np.moveaxis(array, axis, 0), np.moveaxis(got, (axis, axis + 1), (0, 1))
    for index, window in enumerate(windows):
        start = index * (step or size)
        part = line[start : start + size]
        assert len(part), "a window of nothing but zeros"
        np.testing.assert_array_equal(window[: len(part)], part)
        assert not window[len(part) :].any()
    after = len(windows) * (step or size)
    left_out = len(line) - after + (step or size) - size  # behind the last window
    assert left_out < (step or size)
    if pad and (step or size) <= size:
        assert left_out <= 0


def test_no_entries_make_a_padded_window():
    work = windows_work(WindowsConfig(from_="x", size=3, pad=True))
    assert work.run({"from": numbers(0, 2)})["value"].tolist() == [[[0, 0]] * 3]


def test_transpose():
    work = transpose_work(TransposeConfig(from_="x", axes=(0, -1, 1)))
    assert foretold(work, "n", 84, 8400) == ("n", 8400, 84)
    array = numbers(1, 2, 3)
    np.testing.assert_array_equal(work.run({"from": array})["value"], array.transpose(0, 2, 1))
    for axes in [(0,), (0, 1, 1), (0, 1, 3)]:
        with pytest.raises(FieldError, match="axes 0 to 2; name each once"):
            foretold(transpose_work(TransposeConfig(from_="x", axes=axes)), 1, 2, 3)


@pytest.mark.parametrize(
    ("shape", "given_", "made"),
    [
        ((-1, 96), ("n", 1, 1, 96), ("n", 96)),
        ((-1, 76, 32, 1), ("n", 76, 32), ("n", 76, 32, 1)),
        ((2, -1), ("n", 96), (2, "*rest")),
        ((-1,), ("n", "m"), ("*rest",)),
        ((3, -1), (6, 5), (3, 10)),
        ((30,), (6, 5), (30,)),
        ((), (1, 1), ()),
    ],
)
def test_reshape(shape, given_, made):
    work = reshape_work(ReshapeConfig(from_="x", shape=shape))
    assert foretold(work, *given_) == made
    array = numbers(*(4 if isinstance(axis, str) else axis for axis in given_))
    got = work.run({"from": array})["value"]
    np.testing.assert_array_equal(got.ravel(), array.ravel())
    assert all(isinstance(a, str) or a == b for a, b in zip(made, got.shape, strict=True))


def test_reshape_that_cannot_be():
    for shape in [(-1, -1), (0, -1)]:
        with pytest.raises(FieldError, match="one may be -1"):
            reshape_work(ReshapeConfig(from_="x", shape=shape))
    with pytest.raises(FieldError, match="is not known; use -1"):
        foretold(reshape_work(ReshapeConfig(from_="x", shape=(4,))), "n")
    for shape in [(7, -1), (31,), (15,)]:
        with pytest.raises(FieldError, match="has 30 entries"):
            foretold(reshape_work(ReshapeConfig(from_="x", shape=shape)), 6, 5)
    work = reshape_work(ReshapeConfig(from_="x", shape=(2, -1)))
    with pytest.raises(ValueError, match="3 entries are no multiple of 2"):
        work.run({"from": numbers(3)})
    assert work.run({"from": numbers(0)})["value"].shape == (2, 0)


def test_each():
    work = each_work(EachConfig(from_="x"))
    assert (work.mode, foretold(work, "n", 4)) == ("spread", (1, 4))
    array = numbers(3, 4)
    assert work.count is not None
    assert work.count({"from": array}) == 3
    items = work.run({"from": array})["value"]
    assert [item.shape for item in items] == [(1, 4)] * 3
    np.testing.assert_array_equal(np.concatenate(items), array)
    assert work.run({"from": numbers(0, 4)})["value"] == []
    with pytest.raises(FieldError, match="has no rows"):
        foretold(work)


EACH = """\
    inputs: {x: "float32[n]"}
    steps:
    - {name: cut, windows: {from: x, size: 4, step: 2}}
    - {name: row, each: {from: cut}}
    - {name: one, model: one, inputs: row}
    - {name: all, gather: {from: one}}
    outputs: {y: all}
"""


@on_loop
async def test_a_model_that_takes_one_row_is_asked_for_each():
    one = model(inputs=[("x", "float32", (1, 4))], outputs=[("y", "float32", (1, 4))])
    site = Site(EACH, one=one)
    values = numbers(14)
    answers, _ = ask(site, {"x": values})
    await until(lambda: answers)
    windows = [values[start : start + 4] for start in range(0, 11, 2)]
    np.testing.assert_array_equal(answers.only.outputs["y"], np.array(windows) * 2)
    assert site.sessions["one"].runs == [1] * 6
