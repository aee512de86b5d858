"""What every source shares: names matched, rows in chunks, dtypes without loss."""

import numpy as np
import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.samples import UNNAMED
from converters.sources.base import (
    CHUNK_ROWS,
    fit_dtype,
    match_inputs,
    name_outputs,
    run_in_rows,
    run_model,
)

ROWS = np.arange(2 * (CHUNK_ROWS + 5), dtype="f4").reshape(-1, 2)


def test_inputs_by_name_in_the_models_order_and_the_only_one_whatever_it_is_called():
    one, two = np.ones((2, 1)), np.zeros((2, 1))
    assert list(match_inputs({"b": two, "a": one}, ["a", "b"], "it")) == ["a", "b"]
    assert match_inputs({UNNAMED: one}, ["image"], "it")["image"] is one


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ({"a": ROWS, "c": ROWS}, "it takes the inputs a, b; the samples hold a, c"),
        ({UNNAMED: ROWS}, "the samples hold one unnamed array"),
        ({}, r"no --samples .* for it \(a, b\): it does not say its shapes"),
    ],
)
def test_names_that_do_not_match_are_both_listed(samples, words):
    with pytest.raises(ConversionError, match=words):
        match_inputs(samples, ["a", "b"], "it")


def test_many_rows_are_asked_in_chunks_and_come_back_in_order():
    asked = []

    def call(inputs):
        asked.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    np.testing.assert_array_equal(run_in_rows(call, {"x": ROWS}, "rows")["y"], ROWS * 2)
    assert asked == [CHUNK_ROWS, 5]
    run_in_rows(call, {"x": ROWS}, "none")
    assert asked[2:] == [len(ROWS)]


def test_an_output_without_a_row_axis_is_refused_by_name():
    with pytest.raises(UnsupportedModelError, match=r'output "y" has shape \[2\] for 64 rows'):
        run_in_rows(lambda inputs: {"y": inputs["x"].sum(axis=0)}, {"x": ROWS}, "rows")
    with pytest.raises(UnsupportedModelError, match=r'output "y" has shape \[\]'):
        run_in_rows(lambda inputs: {"y": np.float32(1)}, {"x": ROWS}, "rows")


def test_an_output_whose_width_depends_on_its_rows_is_refused():
    def call(inputs):
        return {"y": np.ones((len(inputs["x"]), len(inputs["x"])))}

    with pytest.raises(UnsupportedModelError, match="change their shape from rows to rows"):
        run_in_rows(call, {"x": ROWS}, "rows")


def test_a_framework_that_fails_is_told_with_the_shapes_and_a_refusal_stays_one():
    def fail(_inputs):
        raise RuntimeError("mat1 and mat2 cannot be multiplied")

    with pytest.raises(ConversionError, match=r"rows of x \[2\]\): MAT1 AND"):
        run_model(fail, {"x": ROWS}, "rows", lambda exc: str(exc).upper())

    def refuse(_inputs):
        raise UnsupportedModelError("not for devices")

    with pytest.raises(UnsupportedModelError, match=r"^not for devices$"):
        run_model(refuse, {"x": ROWS}, "rows", str)


def test_dtypes_lose_bits_and_never_values():
    np.testing.assert_array_equal(fit_dtype(np.array([1.0, 2.0]), "int64", "x"), [1, 2])
    assert fit_dtype(np.array([0.1]), "float32", "x").dtype == np.float32
    with pytest.raises(ConversionError, match='input "x" takes int64, the samples hold other'):
        fit_dtype(np.array([0.5]), "int64", "x")
    with pytest.raises(ConversionError, match="takes uint8"):
        fit_dtype(np.array([300]), "uint8", "x")


def test_outputs_without_names_are_counted():
    assert list(name_outputs([ROWS])) == ["output"]
    assert list(name_outputs([ROWS, ROWS])) == ["output_0", "output_1"]
    assert list(name_outputs([ROWS, ROWS], ["a", "b"])) == ["a", "b"]
