import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ConversionError
from converters.precision import ranges
from converters.precision.ranges import measure_ranges, typed


def scaled(factor=2.0):
    """``y = relu(x * factor)``, with the product as an inner value."""
    made = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array(factor, "f4"), "k")],
    )
    opset = [helper.make_opsetid("", 18)]
    return typed(helper.make_model(made, opset_imports=opset, ir_version=9))


def chunks_of(rows, seen=None):
    def chunks(size):
        for start in range(0, len(rows), size):
            if seen is not None:
                seen.append(size)
            yield {"x": rows[start : start + size]}

    return chunks


ROWS = np.random.default_rng(0).normal(size=(3000, 3)).astype("f4")


def test_the_whole_range_of_inputs_inner_values_and_outputs():
    found = measure_ranges(scaled(), chunks_of(ROWS))
    assert set(found) == {"x", "m", "y"}
    assert (found["x"].low, found["x"].high) == (ROWS.min(), ROWS.max())
    assert (found["m"].low, found["m"].high) == (2 * ROWS.min(), 2 * ROWS.max())
    assert (found["y"].low, found["y"].high) == (0, 2 * ROWS.max())


def test_percentiles_cut_what_is_rare_and_nothing_else():
    """Of 30000 values one and a half lie beyond either end."""
    rows = np.random.default_rng(1).normal(size=(10_000, 3)).astype("f4")
    rows[7, 1] = 50
    assert measure_ranges(scaled(), chunks_of(rows))["x"].high == 50
    cut = measure_ranges(scaled(), chunks_of(rows), "percentile")
    order = np.sort(rows, axis=None)
    width = (50 - order[0]) / ranges.BINS
    assert order[0] <= cut["x"].low <= order[2]
    assert order[-4] < cut["x"].high <= order[-2] + width
    assert cut["y"].low == 0
    assert cut["y"].high < 2 * order[-2] + 2 * width


def test_no_run_takes_more_rows_than_the_limits_allow(monkeypatch):
    seen = []
    measure_ranges(scaled(), chunks_of(ROWS[:40], seen))
    assert max(seen) == ranges.CHUNK_ROWS
    seen.clear()
    monkeypatch.setattr(ranges, "MEMORY_BYTES", 3 * 3 * 4 * 2)  # two rows of three values
    measure_ranges(scaled(), chunks_of(ROWS[:40], seen), "percentile")
    assert seen.count(2) == 20


def test_a_value_that_overflows_is_refused():
    with pytest.raises(ConversionError, match=r'inner value "m" is not finite.*overflows'):
        measure_ranges(scaled(3e38), chunks_of(ROWS * 10))


def test_one_constant_column_has_a_range_of_one_point():
    rows = np.ones((20, 3), "f4")
    found = measure_ranges(scaled(), chunks_of(rows), "percentile")
    assert (found["m"].low, found["m"].high) == (2, 2)
